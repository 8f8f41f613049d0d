"""The cases of make_template_fixtures.py: conversations for real templates, small templates that walk through the language, and
templates made at random."""


def conversations():
    """Names and variables."""
    weather = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city, \"now\" or later <in °C>.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city's name"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                    "days": {"type": ["integer", "null"], "minimum": 0, "maximum": 7.5},
                    "places": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"x": {"type": "number"}}},
                    },
                    "any": {"anyOf": [{"type": "string"}, {"type": "integer"}], "nullable": True},
                },
                "required": ["city"],
            },
            "return": {"type": "string"},
        },
    }
    empty = {
        "type": "function",
        "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
    }
    system = {"role": "system", "content": "  You are Ünïcode 世界 🌍 & <polite>.\n"}
    user = {"role": "user", "content": "Hello, 'world'!\n\n  Two  spaces. "}
    answer = {"role": "assistant", "content": "Hi there."}
    thinking = {"role": "assistant", "content": "<think>\nHm, 1 < 2.\n</think>\n\nFour."}
    reasoning = {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two.\n"}
    again = {"role": "user", "content": "And 2 + 2?"}
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "First part."}, {"type": "text", "text": " Second."}],
    }
    image = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}

    def call(arguments, identifier="abcdefghi", content="", name="get_weather"):
        function = {"name": name, "arguments": arguments}
        calls = [{"type": "function", "id": identifier, "function": function}]
        return {"role": "assistant", "content": content, "tool_calls": calls}

    as_object = call({"city": "Zürich", "days": 2, "flag": True, "none": None, "x": 1.5, "l": [1, "a"]})
    as_text = call('{"city": "Paris", "unit": "celsius"}')
    without_content = {**as_object, "content": None}
    two = {
        "role": "assistant",
        "content": "Both.",
        "tool_calls": [
            {"type": "function", "id": "call00001", "function": {"name": "now", "arguments": {}}},
            {"type": "function", "id": "call00002", "function": {"name": "get_weather", "arguments": {"city": "A"}}},
        ],
    }
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": '{"sky": "blue"}'}
    result_parts = {**result, "content": [{"type": "text", "text": "blue"}]}
    results = [
        {"role": "tool", "name": "now", "tool_call_id": "call00001", "content": "12:00"},
        {"role": "tool", "name": "get_weather", "tool_call_id": "call00002", "content": "rain"},
    ]
    chats = {
        "user": [user],
        "system": [system, user],
        "turns": [user, answer, again],
        "system and turns": [system, user, answer, again, reasoning, user],
        "answered": [system, user, answer],
        "thinking": [user, thinking, again],
        "reasoning": [user, reasoning, again],
        "reasoning last": [user, reasoning],
        "parts": [system, parts],
        "system parts": [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, user],
        "image": [image],
        "developer": [{"role": "developer", "content": "Rules."}, user],
        "call": [user, as_object],
        "call of text": [user, as_text, result, answer],
        "call and result": [system, user, as_object, result],
        "call without content": [user, without_content, result, again],
        "call and parts": [user, as_object, result_parts],
        "two calls": [user, two, *results],
        "call, result, answer": [system, user, as_object, result, reasoning, again],
        "reasoned call": [user, {**as_object, "reasoning_content": "I need a tool."}, result],
        "two users": [user, user],
        "assistant first": [answer, user],
        "wrong role": [{"role": "wizard", "content": "Abracadabra"}],
        "none": [],
        "no content": [{"role": "user"}],
        "null content": [{"role": "user", "content": None}],
    }
    flags = {
        "": {"add_generation_prompt": True},
        "no prompt": {"add_generation_prompt": False},
        "thinking": {"add_generation_prompt": True, "enable_thinking": True},
        "no thinking": {"add_generation_prompt": True, "enable_thinking": False, "reasoning_effort": "high"},
        "date": {
            "add_generation_prompt": True,
            "date_string": "26 Jul 2024",
            "documents": [{"title": "One", "text": "Text of it."}],
            "keep_past_thinking": True,
            "clear_thinking": False,
            "preserve_thinking": True,
            "model_identity": "You are nobody.",
        },
    }
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    for chat, messages in chats.items():
        for flag, extra in flags.items():
            yield f"{chat}; {flag}", {"messages": messages, "tools": None, **tokens, **extra}
        for name, tools in {"tool": [weather], "tools": [weather, empty], "bare": [weather["function"]]}.items():
            variables = {"messages": messages, "tools": tools, "add_generation_prompt": True, **tokens}
            yield f"{chat}; {name}", variables
    yield "undeclared", {"messages": [user]}


def language():
    """Names, templates and variables; names of templates that raise begin with 'error'."""
    variables = {
        "a": 7,
        "b": -3,
        "f": 2.5,
        "s": "Hello Wörld",
        "t": " x\ty ",
        "none": None,
        "yes": True,
        "l": [3, 1, 2],
        "d": {"b": 2, "a": 1, "items": "mine", "get": "not it"},
        "words": ["pear", "Apple", "fig"],
        "people": [
            {"name": "Ann", "age": 30, "home": {"city": "Oslo"}},
            {"name": "bob", "age": 25, "home": {"city": "Rome"}},
            {"name": "Cy", "age": 30, "home": {"city": "Oslo"}},
        ],
        "tree": [{"n": 1, "c": [{"n": 2, "c": []}, {"n": 3, "c": [{"n": 4, "c": []}]}]}],
    }
    for name, template in LANGUAGE:
        yield name, template, variables


# One line each: what it shows, and the template.
LANGUAGE = [
    ("text", "plain\ntext\n"),
    ("one line feed at the end goes", "x\n\n"),
    ("line ends", "a\r\nb\rc\n"),
    ("comments", "a{# one #}b\n  {# two\nlines #}\nc{#- three -#} d"),
    ("trim_blocks", "{% if yes %}\nx\n{% endif %}\n\ny"),
    ("lstrip_blocks", "a\n   {% if yes %}  b\n  {% endif %}  c\n\t{{ a }}"),
    ("minus", "a  {%- if yes -%}  b  {%- endif -%}  c {{- a -}} d"),
    ("plus", "a\n  {%+ if yes +%}\nb{% endif +%}\nc"),
    ("plus of a variable", "{{+ a }} {{+a}}"),
    ("raw", "{% raw %}{{ x }}{% if %}{% endraw %}"),
    ("raw and white space", "a\n  {%- raw -%}  {{ x }}  {%- endraw -%}  b {% raw %}\n{{ y }}\n  {% endraw %}\nc"),
    ("literals", "{{ 1 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1.5 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 'a' 'b' }}"),
    ("names of literals", "{{ true }} {{ True }} {{ false }} {{ none }} {{ None }}"),
    ("escapes", r"""{{ 'a\n\t\\\'\x41\u00e9\U0001F600\101\q' }} {{ "it's" }}"""),
    ("containers", "{{ [1, 'a', none] }} {{ (1,) }} {{ () }} {{ (1, 2) }} {{ {'a': 1, 2: [3.0]} }} {{ {} }}"),
    ("arithmetic", "{{ a + b }} {{ a - b }} {{ a * b }} {{ a / b }} {{ a // b }} {{ a % b }} {{ 2 ** 10 }} {{ 2 ** -1 }}"),
    ("floor and sign", "{{ -7 // 2 }} {{ -7 % 2 }} {{ 7 % -2 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }} {{ 7.5 % -2 }}"),
    ("precedence", "{{ 1 + 2 * 3 ** 2 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ '1' + 2 ~ 3 }} {{ not 1 == 2 }}"),
    ("filters bind tighter than signs", "{{ -3|abs }} {{ 1 + -3|abs }} {{ 'a' ~ 'b'|upper }}"),
    ("comparison", "{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}"),
    ("membership", "{{ 1 in l }} {{ 'ell' in s }} {{ 'x' not in d }} {{ 'a' in d }} {{ 3 in range(5) }}"),
    ("logic", "{{ 0 or 'x' }} {{ '' and 1 }} {{ not none }} {{ 1 and 2 or 3 }}"),
    ("inline if", "{{ 'a' if yes }}{{ 'b' if none }}|{{ 'c' if none else 'd' if yes else 'e' }}"),
    ("concatenation", "{{ 1 ~ none ~ true ~ 1.0 ~ [1] ~ 'x' }}"),
    ("strings times", "{{ 'ab' * 3 }} {{ 2 * [1] }} {{ 'a' + 'b' }} {{ (1,) + (2,) }} {{ 'a' * -1 }}"),
    ("indices", "{{ l[0] }} {{ l[-1] }} {{ l[9] }} {{ s[1] }} {{ s[-4] }} {{ d['a'] }} {{ d.b }} {{ l.0 }} {{ people[0].home.city }}"),
    ("slices", "{{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ s[::2] }} {{ s[-3:] }} {{ s[5:1:-2] }} {{ (1, 2, 3)[:2] }} {{ range(9)[2:8:3] }}"),
    ("attributes before entries", "{{ d['items'] }} {{ d.items() }} {{ d.get('a') }} {{ d['get'] }} {{ d['keys']() }}"),
    ("undefined", "[{{ x }}] [{{ d.x }}] [{{ x|default('y') }}] {{ x is defined }} {{ x == y }} {{ x|length }} {{ x|list }}"),
    ("printed values", "{{ [true, none, 1.0, 'a\\'b', \"q\\\"\", 'é\\n'] }} {{ {'k': (1,)} }} {{ 1e16 }} {{ 1e-5 }} {{ 123456789.123 }}"),
    ("if", "{% if none %}a{% elif 0 %}b{% elif yes %}c{% else %}d{% endif %}"),
    ("for", "{% for x in l %}{{ x }},{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}"),
    ("for over pairs", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a ~ b ~ c }}{% endfor %}"),
    ("for with a test", "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}"),
    ("loop", "{% for x in 'abc' %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('x', 'y') }}{{ loop.changed(x == 'c') }} {% endfor %}"),
    ("loop of a generator", "{% for x in l|map('string') %}{{ loop.last }}{{ loop.length }}{{ x }}{% endfor %}"),
    ("nested loops", "{% for x in l %}{% for y in l %}{{ loop.index * x }}{% endfor %}{{ loop.index }} {% endfor %}"),
    ("recursive", "{% for x in tree recursive %}{{ loop.depth }}{{ x.n }}[{{ loop(x.c) }}]{% endfor %}"),
    ("break and continue", "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% elif x > 4 %}{% break %}{% endif %}{{ x }}{% else %}no{% endfor %}"),
    ("break at once runs else", "{% for x in l %}{% break %}{% else %}else{% endfor %}"),
    ("scopes of loops", "{% set x = 1 %}{% for y in l %}{% set x = x + y %}{{ x }}{% endfor %}{{ x }}"),
    ("namespace", "{% set ns = namespace(n=0, d={'a': 1}) %}{% for x in l %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }} {{ ns.d.a }} {{ ns.x is defined }} {{ ns }}"),
    ("set", "{% set x, y = 1, [2] %}{{ x }}{{ y }}{% set z = 1, 2 %}{{ z }}{% set (p, q) = 'ab' %}{{ q }}{{ p }}"),
    ("block set", "{% set x %}a {{ a }}{% endset %}[{{ x }}]{% set y | upper | replace('A', 'B') %}a {{ a }}{% endset %}[{{ y }}]"),
    ("set in if", "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}{% if none %}{% set a = 0 %}{% endif %}{{ a }}"),
    ("a name set later has no value before", "{% for i in l %}{{ s }}{% endfor %}{% set s = 1 %}{{ s }}"),
    ("with", "{% with x = 1, y = a %}{{ x }}{{ y }}{% set a = 0 %}{% endwith %}{{ a }}{{ x }}"),
    ("filter block", "{% filter upper | trim %} a {{ s }} {% endfilter %}"),
    ("macro", "{% macro m(x, y=2, z=y) %}{{ x }}{{ y }}{{ z }};{% endmacro %}{{ m(1) }}{{ m(1, z=3) }}{{ m(y=0, x=9) }}{{ m() }}"),
    ("varargs", "{% macro m(x) %}{{ x }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}{{ m(*[1, 2], **{'q': 1}) }}"),
    ("macro sees what is around it", "{% set v = 1 %}{% macro m() %}{{ v }}{{ a }}{% endmacro %}{% set v = 2 %}{{ m() }}{{ m.name }}{{ m.arguments }}"),
    ("macro and itself", "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}"),
    ("call", "{% macro m(x) %}<{{ caller(x) }}|{{ caller(2) }}>{% endmacro %}{% call(y) m(1) %}{{ y }}{{ a }}{% endcall %}"),
    ("generation", "{% for m in l %}{% generation %}{{ m }}{% set a = 0 %}{% endgeneration %}{{ a }}{% endfor %}"),
    ("block", "{% set x = 1 %}{% block b %}{{ x }}{{ a }}{% endblock %}{{ self.b() }}"),
    ("print", "{% print a, s %}"),
    ("autoescape off", "{% autoescape false %}{{ '<' }}{% endautoescape %}"),
    ("functions", "{{ range(3)|list }} {{ range(5, 0, -2)|list }} {{ dict(a=1, **{'b': 2}) }} {{ dict([(1, 2)]) }} {{ range(3) }}"),
    ("cycler and joiner", "{% set c = cycler('a', 'b') %}{% set j = joiner('-') %}{% for x in l %}{{ j() }}{{ c.next() }}{% endfor %}{{ c.current }}"),
    ("strftime_now", "{{ strftime_now('%Y') }} {{ strftime_now('%d %b %Y, %H:%M:%S.%f %A %j %% %-d') }}"),
    ("tojson", "{{ d|tojson }} {{ [1, 1.0, 'é<>&\"', none, true, (1,)]|tojson }} {{ {1: 2, none: 3}|tojson }} {{ 'é😀'|tojson(ensure_ascii=true) }}"),
    ("tojson with indent", "{{ people|tojson(indent=2) }} {{ [[], {}]|tojson(indent='\\t') }} {{ d|tojson(sort_keys=true, separators=(',', ':')) }}"),
    ("safe", "{{ '<a>'|safe + '<b>' }} {{ '<a>' + '<b>'|safe }} {{ '<'|e }} {{ '<'|e|e }} {{ '<'|safe|forceescape }} {{ ('<'|safe) ~ '<' }}"),
    ("filters of text", "{{ s|upper }} {{ s|lower }} {{ 'a b-c'|title }} {{ 'aB'|capitalize }} {{ t|trim }} {{ 'xax'|trim('x') }} {{ s|replace('l', 'L', 1) }} {{ s|center(15) }}|"),
    ("indent", "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent('> ', blank=true) }}"),
    ("truncate and wordwrap", "{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'foo bar baz-qux quux'|wordwrap(7) }} {{ 'abcdefghij'|wordwrap(4, false) }}"),
    ("filters of lists", "{{ l|sort }} {{ words|sort }} {{ words|sort(case_sensitive=true, reverse=true) }} {{ l|sum }} {{ l|min }} {{ words|max }} {{ l|first }} {{ l|last }} {{ l|reverse|list }} {{ l|join('-') }}"),
    ("attributes", "{{ people|map(attribute='name')|join(',') }} {{ people|sum(attribute='age') }} {{ people|sort(attribute='age,name')|map(attribute='home.city')|list }} {{ people|join('+', 'name') }}"),
    ("choosing", "{{ people|selectattr('age', 'gt', 26)|map(attribute='name')|list }} {{ l|select('odd')|list }} {{ l|reject('equalto', 1)|list }} {{ people|rejectattr('home.city', '==', 'Oslo')|list|length }}"),
    ("groups", "{% for g in people|groupby('age') %}{{ g.grouper }}:{{ g.list|length }} {% endfor %}{% for k, v in people|groupby('home.city') %}{{ k }}{{ v|map(attribute='name')|list }}{% endfor %}"),
    ("batch, slice, unique", "{{ l|batch(2, 'x')|list }} {{ range(7)|slice(3)|list }} {{ ['a', 'A', 'b']|unique|list }} {{ d|dictsort }} {{ d|items|list }}"),
    ("numbers", "{{ '42'|int }} {{ '4.7'|int }} {{ 'x'|int(9) }} {{ 'ff'|int(0, 16) }} {{ '1.5'|float }} {{ 2.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 42|round }} {{ -1.5|abs }} {{ 1234567|filesizeformat }}"),
    ("formats", "{{ '%s-%05.2f|%-5d|%x|%r|%%' % ('a', 3.14159, 42, 255, 'q') }} {{ '%(x)s' % {'x': 1} }} {{ '%s'|format(1) }} {{ '{0}{x!r:>5}{1:.2f}{2:,}'.format('a', 2.5, 1234567, x='b') }}"),
    ("urlencode and xmlattr", "{{ 'a b/ü'|urlencode }} {{ {'a': 'b c'}|urlencode }} {{ {'a': 1, 'b': none, 'c': '<'}|xmlattr }} {{ '<b>x</b>  y &amp;'|striptags }} {{ s|wordcount }}"),
    ("tests", "{{ a is odd }} {{ a is divisibleby 7 }} {{ s is string }} {{ d is mapping }} {{ l is sequence }} {{ l is iterable }} {{ a is number }} {{ none is none }} {{ yes is true }} {{ a is integer }} {{ f is float }} {{ s is upper }} {{ a is sameas 7 }} {{ 1 is in l }} {{ range is callable }} {{ 'abs' is filter }}"),
    ("test and its argument", "{% if a is eq 7 and b is lt 0 %}x{% endif %}{{ a is not none and s is defined }}"),
    ("methods of strings", "{{ 'a,b,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abcabc'.find('c', 3) }} {{ 'a\\nb'.splitlines() }} {{ 'x=1'.partition('=') }} {{ '5'.zfill(3) }} {{ '-'.join(words) }} {{ 'ab'.removeprefix('a') }} {{ 'aXb'.swapcase() }} {{ 'they\\'re'.title() }}"),
    ("methods of lists", "{{ l.index(2) }} {{ l.count(1) }} {{ (1, 1).count(1) }} {{ d.keys()|list }} {{ d.values() }} {{ d.get('z', 5) }}"),
    ("code points", "{{ '😀e\\u0301'|length }} {{ '😀x'[1] }} {{ 'é' == 'e\\u0301' }} {{ 'ΑΣ'.lower() }} {{ 'ß'.upper() }} {{ 'ǆ'.title() }}"),
    ("unknown filter behind if", "{% if none %}{{ 1|nope }}{% endif %}ok"),
    ("error: raise_exception", "{{ raise_exception('No\nway: ' ~ a) }}"),
    ("error: attribute of undefined", "a\n{{ x.y }}"),
    ("error: arithmetic of undefined", "{{ x + 1 }}"),
    ("error: types", "{{ 'a' + 1 }}"),
    ("error: order of types", "{{ ['a', 1]|sort }}"),
    ("error: unknown filter", "{% for x in [] %}{{ x|nope }}{% endfor %}"),
    ("error: unknown test", "{{ x is nope }}"),
    ("error: unknown tag", "{% nope %}"),
    ("error: not closed", "{% if yes %}"),
    ("error: closed wrongly", "{% if yes %}{% endfor %}"),
    ("error: brackets", "{{ (1 }}"),
    ("error: a string not closed", "{{ 'a }}"),
    ("error: a comment not closed", "a {# b"),
    ("error: append", "{{ l.append(4) }}"),
    ("error: update", "{% set _ = d.update({}) %}"),
    ("error: range too large", "{{ range(1000000000)|list }}"),
    ("error: division by zero", "{{ 1 // 0 }}"),
    ("error: include", "{% include 'x' %}"),
    ("error: extends", "{% extends 'x' %}"),
    ("error: break outside", "{% break %}"),
    ("error: unpacking", "{% for a, b in [1] %}{% endfor %}"),
    ("error: underscore in a namespace", "{% set ns = namespace(_x=1) %}"),
    ("error: attribute of what is no namespace", "{% set d.a = 1 %}"),
    ("error: macro with too much", "{% macro m() %}{% endmacro %}{{ m(1) }}"),
    ("error: json of undefined", "{{ x|tojson }}"),
    ("error: length of a number", "{{ 1|length }}"),
    ("error: index error", "{{ 'a'.index('b') }}"),
    ("error: format", "{{ '%d' % 'a' }}"),
]

FILTERS = """abs capitalize center|(9) count default|('z') default|('z', true) dictsort e first float forceescape int|(3)
indent|(2) indent|(2, true, true) items|list join|('/') join last length list|sort list lower max min map|('upper')|list
map|(attribute='k')|list map|(attribute='k', default=0)|list pprint reject|('none')|list reverse reverse|list
replace|('a', 'bb') replace|('', '.', 2) round round|(1) round|(1, 'floor') safe select|list select|('string')|list
selectattr|('k')|list rejectattr|('k', 'defined')|list slice|(2)|list sort sort|(reverse=true) string striptags sum title
tojson tojson|(indent=2) tojson|(sort_keys=true, separators=(',', ':')) tojson|(ensure_ascii=true) trim trim|('ab')
truncate|(5, true, '', 0) unique|list upper urlencode wordcount wordwrap|(6) batch|(2, 0)|list groupby|('k') string
attr|('k') filesizeformat format|(1) wordwrap|(4, false)""".split("\n")

METHODS = """split(); split(' '); split('a', 1); rsplit('b', 1); rsplit(none, 1); split(none, 1); strip(); strip('a '); lstrip('a'); rstrip();
startswith('a'); startswith(('a', 'b')); endswith('b', 1); replace('a', 'xy'); replace('b', '', 1); upper();
lower(); title(); capitalize(); swapcase(); join(['x', 'y']); find('b'); rfind('a'); index('a'); count('a');
splitlines(); splitlines(true); isdigit(); isalpha(); isalnum(); isupper(); islower(); isspace(); istitle();
isnumeric(); isdecimal(); zfill(6); ljust(6, '.'); rjust(5); center(8, '*'); partition('a'); rpartition('b');
removeprefix('a'); removesuffix('b'); casefold(); expandtabs(4); isidentifier(); isprintable(); isascii(); get('a');
get('z', 3); keys(); values(); items(); index(1); count(2); copy(); pop(); append(1); format(1, 2); bit_length();
is_integer()""".replace("\n", " ").split("; ")

TESTS = """defined undefined none string number integer float boolean mapping sequence iterable callable odd even lower upper
true false escaped divisibleby(3) eq(1) ne('a') lt(2) ge(1) in([1,'a',none]) sameas(none)""".split()

FORMATS = [
    "%5d", "%-5d|", "%05d", "%+d", "%x", "%o", "%e", "%.3f", "%10.2f", "%g", "%.3g", "%s", "%r", "%5s|", "%-5s|", "%.2s", "%c", "%i",
    "%#x", "% d", "%G", "%a", "%%%d", "%08.3f", "%+.1e", "%#g",
]
SPECIFICATIONS = [
    "", "5", "<5", ">5", "^7", "*^9", "05", "+", " ", "d", "x", "#x", "b", "o", "e", ".2f", "10.3f", "g", ".3", ",", "_", "%", ".1%", "s",
    ".2s", "=+6", "08.2f", "c", "X", "n", ".0f", "#b", "012,", "-",
]


def random_template(generator):
    """A template and its variables."""
    pick = generator.choice
    variables = {
        "i": pick([0, 1, 2, -5, 12, 255]),
        "f": pick([0.5, -2.25, 1e16, 3.0, 1e-7, 2.675]),
        "s": pick(["", "abab", " a b\tc ", "Ünï côde 世", "a\nb\r\nc\n", "3.7", "-12", "<b>\"x\" & 'y'</b>", "they're ǆ ß Σ"]),
        "l": pick([[], [1, 2, 3], ["b", "a", "B"], [1, "a", None], [[1, 2], [3, 4]], [2.5, 1, True]]),
        "d": pick([{}, {"a": 1, "b": "x"}, {"z": None, "k": [1]}, {"items": 1, "A": 2, "b": 0}]),
        "r": [{"k": 2, "v": "x"}, {"k": 1, "v": "y"}, {"v": "z"}],
        "n": None,
        "t": True,
    }

    def filtered(value):
        name, rest = pick(FILTER_LIST)
        return f"{value}|{name}{rest}"

    def expression(depth):
        if depth <= 0:
            return pick(
                ["i", "f", "s", "l", "d", "r", "n", "t", "u", "1", "0", "2.5", "'a'", "'b a'", "[]", "{}", "()", "true", "none", "-1", "3"]
            )
        kind = generator.randrange(18)
        one = lambda: expression(depth - 1 - generator.randrange(2))
        if kind == 0:
            return f"({one()} {pick(['+', '-', '*', '/', '//', '%', '**', '~'])} {one()})"
        if kind == 1:
            return f"({one()} {pick(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {one()})"
        if kind == 2:
            return f"({one()} {pick(['and', 'or'])} {one()})"
        if kind == 3:
            return f"(not {one()})"
        if kind == 4:
            return f"({one()} if {one()} else {one()})"
        if kind == 5:
            return f"[{one()}, {one()}]"
        if kind == 6:
            return "{" + f"'k': {one()}, {pick(['1', repr('z'), 'i'])}: {one()}" + "}"
        if kind == 7:
            if generator.random() < 0.5:
                return f"{pick(['s', 'l', 'r', 'x', 'd'])}[{pick(['1:', ':2', '::-1', ':-1', '-2:', '::2', '3:0:-2'])}]"
            return f"({one()})[{pick(['0', '-1', '1', repr('a'), repr('k'), 'i'])}]"
        if kind == 8:
            return f"({one()}).{pick(['a', 'k', 'items', 'keys', 'v'])}"
        if kind in (9, 10):
            return f"({one()}).{pick(METHODS)}" if generator.random() < 0.5 else f"{pick(['s', 'd', 'l', 's'])}.{pick(METHODS)}"
        if kind in (11, 12, 13):
            return filtered(f"({one()})" if generator.random() < 0.4 else pick(["s", "l", "r", "d", "f", "i"]))
        if kind == 14:
            return f"({one()} is {pick(['', 'not '])}{pick(TESTS)})"
        if kind == 15:
            if generator.random() < 0.5:
                return f"('{pick(FORMATS)}' % {one()})"
            return f"'{{:{pick(SPECIFICATIONS)}}}'.format({pick(['i', 'f', 's', one()])})"
        if kind == 16:
            return f"({one()}, {one()})"
        return f"({one()} < {one()} <= {one()})"

    def sign():
        return pick(["", "", "", "-", "+"])

    def tag(text):
        return "{%" + sign() + f" {text} " + sign() + "%}"

    def space():
        return pick(["", "", "\n", "  ", "\n  ", " x ", "\n\n", "y\n"])

    def statements(depth, loops=False):
        return "".join(space() + statement(depth, loops) + space() for _ in range(generator.randrange(1, 4)))

    def statement(depth, loops):
        kind = generator.randrange(13) if depth > 0 else 0
        inner = lambda inside=False: statements(depth - 1, inside)
        if kind == 1:
            return tag(f"if {expression(1)}") + inner(loops) + tag("else") + inner(loops) + tag("endif")
        if kind == 2:
            body = "{{ loop." + pick(["index", "index0", "revindex", "first", "last", "length", "previtem", "nextitem", "depth"]) + " }}"
            test = pick(["", f" if {expression(1)}", " if x"])
            return tag(f"for x in {pick(['l', 'd', 's', 'r', 'range(3)', expression(1)])}{test}") + body + inner(True) + (
                tag("else") + inner(loops) if generator.random() < 0.3 else "") + tag("endfor")
        if kind == 3:
            return tag(f"set {pick(['x', 'y', 'i', 's'])} = {expression(2)}")
        if kind == 4:
            return tag(f"set {pick(['x', 'y', 'l'])}{pick(['', ' | upper', ' | trim'])}") + inner() + tag("endset")
        if kind == 5:
            return tag(f"with y = {expression(1)}, x = y") + inner(loops) + tag("endwith")
        if kind == 6:
            name = pick(["m", "w"])
            return tag(f"macro {name}(x, y={expression(1)})") + inner() + tag("endmacro") + "{{ " + name + f"({expression(1)}) " + "}}"
        if kind == 7:
            return tag("filter " + pick(["upper", "trim", "replace('a', '1')", "length"])) + inner() + tag("endfilter")
        if kind == 8:
            return "{#" + sign() + " c " + sign() + "#}"
        if kind == 9 and loops:
            return tag(f"if {expression(1)}") + tag(pick(["break", "continue"])) + tag("endif")
        if kind == 10:
            return tag("set ns = namespace(x=1)") + tag("for x in l") + tag("set ns.x = x") + inner(True) + tag("endfor") + "{{ ns.x }}"
        if kind == 11:
            return "{%" + pick(["", "-", "+"]) + " raw " + pick(["", "-"]) + "%}" + pick(["{{ x }}", "\n {% y\n"]) + tag("endraw")
        return "{{" + pick(["", "-"]) + f" {expression(2)} " + pick(["", "-"]) + "}}"

    if generator.random() < 0.6:
        return "{{ " + expression(3) + " }}", variables
    return statements(3), variables


def _filters():
    for line in " ".join(FILTERS).replace(", ", ",").split():
        name, bar, rest = line.partition("|")
        if rest and not rest.startswith("("):
            rest = "|" + rest
        yield name, rest


FILTER_LIST = list(_filters())
