import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix

/// One request and its response, over a connection of their own.
///
/// A connection to a Unix socket costs less than a millisecond, and a token tens of them; for that
/// there is no pool whose idle connections the server may have closed, and giving up an answer is
/// closing its connection, which is what frees the server's slot.
struct Exchange: Sendable {
    let status: Int
    /// By their names in lower case.
    let headers: [String: String]
    private let address: SluiceClient.Address
    private let owner = MailboxOwner()

    /// Sends a request and waits for the response's head.
    ///
    /// - Parameter silence: how long the server may say nothing; nil is for as long as it likes.
    /// - Throws: `ClientError`, or `CancellationError` in a cancelled task.
    init(
        _ request: Request, to address: SluiceClient.Address, connecting: Duration,
        silence: Duration?
    ) async throws {
        self.address = address
        try await Self.open(request, address, connecting, silence, owner.mailbox)
        guard case .head(let status, let headers) = try await Self.next(owner.mailbox, address)
        else { throw ClientError(.badResponse, "\(address): the answer has no head") }
        self.status = status
        self.headers = headers
    }

    struct Request: Sendable {
        var method: HTTPMethod
        var path: String
        var headers: HTTPHeaders
        var body: [UInt8] = []
    }

    /// More of the body; nil at its end.
    func next() async throws -> [UInt8]? {
        switch try await Self.next(owner.mailbox, address) {
        case .body(let bytes): bytes
        case .head, nil: nil
        }
    }

    /// All the rest of the body.
    ///
    /// - Throws: `ClientError` where it is longer than `limitBytes`.
    func rest(limitBytes: Int) async throws -> [UInt8] {
        var body: [UInt8] = []
        while let bytes = try await next() {
            guard body.count + bytes.count <= limitBytes else {
                throw ClientError(
                    .badResponse, "\(address): the answer is longer than \(limitBytes >> 20) MiB")
            }
            body.append(contentsOf: bytes)
        }
        return body
    }

    private static func next(
        _ mailbox: Mailbox, _ address: SluiceClient.Address
    ) async throws -> ResponsePart? {
        do {
            return try await mailbox.take()
        } catch let error as CancellationError {
            throw error
        } catch {
            throw ClientError(interruption: error, at: address)
        }
    }

    private static func open(
        _ request: Request, _ address: SluiceClient.Address, _ connecting: Duration,
        _ silence: Duration?, _ mailbox: Mailbox
    ) async throws {
        let head = HTTPRequestHead(
            version: .http1_1, method: request.method, uri: request.path, headers: request.headers)
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(TimeAmount(connecting))
            .channelOption(.autoRead, value: false)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(
                        ResponseHandler(
                            head: head, body: request.body, mailbox: mailbox,
                            silence: silence.map { TimeAmount($0) }))
                    mailbox.adopt(channel)
                }
            }
        let channel: any Channel
        do {
            channel = try await withTaskCancellationHandler {
                switch address {
                case .socket(""): throw SocketAddressError.unixDomainSocketPathTooLong
                case .socket(let path):
                    try await bootstrap.connect(unixDomainSocketPath: path).get()
                case .tcp(let host, let port):
                    try await bootstrap.channelOption(.socketOption(.so_keepalive), value: 1)
                        .connect(host: host, port: port).get()
                }
            } onCancel: {
                mailbox.abandon()
            }
        } catch {
            try Task.checkCancellation()
            throw ClientError(unreachable: address, because: error, after: connecting)
        }
        mailbox.settle(on: channel)
        do {
            try await channel.triggerUserOutboundEvent(ResponseHandler.Event.send).get()
        } catch {
            try Task.checkCancellation()
            throw ClientError(interruption: error, at: address)
        }
    }
}

extension ClientError {
    /// - Parameter error: of the attempt to connect.
    fileprivate init(
        unreachable address: SluiceClient.Address, because error: any Error, after time: Duration
    ) {
        let problem =
            switch (address, error) {
            case (.socket, let error as IOError):
                switch error.errnoCode {
                case ENOENT:
                    "no such socket; start the service (systemctl start sluice.socket) or name one "
                        + "with --socket"
                case ECONNREFUSED:
                    "nobody listens on this socket; start the service (systemctl start "
                        + "sluice.socket) or name another one with --socket"
                case EACCES, EPERM:
                    "permission denied; become a member of the socket's group (usermod -aG sluice "
                        + "NAME, then log in again)"
                default: unsafe String(cString: strerror(error.errnoCode))
                }
            case (.socket, is SocketAddressError):
                "not a path that a socket can have (1 to 107 bytes); name another one"
            case (.tcp, let error as NIOConnectionError) where error.connectionErrors.isEmpty:
                "no such host; check the name"
            case (.tcp, let error as NIOConnectionError):
                Self.problem(ofAttempts: error, at: address)
            case (_, ChannelError.connectTimeout): "no connection within \(time)"
            default: "no connection: \(error)"
            }
        self.init(.unreachable, "\(address): \(problem)")
    }

    private static func problem(
        ofAttempts error: NIOConnectionError, at address: SluiceClient.Address
    ) -> String {
        let codes = error.connectionErrors.compactMap { ($0.error as? IOError)?.errnoCode }
        if codes.contains(ECONNREFUSED) {
            return "connection refused; start a server there (sluice serve --listen \(address))"
        }
        if let code = codes.first { return unsafe String(cString: strerror(code)) }
        return "no connection: nobody answers there"
    }

    /// - Parameter error: of a connection that was open.
    fileprivate init(interruption error: any Error, at address: SluiceClient.Address) {
        switch error {
        case let error as ClientError: self = error
        case let silence as ResponseHandler.Silence:
            self.init(
                .timedOut,
                "\(address): the server said nothing for \(Duration(silence.after)); allow more "
                    + "time, or look at its log (journalctl -u sluice)")
        case HTTPParserError.invalidEOFState, is ChannelError, is IOError:
            self.init(
                .connectionLost,
                "\(address): the connection ended before the answer did; look at the server's log "
                    + "(journalctl -u sluice)")
        default:
            self.init(
                .badResponse,
                "\(address): what came is no HTTP/1.1 response (\(error)); is this a Sluice server?"
            )
        }
    }
}
