import CHost
import Logging
import NIOHTTP1
import OpenAIAPI

/// One request on its way through the endpoints: what was asked, by whom, what was answered, and
/// what the log will say about it. Belongs to one task.
final class Exchange {
    let request: HTTPRequest
    /// In the answer's x-request-id and in the log.
    let id: String
    let logger: Logger
    let startNanoseconds = host_nanoseconds()
    private let writer: HTTPAnswerWriter
    /// Of the answer, as soon as it has begun.
    private(set) var status: Int?
    /// Set by endpoints that generate.
    var usage: ExchangeUsage?

    init(_ request: HTTPRequest, _ writer: HTTPAnswerWriter, logger: Logger) {
        self.request = request
        self.writer = writer
        id = Exchange.newID("req_")
        var logger = logger
        logger[metadataKey: "request-id"] = "\(id)"
        logger[metadataKey: "peer"] = "\(request.peer)"
        if case .process(let user, _, _) = request.peer {
            logger[metadataKey: "peer-uid"] = "\(user)"
        }
        self.logger = logger
    }

    /// A prefix and 24 random hexadecimal digits.
    static func newID(_ prefix: String) -> String {
        var digits = ""
        for _ in 0..<2 {
            let text = String(UInt64.random(in: 0...0xFFFF_FFFF_FFFF), radix: 16)
            digits += String(repeating: "0", count: 12 - text.utf8.count) + text
        }
        return prefix + digits
    }

    var seconds: Double { Double(host_nanoseconds() - startNanoseconds) / 1e9 }

    /// Sends a whole answer. Throws when the client is gone.
    func send(_ answer: HTTPAnswer) async throws {
        var answer = answer
        answer.headers.append(("x-request-id", id))
        status = Int(answer.status.code)
        try await writer.send(answer)
    }

    func send(_ error: APIError) async throws { try await send(HTTPAnswer(error)) }

    /// Begins a stream of server-sent events.
    func beginEvents() async throws {
        status = 200
        try await writer.begin(
            .ok,
            headers: [
                ("content-type", "text/event-stream"), ("cache-control", "no-cache"),
                // A proxy that collects a stream before it passes it on makes it none.
                ("x-accel-buffering", "no"), ("x-request-id", id),
            ])
    }

    /// Sends events, or the end of them.
    func sendEvents(_ bytes: [UInt8]) async throws { try await writer.send(bytes) }
    func endEvents() async throws { try await writer.end() }
}

/// What a generation took, for the log.
struct ExchangeUsage: Sendable {
    var promptTokens = 0
    var cachedTokens = 0
    var completionTokens = 0
    var decodeSeconds = 0.0
}
