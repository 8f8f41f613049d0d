import NIOCore
import NIOHTTP1
import OpenAIAPI

/// A whole request, its body included.
struct HTTPRequest: Sendable {
    var method: HTTPMethod
    /// Without the query.
    var path: String
    var query: String
    var headers: HTTPHeaders
    var body: [UInt8]
    var peer: Peer

    /// The value of a header field; of several, the first.
    func header(_ name: String) -> String? { headers.first(name: name) }
}

/// An answer that is there as a whole.
struct HTTPAnswer: Sendable {
    var status: HTTPResponseStatus
    var headers: [(String, String)] = []
    var body: [UInt8] = []
    var contentType = "application/json"

    init(_ status: HTTPResponseStatus, _ body: [UInt8], contentType: String = "application/json") {
        self.status = status
        self.body = body
        self.contentType = contentType
    }

    init(_ error: APIError) {
        self.init(HTTPResponseStatus(statusCode: error.status), error.body)
        if let seconds = error.retryAfterSeconds { headers.append(("retry-after", "\(seconds)")) }
    }
}

/// Writes the one answer of a request. Its methods return when the client has taken what they
/// wrote, as far as the kernel's buffer is not enough: a slow client slows its own answer and
/// nothing else, and one that takes nothing for `ServiceLimits.stallSeconds` loses its connection.
///
/// All of them throw when the connection is gone.
struct HTTPAnswerWriter: Sendable {
    let connection: NIOLoopBound<HTTPConnection>
    let eventLoop: any EventLoop
    /// Of the connection's requests, which: an answer that comes late is not the next one's.
    let number: UInt64
    /// A request for the head alone: no body may follow.
    let isHead: Bool

    /// Sends a whole answer.
    func send(_ answer: HTTPAnswer) async throws {
        var headers = HTTPHeaders(answer.headers)
        if !answer.body.isEmpty || answer.status.mayHaveResponseBody {
            headers.add(name: "content-length", value: "\(answer.body.count)")
        }
        if !answer.body.isEmpty { headers.add(name: "content-type", value: answer.contentType) }
        // In pieces, because what counts as progress of a slow client is a piece that it has taken.
        let body = isHead ? [] : answer.body
        var start = min(body.count, HTTPAnswerWriter.pieceBytes)
        try await write(
            head: (answer.status, headers), bytes: Array(body[..<start]), isEnd: start == body.count
        )
        while start < body.count {
            let end = min(start + HTTPAnswerWriter.pieceBytes, body.count)
            try await write(head: nil, bytes: Array(body[start..<end]), isEnd: end == body.count)
            start = end
        }
    }

    private static let pieceBytes = 64 << 10

    /// Begins an answer that comes in pieces.
    func begin(_ status: HTTPResponseStatus, headers: [(String, String)]) async throws {
        try await write(head: (status, HTTPHeaders(headers)), bytes: [], isEnd: false)
    }

    /// Sends a piece.
    func send(_ bytes: [UInt8]) async throws {
        if !isHead { try await write(head: nil, bytes: bytes, isEnd: false) }
    }

    /// Ends an answer that came in pieces.
    func end() async throws { try await write(head: nil, bytes: [], isEnd: true) }

    private func write(
        head: (HTTPResponseStatus, HTTPHeaders)?, bytes: [UInt8], isEnd: Bool
    ) async throws {
        try await eventLoop.flatSubmit {
            connection.value.write(number, head: head, bytes: bytes, isEnd: isEnd)
        }.get()
    }

    /// Closes the connection.
    func close() { eventLoop.execute { connection.value.close() } }

    /// Closes the connection unless the answer is complete: half of one must not look like a whole.
    func abandonUnlessEnded() {
        eventLoop.execute { connection.value.abandon(number) }
    }
}
