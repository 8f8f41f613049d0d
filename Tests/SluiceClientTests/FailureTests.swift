import Foundation
import NIOCore
import NIOPosix
import Testing

@testable import SluiceClient

struct FailureTests {
    static let question = AnswerTests.question

    /// What a call that must fail throws.
    private func error(
        _ client: SluiceClient,
        _ call: (SluiceClient) async throws -> Void = {
            _ = try await $0.chat(question)
        }
    ) async -> ClientError? {
        await #expect(throws: ClientError.self) { try await call(client) }
    }

    // MARK: no connection

    @Test func `a missing socket is named, with what to do`() async {
        let error = await error(SluiceClient(.socket("/tmp/no-such-sluice.sock")))
        #expect(error?.kind == .unreachable)
        #expect(
            error?.description
                == "/tmp/no-such-sluice.sock: no such socket; start the service (systemctl start "
                + "sluice.socket) or name one with --socket")
    }

    @Test func `a socket that nobody listens on is told from a missing one`() async throws {
        let path = "/tmp/sluice-client-stale-\(getpid())"
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { unsafe unlink(path) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            unsafe bytes.copyBytes(from: path.utf8)
        }
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        #expect(bound == 0)
        close(descriptor)
        let error = await error(SluiceClient(.socket(path)))
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("nobody listens on this socket; start") == true)
    }

    @Test(arguments: ["", String(repeating: "x", count: 200)])
    func `a path that no socket can have is refused`(_ path: String) async {
        let error = await error(SluiceClient(.socket(path)))
        #expect(error?.kind == .unreachable)
        #expect(error?.description.contains("not a path that a socket can have") == true)
    }

    @Test func `a TCP port that nobody listens on is refused with what to do`() async {
        // Port 1 is reserved (tcpmux), and bound by nothing.
        let error = await error(SluiceClient(.tcp(host: "127.0.0.1", port: 1)))
        #expect(error?.kind == .unreachable)
        #expect(
            error?.description
                == "127.0.0.1:1: connection refused; start a server there (sluice serve --listen "
                + "127.0.0.1:1)")
    }

    @Test func `an API key that is no header value is refused before anything is sent`() async {
        let client = SluiceClient(.socket("/tmp/no-such-sluice.sock"), apiKey: "a\r\nb: c")
        #expect(await error(client)?.kind == .badRequest)
    }

    // MARK: refusals

    @Test func `a refusal keeps OpenAI's members and the time to wait`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(
                Wire.json(
                    #"{"error":{"message":"The queue is full.","type":"requests","param":null,"#
                        + #""code":"rate_limit_exceeded"}}"#,
                    status: "429 Too Many Requests", headers: "Retry-After: 7\r\n"))
        } _: { server async throws in
            for call in [Self.whole, Self.streamed] {
                let error = await error(server.client(), call)
                #expect(
                    error?.apiError
                        == APIError(
                            status: 429, message: "The queue is full.", type: "requests",
                            code: "rate_limit_exceeded", retryAfterSeconds: 7))
                #expect(
                    error?.description
                        == "\(server.path): The queue is full. (status 429); try again in 7 s")
            }
        }
    }

    static let whole: @Sendable (SluiceClient) async throws -> Void = {
        _ = try await $0.chat(question)
    }
    static let streamed: @Sendable (SluiceClient) async throws -> Void = {
        _ = try await $0.streamChat(question).text()
    }

    @Test(arguments: ["", "<html>no</html>", "[]", "\"x\"", "{\"error\":\"plain words\"}"])
    func `a refusal in another shape keeps its status`(_ body: String) async throws {
        try await FakeServer.run { connection in
            try await connection.send(Wire.json(body, status: "500 Internal Server Error"))
        } _: { server async throws in
            #expect(await error(server.client())?.apiError?.status == 500)
        }
    }

    @Test func `an answer to a long request may come before the request is read`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(
                Wire.json(
                    #"{"error":{"message":"too long","type":"x"}}"#,
                    status: "413 Content Too Large"))
        } _: { server async throws in
            let long = ChatCompletionRequest(messages: [
                ChatMessage(role: .user, content: String(repeating: "x", count: 4 << 20))
            ])
            let error = await error(server.client()) { _ = try await $0.chat(long) }
            #expect(error?.apiError?.status == 413)
        }
    }

    @Test func `an answer that fails after it has begun throws what came`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(
                Wire.eventStreamHead + Wire.chunk(Wire.delta("x"))
                    + Wire.chunk(
                        "data: {\"error\":{\"message\":\"the disk\\nfailed\",\"type\":\"y\"}}\n\n")
                    + Wire.lastChunk)
        } _: { server async throws in
            var pieces = 0
            do {
                for try await _ in server.client().streamChat(Self.question) { pieces += 1 }
                Issue.record("the stream ended as if it were whole")
            } catch let error as ClientError {
                #expect(error.apiError?.message == "the disk\nfailed")
                #expect(error.description == "\(server.path): the disk failed")
            }
            #expect(pieces == 1)
        }
    }

    // MARK: hostile and broken servers

    static let broken: [(response: String, kind: ClientError.Kind)] = [
        ("", .connectionLost),
        ("HTTP/1.1 200 O", .connectionLost),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", .connectionLost),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{", .connectionLost),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", .connectionLost),
        ("SSH-2.0-OpenSSH_9.2\r\n", .badResponse),
        ("HTTP/1.1 abc\r\n\r\n", .badResponse),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}", .badResponse),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n{}", .badResponse),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", .badResponse),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
            .badResponse
        ),
        (
            "HTTP/1.1 200 OK\r\nx: " + String(repeating: "y", count: 1 << 20) + "\r\n\r\n",
            .badResponse
        ),
        (
            "HTTP/1.1 200 OK\r\n" + String(repeating: "x: y\r\n", count: 10_000) + "\r\n",
            .badResponse
        ),
        (Wire.json("{\"a\":"), .badResponse),
        (Wire.json("{}"), .badResponse),
        (Wire.json("[[[["), .badResponse),
        (Wire.json("{\"choices\":7}"), .badResponse),
    ]

    @Test(arguments: broken)
    func `a response that is none is an error of its kind`(
        _ broken: (response: String, kind: ClientError.Kind)
    ) async throws {
        try await FakeServer.run { connection in
            try await connection.send(broken.response)
        } _: { server async throws in
            let error = await error(server.client())
            #expect(error?.kind == broken.kind, "\(error?.description ?? "")")
            #expect(error?.description.hasPrefix(server.path) == true)
            #expect(error?.description.contains("\n") == false)
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `a server that hangs up before it is asked is an error, whenever it does`() async throws {
        let path = "/tmp/sluice-client-hangup-\(getpid())"
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { $0.close() }
            .bind(unixDomainSocketPath: path).get()
        for _ in 0..<200 {
            let error = await error(SluiceClient(.socket(path)))
            #expect(error?.kind == .connectionLost, "\(error?.description ?? "")")
        }
        try await listener.close()
        unsafe unlink(path)
    }

    static let brokenStreams: [(response: String, kind: ClientError.Kind)] = [
        (Wire.eventStreamHead, .connectionLost),
        (Wire.eventStreamHead + Wire.chunk(Wire.delta("x")), .connectionLost),
        (Wire.eventStreamHead + Wire.chunk(Wire.delta("x")) + Wire.lastChunk, .connectionLost),
        (Wire.eventStreamHead + Wire.chunk("data: {\n\n"), .badResponse),
        (Wire.eventStreamHead + Wire.chunk("data: {}\n\n"), .badResponse),
        (Wire.eventStreamHead + Wire.chunk("data\n\n"), .badResponse),
        (Wire.json(AnswerTests.completion), .badResponse),
    ]

    @Test(arguments: brokenStreams)
    func `a stream that is none is an error of its kind`(
        _ broken: (response: String, kind: ClientError.Kind)
    ) async throws {
        try await FakeServer.run { connection in
            try await connection.send(broken.response)
        } _: { server async throws in
            let error = await error(server.client(), Self.streamed)
            #expect(error?.kind == broken.kind, "\(error?.description ?? "")")
        }
    }

    @Test func `an event and an answer without end come up against a limit`() async throws {
        let megabyte = String(repeating: "x", count: 1 << 20)
        try await FakeServer.run { connection in
            let isStream = connection.request.body.contains("\"stream\":true")
            try await connection.send(
                isStream
                    ? Wire.eventStreamHead
                    : "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            if isStream { try await connection.send(Wire.chunk("data: ")) }
            while true { try await connection.send(Wire.chunk(megabyte)) }
        } _: { server async throws in
            var client = server.client()
            client.limitBytes = 3 << 20
            for (call, words) in [
                (Self.whole, "the answer is longer than 3 MiB"),
                (Self.streamed, "an event of the answer is longer than 3 MiB"),
            ] {
                let error = await error(client, call)
                #expect(error?.description == "\(server.path): \(words)")
            }
        }
    }

    /// Valid responses, with bytes changed, lost and doubled at random places: whatever comes, a call
    /// ends, with an answer or with an error of ours.
    @Test func `damaged responses end in an answer or in an error`() async throws {
        let responses = [
            Wire.json(AnswerTests.completion),
            Wire.eventStreamHead + Wire.chunk(Wire.delta("a")) + Wire.chunk(Wire.delta("b"))
                + Wire.chunk("data: [DONE]\n\n") + Wire.lastChunk,
        ]
        try await FakeServer.run { connection in
            let seed = try JSON(parsing: connection.request.body)["seed"]?.integer ?? 0
            var random = SplitMix(state: UInt64(seed))
            var bytes = Array(responses[seed % 2].utf8)
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = .random(in: 0 ... .max, using: &random)
                case 1: bytes[place] ^= 1 << Int.random(in: 0..<8, using: &random)
                case 2: bytes.remove(at: place)
                default: bytes.insert(bytes[place], at: place)
                }
            }
            try await connection.send(bytes)
        } _: { server async throws in
            for seed in 0..<600 {
                var request = Self.question
                request.sampling.seed = seed
                do {
                    if seed % 2 == 0 {
                        _ = try await server.client().chat(request)
                    } else {
                        _ = try await server.client().streamChat(request).text()
                    }
                } catch is ClientError {
                } catch {
                    Issue.record("seed \(seed): \(error)")
                }
            }
        }
    }

    // MARK: silence

    @Test func `silence is an error where a limit is set`() async throws {
        try await FakeServer.run { connection in
            if connection.request.body.contains("\"stream\":true") {
                try await connection.send(Wire.eventStreamHead + Wire.chunk(Wire.delta("x")))
            }
            try await connection.untilClosed()
        } _: { server async throws in
            var timeouts = SluiceClient.Timeouts()
            timeouts.answer = .milliseconds(50)
            timeouts.generation = .milliseconds(50)
            for call in [
                Self.whole, Self.streamed,
                { @Sendable in _ = try await $0.health() }
                    as @Sendable (SluiceClient) async throws
                    -> Void,
            ] {
                let error = await error(server.client(timeouts), call)
                #expect(error?.kind == .timedOut)
                #expect(
                    error?.description
                        == "\(server.path): the server said nothing for 0.05 seconds; allow more "
                        + "time, or look at its log (journalctl -u sluice)")
            }
        }
    }

    @Test func `a reader's own pause is no silence of the server`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(Wire.eventStreamHead)
            for _ in 0..<100 { try await connection.send(Wire.bulk + Wire.chunk(Wire.delta("x"))) }
            try await connection.send(Wire.chunk("data: [DONE]\n\n") + Wire.lastChunk)
            try await connection.untilClosed()
        } _: { server async throws in
            var timeouts = SluiceClient.Timeouts()
            timeouts.generation = .seconds(10)
            var read = 0
            for try await _ in server.client(timeouts).streamChat(Self.question) {
                read += 1
                if read == 1 { try await Task.sleep(for: .seconds(12)) }
            }
            #expect(read == 100)
        }
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
