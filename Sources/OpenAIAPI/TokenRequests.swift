public import JSONTree

/// The body of `POST /tokenize`, as llama-server has it.
public struct TokenizeRequest: Sendable, Equatable {
    public var content: String
    /// With what the model wants before and after every text.
    public var addsSpecial = false
    /// Control tokens that are spelled out count as such.
    public var parsesSpecial = true
    /// Each token's text beside its id.
    public var withPieces = false

    public init(content: String) { self.content = content }

    public init(_ json: JSON) throws(APIError) {
        var fields = try Fields(json, path: "")
        content = try fields.requiredString("content")
        addsSpecial = try fields.bool("add_special") ?? false
        parsesSpecial = try fields.bool("parse_special") ?? true
        withPieces = try fields.bool("with_pieces") ?? false
        fields.ignore("model")
        try fields.finish()
    }

    public var json: JSON {
        [
            "content": .string(content), "add_special": .bool(addsSpecial),
            "parse_special": .bool(parsesSpecial), "with_pieces": .bool(withPieces),
        ]
    }

    /// The answer: ids, or ids with their bytes where these were asked for. Bytes that are no text
    /// are given as numbers.
    public static func answer(_ ids: [Int32], pieces: [[UInt8]]?) -> JSON {
        guard let pieces else { return ["tokens": .array(ids.map { .integer(Int($0)) })] }
        let tokens = zip(ids, pieces).map { id, bytes -> JSON in
            let text = String(validating: bytes, as: UTF8.self)
            let piece: JSON =
                text.map { .string($0) } ?? .array(bytes.map { .integer(Int($0)) })
            return ["id": .integer(Int(id)), "piece": piece]
        }
        return ["tokens": .array(tokens)]
    }
}

/// The body of `POST /detokenize`, as llama-server has it.
public struct DetokenizeRequest: Sendable, Equatable {
    public var tokens: [Int32]

    public init(tokens: [Int32]) { self.tokens = tokens }

    public init(_ json: JSON, limits: RequestLimits = RequestLimits()) throws(APIError) {
        var fields = try Fields(json, path: "")
        guard let elements = try fields.array("tokens", atMost: limits.tokens) else {
            throw .missing("tokens")
        }
        tokens =
            elements.isEmpty
            ? [] : try CompletionRequest.tokens(elements, path: "tokens", limits)
        fields.ignore("model")
        try fields.finish()
    }

    public var json: JSON { ["tokens": .array(tokens.map { .integer(Int($0)) })] }
}

/// The body of `POST /v1/sluice/cache`: how much memory the engine may have from now on.
public struct CacheRequest: Sendable, Equatable {
    /// Bytes as a number, or a size such as "6GiB"; reading it is for who knows the units.
    public var memory: String

    public init(memory: String) { self.memory = memory }

    public init(_ json: JSON) throws(APIError) {
        var fields = try Fields(json, path: "")
        guard let value = fields.value("memory") else { throw .missing("memory") }
        switch value {
        case .string(let text): memory = text
        case .integer(let bytes) where bytes > 0: memory = String(bytes)
        default:
            throw .wrongType(
                "memory", expected: "a number of bytes or a string such as '6GiB'", value)
        }
        try fields.finish()
    }

    public var json: JSON { ["memory": .string(memory)] }
}
