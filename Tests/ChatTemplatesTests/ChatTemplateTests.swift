import ChatTemplates
import JSONTree
import Testing

struct ChatTemplateTests {
    @Test(arguments: [
        ("a\n{{ x.y }}", 2, "'x' is undefined"),
        ("{{ 1 }}\n\n{{ d.x.y }}", 3, "'dict object' has no attribute 'x'"),
        ("\n{% for x in y %}\n{{ x|nope }}{% endfor %}", 3, "there is no filter 'nope'"),
        ("{{ x is nope }}", 1, "there is no test 'nope'"),
        ("\n\n{% frob %}", 3, "unknown tag 'frob'"),
        ("\n{% include 'x' %}", 2, "'include' needs another template"),
        ("{% if 1 %}\n", 1, "the template ends, but 'elif' or 'else' or 'endif' was expected"),
        ("{{ [1, 2 }}", 1, "a '}' where ']' has to close first"),
        ("{{ 1 + }}", 1, "expected an expression, found }}"),
        ("{{ 'a'\n + 1 }}", 2, "'+' of values of type str and int"),
        ("{{ [].append(1) }}", 1, "access to attribute 'append' of 'list' object is unsafe."),
        ("{% macro m(a) %}{% endmacro %}\n{{ m(1, 2) }}", 2, "the macro 'm' takes not more than 1"),
        ("{{ 1|round(method='up') }}", 1, "'round' by the method 'up', which there is not"),
        ("{{ 'x'|indent(wide=1) }}", 1, "the filter 'indent' has no parameter 'wide'"),
        ("{{ 'x'|urlize }}", 1, "'urlize' makes links for web pages, and is not supported"),
    ])
    func errorsNameLineAndConstruct(template: String, line: Int, problem: String) throws {
        var variables = JSONObject()
        variables["d"] = [:]
        let error = try HostileTemplateTests.error(of: template, variables)
        #expect(error.line == line)
        #expect(error.problem.hasPrefix(problem), "\(error)")
        #expect(error.description.hasPrefix("line \(line): "))
        #expect(!error.isRaised)
    }

    @Test func templatesCanRefuse() throws {
        let error = try HostileTemplateTests.error(
            of: "{% if 1 %}\n{{ raise_exception('Roles\nmust ' ~ 'alternate') }}{% endif %}")
        #expect(error.isRaised)
        #expect(error.problem == "Roles\nmust alternate")
        #expect(error.description == "line 2: Roles\\nmust alternate")
    }

    @Test func fallbackIsChatML() throws {
        let variables = try #require(
            JSON(
                parsing: """
                    {"messages": [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": [
                    {"type": "text", "text": "Hi"}, {"type": "image"}, {"type": "text", "text": "?\\n"}]},
                    {"role": "assistant", "content": null}], "add_generation_prompt": true}
                    """
            ).object)
        let text = try ChatTemplate.fallback().render(variables, now: 0)
        #expect(
            text == """
                <|im_start|>system
                Be brief. <|im_end|>
                <|im_start|>user
                Hi?
                <|im_end|>
                <|im_start|>assistant
                <|im_end|>
                <|im_start|>assistant

                """)
    }

    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0.0), ("2024-07-26T13:00:05.25Z", 1_721_998_805.25),
        ("2024-07-26 15:00:05+02:00", 1_721_998_805), ("2024-07-26T08:30-0430", 1_721_998_800),
        ("2024-02-29T00:00:00Z", 1_709_164_800),
    ])
    func momentsWithAZone(text: String, seconds: Double) {
        #expect(DateTime.secondsSince1970(text) == seconds)
    }

    /// Without a zone a time is local, so it comes back as it was written, wherever the tests run.
    @Test func momentsInLocalTime() throws {
        for text in ["2024-07-26", "2024-12-31 23:59:58"] {
            let now = try #require(DateTime.secondsSince1970(text))
            let format = text.count == 10 ? "%Y-%m-%d" : "%Y-%m-%d %H:%M:%S"
            let template = try ChatTemplate("{{ strftime_now('\(format)') }}")
            #expect(try template.render(JSONObject(), now: now) == text)
        }
    }

    @Test(arguments: [
        "", "now", "2024", "2024-7-26", "2024-02-30", "2024-13-01", "2024-07-26T25:00",
        "2024-07-26T", "2024-07-26T12:00:00.", "2024-07-26T12:00x", "2024-07-26T12:00+1",
    ])
    func noMoments(text: String) { #expect(DateTime.secondsSince1970(text) == nil) }
}
