import Glibc
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import OpenAIAPI
import Synchronization

/// Accepts connections of any number of sockets, on one event loop, and hands their requests over.
///
/// One thread moves all bytes: 50,000 events of a stream take it 0.3 s, and a board's other cores
/// have matrices to multiply.
final class HTTPListener: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let eventLoop: any EventLoop
    private let channels: Mutex<[any Channel]> = Mutex([])
    private let open: NIOLoopBoundBox<[ObjectIdentifier: HTTPConnection]>
    private let limits: ServiceLimits
    private let logger: Logger
    private let isRefused: @Sendable (Peer) -> Bool
    private let respond: @Sendable (HTTPRequest, HTTPAnswerWriter) async -> Void
    private let counter: ConnectionCounter

    /// Connections that are open now.
    var connectionCount: Int { counter.count }

    /// - Parameters:
    ///   - isRefused: Asked once for each connection, on the event loop; its requests are answered
    ///     with 403.
    ///   - respond: See `HTTPConnection`.
    init(
        limits: ServiceLimits, logger: Logger, counter: ConnectionCounter = ConnectionCounter(),
        isRefused: @escaping @Sendable (Peer) -> Bool,
        respond: @escaping @Sendable (HTTPRequest, HTTPAnswerWriter) async -> Void
    ) {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        eventLoop = group.next()
        open = .makeBoxSendingValue([:], eventLoop: eventLoop)
        self.limits = limits
        self.counter = counter
        self.logger = logger
        self.isRefused = isRefused
        self.respond = respond
    }

    /// Begins to accept on a socket, which is closed with the listener.
    func listen(on socket: ListeningSocket) async throws {
        let isUnix = if case .unix = socket.address { true } else { false }
        var bootstrap = ServerBootstrap(group: group)
        // A connection's first bytes may not be read before it is known whose they are.
        bootstrap = bootstrap.childChannelInitializer { [self] channel in
            HTTPListener.peer(of: channel, isUnix: isUnix).assumeIsolated().flatMapThrowing {
                [self] peer in
                try add(channel, peer)
            }.nonisolated()
        }
        if !isUnix {
            bootstrap = bootstrap.childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
        }
        let channel = try await bootstrap.withBoundSocket(socket.descriptor).get()
        channels.withLock { $0.append(channel) }
    }

    private static func peer(of channel: any Channel, isUnix: Bool) -> EventLoopFuture<Peer> {
        guard isUnix, let provider = channel as? any SocketOptionProvider else {
            let address = channel.remoteAddress
            let host = address?.ipAddress ?? "unknown"
            return channel.eventLoop.makeSucceededFuture(
                .address("\(host):\(address?.port ?? 0)"))
        }
        let credentials: EventLoopFuture<PeerCredentials> = provider.unsafeGetSocketOption(
            level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
        return credentials.map { .process(user: $0.uid, group: $0.gid, id: $0.pid) }
    }

    /// Puts a connection together; on the event loop.
    private func add(_ channel: any Channel, _ peer: Peer) throws {
        let number = counter.add(1)
        channel.closeFuture.assumeIsolated().whenComplete { [self] _ in
            _ = counter.add(-1)
            open.value[ObjectIdentifier(channel)] = nil
        }
        if number > limits.connections + ServiceLimits.refusedConnections {
            return channel.close(promise: nil)
        }
        var respond = respond
        var limits = limits
        if number > limits.connections {
            limits.headSeconds = min(limits.headSeconds, 2)
            logger.warning("connection of \(peer) refused: \(limits.connections) are open")
            respond = HTTPListener.refusing(
                .unavailable(
                    "All \(limits.connections) connections of this service are in use.",
                    retryAfterSeconds: 1))
        } else if isRefused(peer) {
            logger.notice("connection of \(peer) refused: not among the users that are allowed")
            respond = HTTPListener.refusing(
                .forbidden(
                    "\(peer) may not use this service; its administrator can name the user in "
                        + "allowed_users, or one of its groups in allowed_groups."))
        } else {
            logger.debug("connection of \(peer)")
        }
        var decoder = NIOHTTPDecoderLimitConfiguration()
        decoder.maxHeaderFieldSize = ServiceLimits.headerBytes
        decoder.maxHeaderListSize = ServiceLimits.headerBytes
        decoder.maxHeaderFieldCount = ServiceLimits.headerFields
        try channel.pipeline.syncOperations.configureHTTPServerPipeline(
            withPipeliningAssistance: true, withErrorHandling: false,
            withOutboundHeaderValidation: true, withEncoderConfiguration: .init(),
            withDecoderLimitConfiguration: decoder)
        let connection = HTTPConnection(
            peer: peer, limits: limits, eventLoop: eventLoop, respond: respond)
        open.value[ObjectIdentifier(channel)] = connection
        try channel.pipeline.syncOperations.addHandler(connection)
    }

    /// Answers every request alike, and closes behind it.
    private static func refusing(
        _ error: APIError
    ) -> @Sendable (HTTPRequest, HTTPAnswerWriter) async -> Void {
        { _, writer in
            // A client that is gone has nothing to be told.
            try? await writer.send(HTTPAnswer(error))
            writer.close()
        }
    }

    /// Accepts no more. What is on its way goes on; connections close behind it.
    func stopAccepting() async {
        for channel in channels.withLock({ $0 }) {
            // It can only have been closed already.
            try? await channel.close()
        }
        let open = open
        eventLoop.execute { for connection in open.value.values { connection.quiesce() } }
    }

    /// Closes whatever is open and ends the thread.
    func close() async {
        await stopAccepting()
        let open = open
        eventLoop.execute { for connection in open.value.values { connection.close() } }
        // Fails only where it has been shut down before.
        try? await group.shutdownGracefully()
    }
}

/// How many connections are open.
final class ConnectionCounter: Sendable {
    private let number = Atomic(0)

    var count: Int { number.load(ordering: .relaxed) }

    /// Adds to it, and returns the sum.
    func add(_ difference: Int) -> Int { number.add(difference, ordering: .relaxed).newValue }
}
