import NIOHTTP1

extension SluiceClient {
    /// The model's answer to a conversation, when it is whole (`POST /v1/chat/completions`).
    public func chat(_ request: ChatCompletionRequest) async throws -> ChatCompletion {
        var request = request
        request.streams = false
        let json = try await answer(
            to: .POST, "/v1/chat/completions", request.json, silence: timeouts.generation)
        return try decoding { () throws(ResponseError) in try ChatCompletion(json: json) }
    }

    /// The model's answer to a conversation, as it comes. The last chunk tells the usage where
    /// `request.includesUsage` is set.
    public func streamChat(_ request: ChatCompletionRequest) -> ResponseStream<ChatChunk> {
        var request = request
        request.streams = true
        return events("/v1/chat/completions", request.json) { json throws(ResponseError) in
            try ChatChunk(json: json)
        }
    }

    /// What follows a text or several, when it is whole (`POST /v1/completions`).
    public func complete(_ request: CompletionRequest) async throws -> Completion {
        var request = request
        request.streams = false
        let json = try await answer(
            to: .POST, "/v1/completions", request.json, silence: timeouts.generation)
        return try decoding { () throws(ResponseError) in try Completion(json: json) }
    }

    /// What follows a text or several, as it comes.
    public func streamComplete(_ request: CompletionRequest) -> ResponseStream<Completion> {
        var request = request
        request.streams = true
        return events("/v1/completions", request.json) { json throws(ResponseError) in
            try Completion(json: json)
        }
    }

    func decoding<Value>(_ decode: () throws(ResponseError) -> Value) throws(ClientError) -> Value {
        do {
            return try decode()
        } catch {
            throw ClientError(.badResponse, "\(address): \(error)")
        }
    }
}
