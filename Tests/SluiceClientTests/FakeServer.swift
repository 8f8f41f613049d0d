import Foundation
import NIOCore
import NIOPosix
import SluiceClient
import Synchronization

/// A server that does with each connection what a test says, byte for byte.
struct FakeServer: Sendable {
    /// Of its Unix socket.
    let path: String
    private let listener: NIOAsyncChannel<NIOAsyncChannel<ByteBuffer, ByteBuffer>, Never>

    /// Serves connections with `answer` while `body` runs; by TCP if `port` is there to take the port.
    static func run<Result: Sendable>(
        port: Counter? = nil,
        answer: @escaping @Sendable (Connection) async throws -> Void,
        _ body: @Sendable (FakeServer) async throws -> Result
    ) async throws -> Result {
        let path = "/tmp/sluice-client-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let address =
            try port == nil
            ? SocketAddress(unixDomainSocketPath: path)
            : SocketAddress(ipAddress: "127.0.0.1", port: 0)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(to: address) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                        wrappingChannelSynchronously: channel)
                }
            }
        port?.add(listener.channel.localAddress?.port ?? 0)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let server = FakeServer(path: path, listener: listener)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.serve(answer) }
            let result = try await body(server)
            group.cancelAll()
            return result
        }
    }

    /// A client of this server.
    func client(_ timeouts: SluiceClient.Timeouts = .init(), apiKey: String? = nil) -> SluiceClient
    {
        SluiceClient(.socket(path), apiKey: apiKey, timeouts: timeouts)
    }

    private func serve(_ answer: @escaping @Sendable (Connection) async throws -> Void) async throws
    {
        try await withThrowingDiscardingTaskGroup { group in
            try await listener.executeThenClose { connections in
                for try await connection in connections {
                    group.addTask {
                        // What goes wrong with a connection is what the client did, or the test's
                        // end; the client's side is what is looked at.
                        try? await connection.executeThenClose { inbound, outbound in
                            var reader = inbound.makeAsyncIterator()
                            let request = try await Self.request(&reader)
                            try await answer(
                                Connection(request: request, reader: reader, writer: outbound))
                        }
                    }
                }
            }
        }
    }

    /// Reads the head of a request and as many bytes of a body as it announces.
    private static func request(
        _ reader: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    ) async throws -> Request {
        var bytes: [UInt8] = []
        while true {
            if let end = String(decoding: bytes, as: UTF8.self).range(of: "\r\n\r\n") {
                let text = String(decoding: bytes, as: UTF8.self)
                let head = String(text[..<end.lowerBound])
                let body = String(text[end.upperBound...])
                let length = head.lowercased().split(separator: "\r\n")
                    .first { $0.hasPrefix("content-length: ") }
                    .flatMap { Int($0.dropFirst("content-length: ".count)) }
                if body.utf8.count >= length ?? 0 { return Request(head: head, body: body) }
            }
            guard let more = try await reader.next() else { throw CancellationError() }
            bytes.append(contentsOf: more.readableBytesView)
        }
    }
}

struct Request: Sendable {
    let head: String
    let body: String
}

/// One connection, after its request.
struct Connection {
    let request: Request
    let reader: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    let writer: NIOAsyncChannelOutboundWriter<ByteBuffer>

    func send(_ text: String) async throws { try await send(Array(text.utf8)) }

    func send(_ bytes: some Sequence<UInt8>) async throws {
        try await writer.write(ByteBuffer(bytes: bytes))
    }

    /// Returns when the client has closed.
    func untilClosed() async throws {
        var reader = reader
        while try await reader.next() != nil {}
    }
}

/// What one side of a test tells the other.
final class Signal: Sendable {
    private let stream = AsyncStream.makeStream(of: Void.self)

    func send() { stream.continuation.yield() }

    func wait() async {
        for await _ in stream.stream { return }
    }
}

final class Counter: Sendable {
    private let count = Mutex(0)

    func add(_ more: Int) { count.withLock { $0 += more } }

    var value: Int { count.withLock { $0 } }
}

/// Responses as they go over the wire.
enum Wire {
    static func json(_ body: String, status: String = "200 OK", headers: String = "") -> String {
        "HTTP/1.1 \(status)\r\ncontent-type: application/json\r\n\(headers)content-length: "
            + "\(body.utf8.count)\r\n\r\n\(body)"
    }

    static let eventStreamHead =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    static func chunk(_ text: String) -> String {
        "\(String(text.utf8.count, radix: 16))\r\n\(text)\r\n"
    }

    static let lastChunk = "0\r\n\r\n"

    /// A comment, as long as the buffers of sockets are small.
    static let bulk = chunk(": " + String(repeating: "x", count: 60_000) + "\n\n")

    /// A chunk of a chat whose delta is `text`.
    static func delta(_ text: String) -> String {
        #"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"#
            + #""index":0,"delta":{"content":"\#(text)"},"finish_reason":null}]}"# + "\n\n"
    }
}
