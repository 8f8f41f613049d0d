import ChatTemplates
import JSONTree
import Testing

/// Templates come out of model files. Whatever one says, rendering it ends soon, in bounded memory, with a text or one line.
struct HostileTemplateTests {
    static func render(
        _ template: String, _ variables: JSONObject = JSONObject(),
        limits: RenderLimits = RenderLimits()
    ) throws -> String {
        try ChatTemplate(template).render(variables, now: 0, limits: limits)
    }

    /// The error of a template that must not render.
    static func error(
        of template: String, _ variables: JSONObject = JSONObject(),
        limits: RenderLimits = RenderLimits()
    ) throws -> TemplateError {
        try #require(throws: TemplateError.self) {
            try render(template, variables, limits: limits)
        }
    }

    @Test(arguments: [
        "{{ 'a' * 10**9 }}", "{{ [1] * 10**12 }}", "{{ range(10**9)|list }}",
        "{{ 'a'.center(10**10) }}", "{{ 'a'.zfill(10**10) }}", "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1.5 }}", "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'a'|indent(10**10) }}", "{{ '\t'.expandtabs(10**10) }}",
        "{{ [1]|batch(10**10, 0)|list }}", "{{ [1]|slice(10**10)|list }}",
        "{{ {}|tojson(indent=10**10) }}", "{{ 1.5|round(10**6, 'ceil') }}",
        "{% set x = 'a' * 10**6 %}{{ x.replace('a', x) }}",
        "{% set x = 'a' * 10**5 %}{{ x.replace('', x) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|map('string') %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set a = namespace(x=(1,)) %}{% for i in range(99) %}{% set a.x = (a.x, a.x) %}{% endfor %}{{ {a.x: 1} }}",
        "{% set a = namespace(x=[1]) %}{% set b = namespace(x=[1]) %}{% for i in range(99) %}{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
        "{{ 2 ** 64 }}", "{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}", "{{ 99999999999999999999 }}",
        "{{ 1e30|int }}", "{{ range(-9223372036854775807, 9223372036854775807) }}",
        "{{ strftime_now('%Y' * 1000) }}",
    ])
    func runaway(template: String) throws {
        // Less than by default, so that a build without optimisation is soon at the end of it.
        var limits = RenderLimits()
        limits.steps /= 25
        limits.bytes /= 4
        let error = try Self.error(of: template, limits: limits)
        #expect(error.line == 1 && !error.isRaised)
        #expect(!error.description.utf8.contains { $0 < 32 })
    }

    /// Remainders and bounds at the ends of the integers, where machine arithmetic traps.
    @Test(arguments: [
        ("{{ (-9223372036854775807 - 1) % -1 }}", "0"),
        ("{{ 'abc'[-9223372036854775807:9223372036854775807] }}", "abc"),
        ("{{ 'abc'[::9223372036854775807] }}", "a"),
        ("{{ 'abc'[::-9223372036854775807] }}", "c"),
        ("{{ 'abc'.find('c', -9223372036854775807) }}", "2"),
        ("{{ range(0, 9223372036854775807, 9223372036854775807)|list }}", "[0]"),
        (
            "{{ 5 in range(-9223372036854775807, 9223372036854775807, 9223372036854775807) }}",
            "False"
        ),
        ("{{ 9223372036854775807|round(-18) }}", "9000000000000000000"),
        ("{{ 'ab'|truncate(9223372036854775807) }}", "ab"),
        ("{{ 1.5|round(9223372036854775807) }}{{ 1.5|round(-9223372036854775807) }}", "1.50.0"),
        ("{{ 5e-324 }}{{ '%.3e' % 5e-324 }}", "5e-3244.941e-324"),
    ])
    func extremes(template: String, expected: String) throws {
        #expect(try Self.render(template) == expected)
    }

    @Test(arguments: ["(", "[", "{1:", "not ", "-", "x if ", "f(", "x[", "x.y", "x|f", "1+"])
    func nestedSyntax(part: String) throws {
        let parsed = Result { try ChatTemplate("{{ " + String(repeating: part, count: 5_000)) }
        #expect(throws: TemplateError.self) { try parsed.get() }
    }

    @Test func nestedTags() throws {
        for tag in ["if 1", "for x in y", "set x", "macro m()", "filter upper", "with", "block b"] {
            let template = String(repeating: "{% \(tag) %}", count: 5_000)
            #expect(throws: TemplateError.self) { try ChatTemplate(template) }
        }
    }

    /// What has the most levels of all that is allowed renders without overflowing a thread's stack.
    @Test func deepestAllowed() throws {
        let parentheses =
            String(repeating: "(", count: 90) + "x" + String(repeating: ")", count: 90)
        #expect(try Self.render("{{ \(parentheses) }}") == "")
        let sum = String(repeating: "1+", count: 90) + "1"
        #expect(try Self.render("{{ \(sum) }}") == "91")
        let recursion = """
            {% macro m(n) %}{% if n %}{% for x in [1] %}{{ ('' ~ ((m(n - 1)))) }}{% endfor %}{% endif %}{{ n }}{% endmacro %}{{ m(30) }}
            """
        #expect(try Self.render(recursion).hasSuffix("282930"))
    }

    @Test func deepVariables() throws {
        var json = JSON.array([])
        for _ in 0..<300 { json = .array([json]) }
        var variables = JSONObject()
        variables["x"] = json
        #expect(try Self.error(of: "{{ x }}", variables).line == 1)
    }

    @Test func limitsAreObeyed() throws {
        var limits = RenderLimits()
        limits.outputBytes = 100
        #expect(try Self.render("{{ 'a' * 100 }}", limits: limits).utf8.count == 100)
        #expect(try Self.error(of: "{{ 'a' * 101 }}", limits: limits).problem.contains("100 bytes"))
        limits.steps = 1000
        #expect(
            try Self.error(of: "{% for x in range(2000) %}{% endfor %}", limits: limits).problem
                .contains("1000 steps"))
    }

    /// A template that breaks off, and one that makes circles, leave nothing behind that a second rendering would meet.
    @Test func renderingsAreIndependent() throws {
        let template = try ChatTemplate(
            "{% set ns = namespace(n=0) %}{% set ns.self = ns %}{% macro m() %}{{ m }}{% endmacro %}{% set ns.n = ns.n + x %}{{ ns.n }}"
        )
        for value in [1, 2] {
            var variables = JSONObject()
            variables["x"] = .integer(value)
            #expect(try template.render(variables, now: 0) == "\(value)")
        }
        #expect(throws: TemplateError.self) { try template.render(JSONObject(), now: 0) }
    }

    @Test func mutatedTemplates() throws {
        var random = Random(seed: 7)
        for some in try PythonTests.language.get() {
            for _ in 0..<5 {
                var scalars = Array(some.template.unicodeScalars)
                for _ in 0..<(1 + random.below(3)) where !scalars.isEmpty {
                    let place = random.below(scalars.count)
                    switch random.below(3) {
                    case 0: scalars.remove(at: place)
                    case 1: scalars.insert(scalars[random.below(scalars.count)], at: place)
                    default:
                        scalars[place] = ["{", "}", "%", "'", "(", "\0", "é", "-"][random.below(8)]
                    }
                }
                var text = String.UnicodeScalarView()
                text.append(contentsOf: scalars)
                var limits = RenderLimits()
                limits.steps = 20_000
                do throws(TemplateError) {
                    _ = try ChatTemplate(String(text)).render(
                        some.variables, now: 0, limits: limits)
                } catch {
                    #expect(error.line >= 1 && !error.description.utf8.contains { $0 < 32 })
                }
            }
        }
    }
}

/// SplitMix64.
private struct Random {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func below(_ bound: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ z >> 31) % UInt64(bound))
    }
}
