@_exported public import JSONTree
import NIOHTTP1
@_exported public import OpenAIAPI

/// A Sluice server, as a program on the same board uses it: over its Unix socket, typed, streaming.
///
/// ```swift
/// import SluiceClient
///
/// let sluice = SluiceClient()
/// var request = ChatCompletionRequest(messages: [
///     ChatMessage(role: .system, content: "Answer in one sentence."),
///     ChatMessage(role: .user, content: "Why is the sky blue?"),
/// ])
/// request.maximumTokens = 100
/// for try await chunk in sluice.streamChat(request) {
///     print(chunk.choices.first?.delta.content ?? "", terminator: "")
/// }
/// ```
///
/// A value may be used by any number of tasks at once. Each call has a connection of its own, which is
/// closed when the call ends. Cancelling the task that waits for an answer closes it at once; the
/// server then gives the answer up.
///
/// Every call throws `ClientError`, or `CancellationError` in a cancelled task.
public struct SluiceClient: Sendable {
    public let address: Address
    public let timeouts: Timeouts
    private let apiKey: String?
    /// Longest answer, and longest event of one that is streamed: beyond any context with all its
    /// logprobs, and little enough memory for a board.
    var limitBytes = 64 << 20

    /// How long to wait.
    public struct Timeouts: Sendable, Equatable {
        /// For a connection.
        public var connect: Duration = .seconds(5)
        /// For each sign of life in calls that compute no token.
        public var answer: Duration = .seconds(60)
        /// For each sign of life in an answer of the model. Nil, the default, waits as long as the
        /// connection stands: a long prompt takes a board minutes, and a server that hangs is ended by
        /// its watchdog, and with it the connection.
        public var generation: Duration?

        public init() {}
    }

    /// - Parameters:
    ///   - apiKey: Where the server asks for one.
    ///   - timeouts: See `Timeouts`.
    public init(
        _ address: Address = .standard, apiKey: String? = nil, timeouts: Timeouts = Timeouts()
    ) {
        self.address = address
        self.apiKey = apiKey
        self.timeouts = timeouts
    }

    /// Sends a request whose answer is one JSON document.
    func answer(
        to method: HTTPMethod, _ path: String, _ body: JSON? = nil, silence: Duration?
    ) async throws -> JSON {
        let exchange = try await open(method, path, body, silence)
        let bytes = try await exchange.rest(limitBytes: limitBytes)
        do {
            return try JSON(parsing: bytes)
        } catch {
            throw ClientError(.badResponse, "\(address): the answer is no JSON: \(error)")
        }
    }

    /// Sends a request whose answer is a stream of events.
    func events<Element>(
        _ path: String, _ body: JSON,
        _ decode: @escaping @Sendable (JSON) throws(ResponseError) -> Element
    ) -> ResponseStream<Element> {
        ResponseStream(
            open: {
                let exchange = try await open(.POST, path, body, timeouts.generation)
                let type = exchange.headers["content-type"] ?? "none"
                guard type.lowercased().hasPrefix("text/event-stream") else {
                    throw ClientError(
                        .badResponse,
                        "\(address): expected an answer of type text/event-stream, found \(type); "
                            + "is this a Sluice server?")
                }
                return exchange
            }, address: address, limitBytes: limitBytes, decode: decode)
    }

    /// - Throws: `ClientError` of kind `refused` for every status that is no success.
    private func open(
        _ method: HTTPMethod, _ path: String, _ body: JSON?, _ silence: Duration?
    ) async throws -> Exchange {
        let exchange = try await exchange(method, path, body, silence)
        if (200..<300).contains(exchange.status) { return exchange }
        let bytes = try await exchange.rest(limitBytes: limitBytes)
        var error = APIError(json: (try? JSON(parsing: bytes)) ?? .null, status: exchange.status)
        error.retryAfterSeconds = exchange.headers["retry-after"].flatMap { Int($0) }
        throw ClientError(error, from: address)
    }

    /// Sends a request and takes whatever status comes back.
    func exchange(
        _ method: HTTPMethod, _ path: String, _ body: JSON?, _ silence: Duration?
    ) async throws -> Exchange {
        var headers: HTTPHeaders = ["connection": "close"]
        switch address {
        case .socket: headers.add(name: "host", value: "localhost")
        case .tcp: headers.add(name: "host", value: "\(address)")
        }
        if let apiKey {
            guard apiKey.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
                throw ClientError(
                    .badRequest,
                    "\(address): the API key has characters other than ASCII's visible ones; "
                        + "give it without spaces and line ends")
            }
            headers.add(name: "authorization", value: "Bearer \(apiKey)")
        }
        var bytes: [UInt8] = []
        if let body {
            body.appendText(to: &bytes)
            headers.add(name: "content-type", value: "application/json")
            headers.add(name: "content-length", value: "\(bytes.count)")
        }
        return try await Exchange(
            Exchange.Request(method: method, path: path, headers: headers, body: bytes),
            to: address, connecting: timeouts.connect, silence: silence)
    }
}
