public import JSONTree

/// The language that an answer must be a member of; enforced where tokens are drawn.
public enum ResponseFormat: Sendable, Equatable {
    case text
    /// Any JSON object.
    case jsonObject
    case jsonSchema(name: String, schema: JSON, strict: Bool)
    case regex(String)
    /// GBNF, as llama.cpp defines it, with the root rule `root`.
    case grammar(String)
}

extension ResponseFormat {
    /// Reads `response_format`, and llama-server's `grammar` and `json_schema`, which say the same.
    init(_ fields: inout Fields) throws(APIError) {
        var given: [(name: String, format: Self)] = []
        if let value = fields.value("response_format") {
            given.append(
                (
                    "response_format",
                    try Self(value, path: fields.path(of: "response_format"))
                ))
        }
        if let grammar = try fields.string("grammar"), !grammar.isEmpty {
            given.append(("grammar", .grammar(grammar)))
        }
        if let schema = try fields.object("json_schema") {
            given.append(
                ("json_schema", .jsonSchema(name: "schema", schema: .object(schema), strict: true)))
        }
        if given.count > 1 {
            throw .invalid(
                "'\(given[0].name)' and '\(given[1].name)' both say what the answer must look "
                    + "like. Give one of them.", param: fields.path(of: given[1].name),
                code: "conflicting_parameters")
        }
        self = given.first?.format ?? .text
    }

    private enum Kind: String, CaseIterable {
        case text, regex, grammar
        case jsonObject = "json_object"
        case jsonSchema = "json_schema"
    }

    private init(_ value: JSON, path: String) throws(APIError) {
        var fields = try Fields(value, path: path)
        guard let kind = try fields.word("type", Kind.self) else {
            throw .missing(fields.path(of: "type"))
        }
        switch kind {
        case .text: self = .text
        case .regex: self = .regex(try fields.requiredString("regex"))
        case .grammar: self = .grammar(try fields.requiredString("grammar"))
        case .jsonObject:
            // llama-server takes a schema here too.
            self =
                if let schema = try fields.object("schema") {
                    .jsonSchema(name: "schema", schema: .object(schema), strict: true)
                } else {
                    .jsonObject
                }
        case .jsonSchema:
            guard let value = fields.value("json_schema") else {
                throw .missing(fields.path(of: "json_schema"))
            }
            var inner = try Fields(value, path: fields.path(of: "json_schema"))
            let name = try inner.requiredString("name")
            try checkName(name, param: inner.path(of: "name"))
            _ = try inner.string("description")
            guard let schema = try inner.object("schema") else {
                throw .missing(inner.path(of: "schema"))
            }
            self = .jsonSchema(
                name: name, schema: .object(schema), strict: try inner.bool("strict") ?? false)
            try inner.finish()
        }
        try fields.finish()
    }

    /// As it stands in a request; nil for text, which needs no saying.
    var json: JSON? {
        switch self {
        case .text: nil
        case .jsonObject: ["type": "json_object"]
        case .jsonSchema(let name, let schema, let strict):
            [
                "type": "json_schema",
                "json_schema": [
                    "name": .string(name), "schema": schema, "strict": .bool(strict),
                ],
            ]
        case .regex(let pattern): ["type": "regex", "regex": .string(pattern)]
        case .grammar(let rules): ["type": "grammar", "grammar": .string(rules)]
        }
    }
}

/// OpenAI's rule for the names of functions and schemas.
func checkName(_ name: String, param: String) throws(APIError) {
    let isAllowed = name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
    guard isAllowed, (1...64).contains(name.utf8.count) else {
        throw .invalid(
            "Invalid '\(param)': string does not match pattern. Expected a string that matches "
                + "the pattern '^[a-zA-Z0-9_-]{1,64}$'.", param: param, code: "invalid_value")
    }
}
