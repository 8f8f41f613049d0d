public import JSONTree

/// A function that the model may ask to have called.
public struct ToolDefinition: Sendable, Equatable {
    public var name: String
    public var description: String?
    /// A JSON schema of the arguments; nil for a function without any.
    public var parameters: JSON?
    /// Arguments must follow the schema, also where the model is free to call or not.
    public var strict: Bool
    /// As given, for the template: members in their order.
    public let json: JSON

    public init(
        name: String, description: String? = nil, parameters: JSON? = nil, strict: Bool = false
    ) {
        self.name = name
        self.description = description
        self.parameters = parameters
        self.strict = strict
        var function = JSONObject()
        function["name"] = .string(name)
        function["description"] = description.map { .string($0) }
        function["parameters"] = parameters
        if strict { function["strict"] = true }
        json = ["type": "function", "function": .object(function)]
    }

    private enum Kind: String, CaseIterable { case function }

    init(_ json: JSON, path: String) throws(APIError) {
        var fields = try Fields(json, path: path)
        guard try fields.word("type", Kind.self) != nil else {
            throw .missing(fields.path(of: "type"))
        }
        guard let value = fields.value("function") else {
            throw .missing(fields.path(of: "function"))
        }
        var function = try Fields(value, path: fields.path(of: "function"))
        name = try function.requiredString("name")
        try checkName(name, param: function.path(of: "name"))
        description = try function.string("description")
        parameters = try function.object("parameters").map { .object($0) }
        strict = try function.bool("strict") ?? false
        self.json = json
        try function.finish()
        try fields.finish()
    }
}

/// Whether the model calls functions.
public enum ToolChoice: Sendable, Equatable {
    case none
    /// As it likes.
    case auto
    /// At least one, whichever it likes.
    case required
    /// This one.
    case function(String)
}

extension ToolChoice {
    /// Reads `tool_choice`; nil where it is not given.
    init?(_ fields: inout Fields) throws(APIError) {
        guard let value = fields.value("tool_choice") else { return nil }
        let path = fields.path(of: "tool_choice")
        if let word = value.string {
            switch word {
            case "none": self = .none
            case "auto": self = .auto
            case "required": self = .required
            default: throw .unknownWord(word, ["none", "auto", "required"], param: path)
            }
            return
        }
        guard value.object != nil else {
            throw .wrongType(path, expected: "a string or an object", value)
        }
        var choice = try Fields(value, path: path)
        let type = try choice.requiredString("type")
        guard type == "function" else {
            throw .unknownWord(type, ["function"], param: choice.path(of: "type"))
        }
        guard let function = choice.value("function") else {
            throw .missing(choice.path(of: "function"))
        }
        var inner = try Fields(function, path: choice.path(of: "function"))
        self = .function(try inner.requiredString("name"))
        try inner.finish()
        try choice.finish()
    }

    var json: JSON {
        switch self {
        case .none: "none"
        case .auto: "auto"
        case .required: "required"
        case .function(let name): ["type": "function", "function": ["name": .string(name)]]
        }
    }
}

/// A call that a model asked for.
public struct ToolCall: Sendable, Equatable {
    public var id: String
    public var name: String
    /// JSON text as the model wrote it, which need not be valid.
    public var arguments: String

    public init(id: String, name: String, arguments: String) {
        self.id = id
        self.name = name
        self.arguments = arguments
    }

    public var json: JSON {
        [
            "id": .string(id), "type": "function",
            "function": ["name": .string(name), "arguments": .string(arguments)],
        ]
    }

    private enum Kind: String, CaseIterable { case function }

    init(_ json: JSON, path: String) throws(APIError) {
        var fields = try Fields(json, path: path)
        id = try fields.requiredString("id")
        _ = try fields.word("type", Kind.self)
        // Clients send back what they collected from a stream.
        fields.ignore("index")
        guard let value = fields.value("function") else {
            throw .missing(fields.path(of: "function"))
        }
        var function = try Fields(value, path: fields.path(of: "function"))
        name = try function.requiredString("name")
        arguments = try function.requiredString("arguments")
        try function.finish()
        try fields.finish()
    }
}
