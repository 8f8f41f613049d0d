import NIOHTTP1

extension SluiceClient {
    /// The models that the server has (`GET /v1/models`).
    public func models() async throws -> ModelList {
        let json = try await answer(to: .GET, "/v1/models", silence: timeouts.answer)
        return try decoding { () throws(ResponseError) in try ModelList(json: json) }
    }

    /// The ids of a text's tokens (`POST /tokenize`).
    ///
    /// - Parameters:
    ///   - addsSpecial: with what the model wants before and after every text.
    ///   - parsesSpecial: control tokens that are spelled out count as such.
    public func tokenize(
        _ text: String, addsSpecial: Bool = false, parsesSpecial: Bool = true
    ) async throws -> [Int32] {
        var request = TokenizeRequest(content: text)
        request.addsSpecial = addsSpecial
        request.parsesSpecial = parsesSpecial
        let json = try await answer(
            to: .POST, "/tokenize", request.json, silence: timeouts.answer)
        let ids = json["tokens"]?.array?.map { $0.integer.flatMap { Int32(exactly: $0) } }
        guard let ids, !ids.contains(nil) else { throw missing("tokens") }
        return ids.compactMap(\.self)
    }

    /// The text of tokens (`POST /detokenize`).
    public func detokenize(_ tokens: [Int32]) async throws -> String {
        let json = try await answer(
            to: .POST, "/detokenize", DetokenizeRequest(tokens: tokens).json,
            silence: timeouts.answer)
        guard let text = json["content"]?.string else { throw missing("content") }
        return text
    }

    /// The prompt that the model's template makes of a conversation (`POST /apply-template`).
    public func applyTemplate(_ request: ChatCompletionRequest) async throws -> String {
        let json = try await answer(
            to: .POST, "/apply-template", request.json, silence: timeouts.answer)
        guard let prompt = json["prompt"]?.string else { throw missing("prompt") }
        return prompt
    }

    /// Whether the server can answer.
    public struct Health: Sendable, Equatable {
        public var isReady: Bool
        /// The server's word for its state, such as `ok`, or why it is not ready.
        public var status: String
    }

    /// Whether the server can answer (`GET /health`). A server that is loading or stopping is no error.
    public func health() async throws -> Health {
        let exchange = try await exchange(.GET, "/health", nil, timeouts.answer)
        let bytes = try await exchange.rest(limitBytes: limitBytes)
        let json = (try? JSON(parsing: bytes)) ?? .null
        switch exchange.status {
        case 200: return Health(isReady: true, status: json["status"]?.string ?? "ok")
        case 503:
            let error = APIError(json: json, status: 503)
            return Health(isReady: false, status: json["status"]?.string ?? error.message)
        default:
            throw ClientError(APIError(json: json, status: exchange.status), from: address)
        }
    }

    /// What the server says of itself and its model (`GET /props`).
    public func props() async throws -> JSON {
        try await answer(to: .GET, "/props", silence: timeouts.answer)
    }

    /// The state of the expert cache and the memory by part (`GET /v1/sluice/cache`).
    public func cache() async throws -> JSON {
        try await answer(to: .GET, "/v1/sluice/cache", silence: timeouts.answer)
    }

    /// Changes how much memory the engine may have, while it runs (`POST /v1/sluice/cache`).
    ///
    /// - Parameter memory: bytes, or a size such as `3G`.
    /// - Returns: the state of the cache afterwards.
    @discardableResult
    public func resize(memory: String) async throws -> JSON {
        try await answer(
            to: .POST, "/v1/sluice/cache", CacheRequest(memory: memory).json,
            silence: timeouts.answer)
    }

    private func missing(_ name: String) -> ClientError {
        ClientError(.badResponse, "\(address): the answer has no usable '\(name)'")
    }
}
