import SluiceClient
import Testing

/// Whoever gives an answer up closes its connection: that is how the server learns of it.
///
///     client's task              server
///     sends the request          reads it; sends nothing, or a first piece
///     is cancelled, or leaves    sees the connection close
struct CancellationTests {
    static let question = AnswerTests.question

    /// Runs `call` against a server that sends `first` and then waits for the client to close.
    /// Returns when it has; `isReached` tells the test that the request is there.
    private func closing(
        afterSending first: String,
        _ call: @escaping @Sendable (SluiceClient, _ isReached: Signal) async throws -> Void
    ) async throws {
        let isReached = Signal()
        let isClosed = Signal()
        try await FakeServer.run { connection in
            if !first.isEmpty { try await connection.send(first) }
            isReached.send()
            // A client that closes with bytes unread resets the connection.
            try? await connection.untilClosed()
            isClosed.send()
        } _: { server async throws in
            try await call(server.client(), isReached)
            await isClosed.wait()
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `a cancelled call closes the connection`() async throws {
        try await closing(afterSending: "") { client, isReached in
            let call = Task { try await client.chat(Self.question) }
            await isReached.wait()
            call.cancel()
            await #expect(throws: CancellationError.self) { try await call.value }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `a cancelled call closes the connection in mid-answer`() async throws {
        try await closing(
            afterSending: "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":"
        ) { client, isReached in
            let call = Task { try await client.chat(Self.question) }
            await isReached.wait()
            call.cancel()
            await #expect(throws: CancellationError.self) { try await call.value }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `a cancelled reader of a stream closes the connection`() async throws {
        try await closing(
            afterSending: Wire.eventStreamHead + Wire.chunk(Wire.delta("x"))
        ) { client, _ in
            let hasFirst = Signal()
            let reader = Task {
                for try await _ in client.streamChat(Self.question) { hasFirst.send() }
            }
            await hasFirst.wait()
            reader.cancel()
            await #expect(throws: CancellationError.self) { try await reader.value }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `leaving the loop closes the connection`() async throws {
        try await closing(
            afterSending: Wire.eventStreamHead + Wire.chunk(Wire.delta("x"))
        ) { client, _ in
            for try await _ in client.streamChat(Self.question) { break }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `a call in a task that is cancelled already sends nothing`() async throws {
        let requests = Counter()
        try await FakeServer.run { _ in
            requests.add(1)
        } _: { server async throws in
            let call = Task {
                while !Task.isCancelled { await Task.yield() }
                return try await server.client().chat(Self.question)
            }
            call.cancel()
            await #expect(throws: CancellationError.self) { try await call.value }
        }
        #expect(requests.value == 0)
    }
}
