public import JSONTree

/// How likely a token was, and which ones were likelier or next.
public struct LogprobEntry: Sendable, Equatable {
    public struct Alternative: Sendable, Equatable {
        /// The token's text; see `LogprobEntry.spelled`.
        public var token: String
        /// UTF-8, and not always whole characters; nil where a server tells none.
        public var bytes: [UInt8]?
        /// Natural logarithm.
        public var logprob: Double

        public init(bytes: [UInt8], logprob: Double) {
            token = LogprobEntry.spelled(bytes)
            self.bytes = bytes
            self.logprob = logprob
        }
    }

    public var chosen: Alternative
    /// The likeliest tokens, best first; the chosen one need not be among them.
    public var top: [Alternative]

    public init(bytes: [UInt8], logprob: Double, top: [Alternative] = []) {
        chosen = Alternative(bytes: bytes, logprob: logprob)
        self.top = top
    }

    /// The text of a token; where its bytes are no text, `bytes:\xe2\x82`, as OpenAI writes it.
    public static func spelled(_ bytes: [UInt8]) -> String {
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        return bytes.reduce(into: "bytes:") { text, byte in
            text += byte < 16 ? "\\x0" : "\\x"
            text += String(byte, radix: 16)
        }
    }

    /// As a chat completion has it.
    public var json: JSON {
        guard case .object(var object) = chosen.json else { return .null }
        object["top_logprobs"] = .array(top.map(\.json))
        return .object(object)
    }

    init(json: JSON) throws(ResponseError) {
        chosen = try Alternative(json: json)
        top = []
        for alternative in json["top_logprobs"]?.array ?? [] {
            top.append(try Alternative(json: alternative))
        }
    }
}

extension LogprobEntry.Alternative {
    /// What stands for an impossible token: JSON has no infinity. OpenAI's figure.
    static let leastLogprob = -9999.0

    var logprobJSON: JSON { .number(logprob.isFinite ? logprob : Self.leastLogprob) }

    var json: JSON {
        [
            "token": .string(token), "logprob": logprobJSON,
            "bytes": bytes.map { .array($0.map { .integer(Int($0)) }) } ?? .null,
        ]
    }

    init(json: JSON) throws(ResponseError) {
        token = try json.required("token", \.string)
        logprob = try json.required("logprob", \.number)
        bytes = json["bytes"]?.array?.compactMap { $0.integer.flatMap { UInt8(exactly: $0) } }
    }
}

/// The logprobs of a text completion: four lists of the same length.
public struct CompletionLogprobs: Sendable, Equatable {
    public var tokens: [String]
    /// Nil for the first token of a prompt, which nothing foretells.
    public var tokenLogprobs: [Double?]
    /// By the token's text.
    public var topLogprobs: [[String: Double]?]
    /// Characters (Unicode scalars) of the choice's text before each token.
    public var textOffsets: [Int]

    /// - Parameters:
    ///   - entries: token by token, with the bytes it adds to the text, and nil logprobs where
    ///     there are none.
    ///   - offset: characters of the text before the first of them.
    public init(_ entries: [(bytes: [UInt8], entry: LogprobEntry?)], offset: Int = 0) {
        var offset = offset
        tokens = []
        tokenLogprobs = []
        topLogprobs = []
        textOffsets = []
        for (bytes, entry) in entries {
            tokens.append(LogprobEntry.spelled(bytes))
            tokenLogprobs.append(entry?.chosen.logprob)
            topLogprobs.append(
                entry.map { entry in
                    Dictionary(
                        entry.top.map { ($0.token, $0.logprob) }, uniquingKeysWith: { max($0, $1) })
                })
            textOffsets.append(offset)
            offset += Self.characters(bytes)
        }
    }

    /// Characters that begin in these bytes.
    public static func characters(_ bytes: [UInt8]) -> Int { bytes.count { $0 & 0xC0 != 0x80 } }

    var json: JSON {
        func number(_ value: Double?) -> JSON {
            value.map { .number($0.isFinite ? $0 : LogprobEntry.Alternative.leastLogprob) } ?? .null
        }
        let tops = topLogprobs.map { top -> JSON in
            guard let top else { return .null }
            var object = JSONObject()
            for (token, logprob) in top.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
                object[token] = number(logprob)
            }
            return .object(object)
        }
        return [
            "tokens": .array(tokens.map { .string($0) }),
            "token_logprobs": .array(tokenLogprobs.map(number)), "top_logprobs": .array(tops),
            "text_offset": .array(textOffsets.map { .integer($0) }),
        ]
    }

    init(json: JSON) {
        tokens = json["tokens"]?.array?.map { $0.string ?? "" } ?? []
        tokenLogprobs = json["token_logprobs"]?.array?.map(\.number) ?? []
        topLogprobs =
            json["top_logprobs"]?.array?.map { top in
                top.object.map { object in
                    var values: [String: Double] = [:]
                    for (token, logprob) in object.members { values[token] = logprob.number }
                    return values
                }
            } ?? []
        textOffsets = json["text_offset"]?.array?.map { $0.integer ?? 0 } ?? []
    }
}
