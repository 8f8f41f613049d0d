import Glibc
import JSONTree
import Logging
import NIOHTTP1
import Synchronization
import Testing

@testable import Serving

/// A listener whose answers the test makes.
final class TestListener: Sendable {
    let directory: TemporaryDirectory
    let path: String
    let listener: HTTPListener
    private let socket: ListeningSocket

    init(
        limits: ServiceLimits = ServiceLimits(),
        isRefused: @escaping @Sendable (Peer) -> Bool = { _ in false },
        respond: @escaping @Sendable (HTTPRequest, HTTPAnswerWriter) async throws -> Void
    ) async throws {
        directory = try TemporaryDirectory()
        path = directory.path + "/s.sock"
        socket = try .unix(path, mode: 0o600, group: nil)
        listener = HTTPListener(
            limits: limits, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            isRefused: isRefused,
            respond: { request, writer in try? await respond(request, writer) })
        try await listener.listen(on: socket)
    }

    /// Ends it; a test that forgets leaves a thread behind.
    func close() async {
        await listener.close()
        socket.removeFile()
    }
}

/// Says what arrived.
@Sendable private func echo(_ request: HTTPRequest, _ writer: HTTPAnswerWriter) async throws {
    try await writer.send(
        HTTPAnswer(
            .ok, Array("\(request.method) \(request.path) \(request.body.count)".utf8),
            contentType: "text/plain"))
}

@Suite(.timeLimit(.minutes(5)))
struct HTTPTests {
    @Test func aConnectionServesManyRequests() async throws {
        let test = try await TestListener(respond: echo)
        let client = try RawClient(path: test.path)
        for _ in 0..<3 {
            let answer = try await client.ask("POST", "/a?b=c", body: "hello")
            #expect(answer.status == 200)
            #expect(answer.body == "POST /a 5")
        }
        #expect(test.listener.connectionCount == 1)
        await test.close()
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        let test = try await TestListener { request, writer in
            // The earlier takes longer.
            try await Task.sleep(for: .milliseconds(request.path == "/1" ? 50 : 0))
            try await echo(request, writer)
        }
        let client = try RawClient(path: test.path)
        client.send(
            "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
                + "GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        let all = try await client.receiveAll()
        let places = ["GET /1 0", "GET /2 0", "GET /3 0"].map { all.range(of: $0)?.lower }
        #expect(!places.contains(nil))
        #expect(places.compactMap { $0 }.sorted() == places.compactMap { $0 })
        await test.close()
    }

    @Test func headHasNoBodyAndTheSameLength() async throws {
        let test = try await TestListener(respond: echo)
        let client = try RawClient(path: test.path)
        client.send("HEAD /abc HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        let all = try await client.receiveAll()
        #expect(all.contains("content-length: 11\r\n"))
        #expect(all.hasSuffix("\r\n\r\n"))
        await test.close()
    }

    @Test func anOldClientGetsItsAnswerAndTheEnd() async throws {
        let test = try await TestListener { _, writer in
            try await writer.begin(.ok, headers: [("content-type", "text/plain")])
            try await writer.send(Array("one".utf8))
            try await writer.send(Array("two".utf8))
            try await writer.end()
        }
        let client = try RawClient(path: test.path)
        client.send("GET / HTTP/1.0\r\n\r\n")
        #expect(try await client.receiveAll().hasSuffix("\r\n\r\nonetwo"))
        await test.close()
    }

    @Test(arguments: [true, false])
    func aBodyThatIsTooLongIsRefused(isChunked: Bool) async throws {
        var limits = ServiceLimits()
        limits.bodyBytes = 1000
        let test = try await TestListener(limits: limits, respond: echo)
        let client = try RawClient(path: test.path)
        if isChunked {
            client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in 0..<3 {
                client.send("1f4\r\n\(String(repeating: "x", count: 500))\r\n")
            }
        } else {
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n")
        }
        let answer = try await client.answer()
        #expect(answer.status == 413)
        let error = try JSON(parsing: answer.body)["error"]
        #expect(error?["message"]?.string?.contains("1000 bytes") == true)
        #expect(answer.headers["connection"] == "close")
        let exact = try RawClient(path: test.path)
        #expect(
            try await exact.ask("POST", "/", body: String(repeating: "x", count: 1000)).status
                == 200)
        await test.close()
    }

    @Test(arguments: [
        ("\u{1}\u{2}\u{3}\r\n\r\n", 0, 400), ("GET / HTTP/9.9\r\n\r\n", 0, 400),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n", 0, 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: ", 40_000, 431),
    ])
    func whatIsNoRequestIsRefused(bytes: String, filling: Int, status: Int) async throws {
        let test = try await TestListener(respond: echo)
        let client = try RawClient(path: test.path)
        client.send(bytes + String(repeating: "y", count: filling) + "\r\n\r\n")
        let answer = try await client.answer()
        #expect(answer.status == status)
        #expect(try JSON(parsing: answer.body)["error"]?["message"]?.string != nil)
        #expect(try await RawClient(path: test.path).ask("GET", "/").status == 200)
        await test.close()
    }

    @Test func oneByteAtATimeIsARequest() async throws {
        let test = try await TestListener(respond: echo)
        let client = try RawClient(path: test.path)
        for byte in "POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab".utf8 {
            client.send([byte])
        }
        #expect(try await client.answer().body == "POST /slow 2")
        await test.close()
    }

    @Test func aHeadThatNeverEndsIsClosed() async throws {
        var limits = ServiceLimits()
        limits.headSeconds = 0.2
        let test = try await TestListener(limits: limits, respond: echo)
        let client = try RawClient(path: test.path)
        client.send("GET / HTTP/1.1\r\nhos")
        #expect(try await client.receiveAll() == "")
        await test.close()
    }

    @Test func aBodyThatNeverEndsIsRefused() async throws {
        var limits = ServiceLimits()
        limits.bodySeconds = 0.2
        let test = try await TestListener(limits: limits, respond: echo)
        let client = try RawClient(path: test.path)
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab")
        #expect(try await client.answer().status == 408)
        #expect(try await client.receive() == nil)
        await test.close()
    }

    @Test func aClientThatReadsNothingIsDropped() async throws {
        var limits = ServiceLimits()
        limits.stallSeconds = 0.3
        let ended = Mutex(false)
        let test = try await TestListener(limits: limits) { request, writer in
            guard request.path == "/endless" else { return try await echo(request, writer) }
            defer { ended.withLock { $0 = true } }
            try await writer.begin(.ok, headers: [])
            let piece = [UInt8](repeating: 65, count: 65_536)
            for _ in 0..<10_000 { try await writer.send(piece) }
            Issue.record("650 MB went to a client that reads nothing")
        }
        let client = try RawClient(path: test.path)
        client.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        while !ended.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(10)) }
        #expect(try await RawClient(path: test.path).ask("GET", "/none").status == 200)
        await test.close()
    }

    /// A client that is there, reads slowly and takes longer than the limit for the whole is served.
    @Test func aClientThatReadsSlowlyIsServed() async throws {
        var limits = ServiceLimits()
        limits.stallSeconds = 8
        let test = try await TestListener(limits: limits) { _, writer in
            try await writer.send(
                HTTPAnswer(.ok, [UInt8](repeating: 65, count: 4 << 20), contentType: "text/plain"))
        }
        let client = try RawClient(path: test.path)
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        var count = 0
        while let bytes = try await client.receive() {
            count += bytes.count
            try await Task.sleep(for: .milliseconds(150))
        }
        #expect(count > 4 << 20)
        await test.close()
    }

    @Test func aClientThatLeavesCancelsItsAnswer() async throws {
        let cancelled = Mutex(0)
        let test = try await TestListener { request, writer in
            guard request.path == "/wait" else { return try await echo(request, writer) }
            do {
                try await Task.sleep(for: .seconds(30))
            } catch {
                cancelled.withLock { $0 += 1 }
                throw error
            }
        }
        do {
            let client = try RawClient(path: test.path)
            client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
            // The request has to be there before its client is gone.
            while test.listener.connectionCount == 0 { await Task.yield() }
            try await Task.sleep(for: .milliseconds(50))
        }
        while cancelled.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await RawClient(path: test.path).ask("GET", "/health").status == 200)
        await test.close()
    }

    @Test func halfAnAnswerIsNotTakenForAWhole() async throws {
        let test = try await TestListener { _, writer in
            try await writer.begin(.ok, headers: [])
            try await writer.send(Array("half".utf8))
        }
        let client = try RawClient(path: test.path)
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        let all = try await client.receiveAll()
        #expect(all.contains("half"))
        // The empty chunk is what ends an answer.
        #expect(!all.contains("0\r\n\r\n"))
        await test.close()
    }

    @Test func oneConnectionTooManyIsTold() async throws {
        var limits = ServiceLimits()
        limits.connections = 2
        let test = try await TestListener(limits: limits, respond: echo)
        let first = try RawClient(path: test.path)
        let second = try RawClient(path: test.path)
        #expect(try await first.ask("GET", "/").status == 200)
        #expect(try await second.ask("GET", "/").status == 200)
        let answer = try await RawClient(path: test.path).ask("GET", "/")
        #expect(answer.status == 503)
        #expect(answer.headers["retry-after"] == "1")
        await test.close()
    }

    @Test func aPeerThatIsRefusedIsTold() async throws {
        let seen = Mutex<Peer?>(nil)
        let test = try await TestListener(
            isRefused: { peer in
                seen.withLock { $0 = peer }
                return true
            }, respond: echo)
        let client = try RawClient(path: test.path)
        let answer = try await client.ask("GET", "/")
        #expect(answer.status == 403)
        #expect(try JSON(parsing: answer.body)["error"]?["type"]?.string == "permission_error")
        #expect(try await client.receive() == nil)
        #expect(
            seen.withLock({ $0 }) == .process(user: getuid(), group: getgid(), id: getpid()))
        await test.close()
    }

    @Test func whatRunsIsFinishedWhenNothingNewIsAccepted() async throws {
        let test = try await TestListener { _, writer in
            try await writer.begin(.ok, headers: [])
            for _ in 0..<10 {
                try await writer.send(Array("x".utf8))
                try await Task.sleep(for: .milliseconds(20))
            }
            try await writer.end()
        }
        let client = try RawClient(path: test.path)
        let idle = try RawClient(path: test.path)
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        let begun = try await client.receive(until: "\r\n\r\n")
        await test.listener.stopAccepting()
        #expect(throws: (any Error).self) { _ = try RawClient(path: test.path) }
        #expect(try await idle.receive() == nil)
        let all = try await begun + client.receiveAll()
        #expect(all.hasSuffix("0\r\n\r\n"))
        await test.close()
    }
}
