import ChatTemplates
import FoundationEssentials
import JSONTree
import Testing

/// Templates with what Python's jinja2 makes of them (tools/make_template_fixtures.py).
struct TemplateCase {
    let name: String
    let template: String
    let variables: JSONObject
    let now: Double
    /// Nil where Python raises an error.
    let expected: String?

    init?(_ json: JSON) {
        guard let name = json["name"]?.string, let template = json["template"]?.string,
            let variables = json["variables"]?.object, let now = json["now"]?.number
        else { return nil }
        self.name = name
        self.template = template
        self.variables = variables
        self.now = now
        expected = json["expected"]?.string
    }

    /// The cases of a file that the script wrote.
    static func cases(at path: String) throws -> [TemplateCase] {
        let data = try Data(contentsOf: URL(filePath: path))
        let json = try JSON(parsing: Array(data))
        return try (json["cases"]?.array ?? []).map { try #require(TemplateCase($0)) }
    }

    /// What differs from Python; nil if nothing does.
    var difference: String? {
        let result = Result { () throws in
            try ChatTemplate(template).render(variables, now: now)
        }
        switch (result, expected) {
        case (.success(let text), let expected?):
            if Array(text.utf8) == Array(expected.utf8) { return nil }
            let place = zip(text.utf8, expected.utf8).prefix { $0 == $1 }.count
            return "\(name): differs at byte \(place): found "
                + "\(String(decoding: Array(text.utf8).dropFirst(max(0, place - 20)).prefix(80), as: UTF8.self).debugDescription), expected "
                + String(
                    decoding: Array(expected.utf8).dropFirst(max(0, place - 20)).prefix(80),
                    as: UTF8.self
                ).debugDescription
        case (.failure(let error), let expected?):
            return "\(name): \(error), expected \(expected.prefix(80).debugDescription)"
        case (.success(let text), nil):
            return "\(name): found \(text.prefix(80).debugDescription), expected an error"
        case (.failure(let error), nil):
            return error is TemplateError ? nil : "\(name): \(error)"
        }
    }
}
