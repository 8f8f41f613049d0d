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
    """Names, templates and variables."""
    return []


def random_template(generator):
    return "{{ 1 }}", {}
