import NIOCore
import NIOHTTP1
import OpenAIAPI

/// One connection, behind NIO's HTTP/1.1 decoder and encoder and its handler for pipelined requests,
/// which hands over one request at a time.
///
/// ```
///              head                 end of body                 end of the answer
///   idle ───────────────▶ reading ───────────────▶ answering ───────────────────▶ idle
///    │ headSeconds           │ bodySeconds, bodyBytes   │ stallSeconds without a byte taken
///    ▼                       ▼                          ▼
///   closed               408, 413, closed            closed, and the answer's task cancelled
/// ```
/// While an answer is on its way the connection goes on reading, so a client that leaves is noticed
/// at once and its task cancelled. A client that only ends its own direction (shutdown(2)) counts as
/// gone, too: NIO cannot tell it from one that is.
///
/// Everything here runs on the connection's event loop.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case idle
        case reading(HTTPRequestHead, ByteBuffer)
        case answering(Task<Void, Never>, keepAlive: Bool)
        /// The last answer is written, or nothing is to be written any more.
        case closing
    }

    private let peer: Peer
    private let limits: ServiceLimits
    private let eventLoop: any EventLoop
    private let respond: @Sendable (HTTPRequest, HTTPAnswerWriter) async -> Void
    private var state = State.idle
    private var context: ChannelHandlerContext?
    private var version = HTTPVersion.http1_1
    private var closesAfterAnswer = false
    /// Requests so far; the last one's number.
    private var number: UInt64 = 0
    /// When the connection is closed unless something happens before.
    private var deadline: NIODeadline?
    private var timer: (scheduled: Scheduled<Void>, deadline: NIODeadline)?
    /// Writes that the kernel has not taken yet.
    private var writesUnderWay = 0

    /// - Parameter respond: Called for each request in a task of its own, and cancelled with its
    ///   connection; writes one answer.
    init(
        peer: Peer, limits: ServiceLimits, eventLoop: any EventLoop,
        respond: @escaping @Sendable (HTTPRequest, HTTPAnswerWriter) async -> Void
    ) {
        self.peer = peer
        self.limits = limits
        self.eventLoop = eventLoop
        self.respond = respond
    }

    // MARK: Arriving

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        expect(within: limits.headSeconds)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), .idle): begin(head, context)
        case (.body(var bytes), .reading(let head, var body)):
            guard body.readableBytes + bytes.readableBytes <= limits.bodyBytes else {
                return refuse(tooLong())
            }
            // With a second owner in the state, every piece would copy what came before it.
            state = .idle
            body.writeBuffer(&bytes)
            state = .reading(head, body)
        case (.end, .reading(let head, let body)): answer(head, body, context)
        // The rest of a request that was refused has been read: nothing of ours gets lost now.
        case (.end, .closing): context.close(promise: nil)
        default: break
        }
    }

    private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        version = head.version
        let length = head.headers.first(name: "content-length").flatMap { Int($0) } ?? 0
        guard length <= limits.bodyBytes else { return refuse(tooLong()) }
        if head.headers[canonicalForm: "expect"].contains(where: {
            $0.lowercased() == "100-continue"
        }
        ) {
            let goOn = HTTPResponseHead(version: head.version, status: .continue)
            context.writeAndFlush(wrapOutboundOut(.head(goOn)), promise: nil)
        }
        state = .reading(head, context.channel.allocator.buffer(capacity: min(length, 64 << 10)))
        expect(within: limits.bodySeconds)
    }

    private func answer(
        _ head: HTTPRequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext
    ) {
        number += 1
        let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let request = HTTPRequest(
            method: head.method, path: String(parts[0]),
            query: parts.count > 1 ? String(parts[1]) : "", headers: head.headers,
            body: Array(body.readableBytesView), peer: peer)
        let writer = HTTPAnswerWriter(
            connection: NIOLoopBound(self, eventLoop: eventLoop), eventLoop: eventLoop,
            number: number, isHead: head.method == .HEAD)
        deadline = nil
        let task = Task { [respond] in
            await respond(request, writer)
            writer.abandonUnlessEnded()
        }
        state = .answering(task, keepAlive: head.isKeepAlive && head.version == .http1_1)
    }

    private func tooLong() -> APIError {
        var error = APIError.bodyTooLarge(limit: limits.bodyBytes)
        error.message += " Shorten it, or raise body_limit in the service's configuration."
        return error
    }

    // MARK: Answering

    /// Writes parts of the answer to request `number`; called on the event loop. The future
    /// completes when the kernel has them all, and fails when the connection is gone.
    func write(
        _ number: UInt64, head: (HTTPResponseStatus, HTTPHeaders)?, bytes: [UInt8], isEnd: Bool
    ) -> EventLoopFuture<Void> {
        guard let context, number == self.number, case .answering(_, let keepAlive) = state else {
            return eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel)
        }
        let closes = closesAfterAnswer || !keepAlive
        var parts: [HTTPServerResponsePart] = []
        if let (status, headers) = head {
            var headers = headers
            if closes { headers.add(name: "connection", value: "close") }
            parts.append(
                .head(HTTPResponseHead(version: version, status: status, headers: headers)))
        }
        if !bytes.isEmpty { parts.append(.body(.byteBuffer(ByteBuffer(bytes: bytes)))) }
        if isEnd {
            parts.append(.end(nil))
            // Before the end is written: behind it the next request may come at once.
            state = closes ? .closing : .idle
        }
        guard let last = parts.popLast() else { return eventLoop.makeSucceededVoidFuture() }
        for part in parts { context.write(wrapOutboundOut(part), promise: nil) }
        let promise = eventLoop.makePromise(of: Void.self)
        writesUnderWay += 1
        expect(within: isEnd && !closes ? limits.headSeconds : limits.stallSeconds)
        promise.futureResult.assumeIsolated().whenComplete { [self] _ in
            writesUnderWay -= 1
            if isEnd, closes { self.context?.close(promise: nil) }
            if case .answering = state, writesUnderWay == 0 { deadline = nil }
        }
        context.writeAndFlush(wrapOutboundOut(last), promise: promise)
        return promise.futureResult
    }

    /// Closes the connection if the answer to request `number` is not complete.
    func abandon(_ number: UInt64) {
        if number == self.number, case .answering = state { context?.close(promise: nil) }
    }

    /// Closes the connection at once, whatever is on its way.
    func close() { context?.close(promise: nil) }

    /// Answers a request that is not going to be read to its end, and closes.
    private func refuse(_ error: APIError) {
        guard let context else { return }
        let answer = HTTPAnswer(error)
        state = .closing
        let headers = HTTPHeaders(
            answer.headers + [
                ("content-length", "\(answer.body.count)"), ("content-type", answer.contentType),
                ("connection", "close"), ("x-request-id", Exchange.newID("req_")),
            ])
        let head = HTTPResponseHead(version: version, status: answer.status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(
            wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: answer.body)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        // A connection closed with bytes unread is reset, and the answer may be lost with it: so the
        // rest is read, and thrown away, for a while.
        expect(within: HTTPConnection.lingerSeconds)
    }

    private static let lingerSeconds = 2.0

    // MARK: Ending

    /// Closes the connection as soon as nothing is on its way.
    func quiesce() {
        closesAfterAnswer = true
        if case .idle = state { context?.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let problem = error as? HTTPParserError, case .idle = state else {
            context.close(promise: nil)
            return
        }
        var refusal = APIError.invalid("The request is no HTTP/1.1: \(problem).")
        if problem == .headerOverflow {
            refusal.status = 431
            refusal.message =
                "The request's header has more than \(ServiceLimits.headerBytes) bytes."
        }
        refuse(refusal)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if case .answering(let task, _) = state { task.cancel() }
        state = .closing
        deadline = nil
        timer?.scheduled.cancel()
        self.context = nil
        context.fireChannelInactive()
    }

    /// Sets the deadline. The timer stays where it is if it fires before that, and then looks again:
    /// setting it costs nothing per token.
    private func expect(within seconds: Double) {
        let deadline = NIODeadline.now() + .milliseconds(Int64(seconds * 1000))
        self.deadline = deadline
        if let timer, timer.deadline <= deadline { return }
        timer?.scheduled.cancel()
        startTimer(at: deadline)
    }

    private func startTimer(at deadline: NIODeadline) {
        let scheduled = eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in
            guard let self else { return }
            timer = nil
            guard let deadline = self.deadline else { return }
            if deadline <= .now() { expire() } else { startTimer(at: deadline) }
        }
        timer = (scheduled, deadline)
    }

    private func expire() {
        if case .reading = state {
            var refusal = APIError.invalid(
                "The request's body did not arrive within \(limits.bodySeconds) s.")
            refusal.status = 408
            refuse(refusal)
        } else {
            context?.close(promise: nil)
        }
    }
}
