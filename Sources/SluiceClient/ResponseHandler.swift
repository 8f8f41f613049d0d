import NIOCore
import NIOHTTP1

/// Sends one request when it is told to, passes the response on, and closes the channel.
///
/// Before that it is one of several attempts to connect, perhaps, and says nothing.
///
/// It reads only while the other side wants more: a reader that stops stops the server, through the
/// socket's buffers, and not this process's memory.
final class ResponseHandler: ChannelInboundHandler, ChannelOutboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundIn = Never
    typealias OutboundOut = HTTPClientRequestPart

    private let head: HTTPRequestHead
    private let body: [UInt8]
    private let mailbox: Mailbox
    /// How long the server may be silent while we wait for it.
    private let silence: TimeAmount?

    private var gathered: [UInt8] = []
    private var wantsMore = true
    private var hasBegun = false
    private var hasEnded = false
    private var lastProgress = NIODeadline.now()
    private var alarm: Scheduled<Void>?

    init(head: HTTPRequestHead, body: [UInt8], mailbox: Mailbox, silence: TimeAmount?) {
        self.head = head
        self.body = body
        self.mailbox = mailbox
        self.silence = silence
    }

    private func begin(_ context: ChannelHandlerContext) {
        hasBegun = true
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if !body.isEmpty {
            context.write(
                wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: body)))),
                promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        lastProgress = .now()
        if let silence { watch(context, within: silence) }
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        lastProgress = .now()
        switch unwrapInboundIn(data) {
        case .head(let head):
            var headers: [String: String] = [:]
            for (name, value) in head.headers { headers[name.lowercased()] = value }
            pass(.head(status: Int(head.status.code), headers: headers))
        case .body(let buffer): gathered.append(contentsOf: buffer.readableBytesView)
        case .end:
            passGathered()
            end(nil)
            context.close(promise: nil)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        passGathered()
        if wantsMore, !hasEnded { context.read() }
    }

    func triggerUserOutboundEvent(
        context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?
    ) {
        switch event as? Event {
        case .send: begin(context)
        case .readMore:
            // Waiting for the reader was not the server's silence.
            if !wantsMore { lastProgress = .now() }
            wantsMore = true
            if !hasEnded { context.read() }
        case nil:
            context.triggerUserOutboundEvent(event, promise: promise)
            return
        }
        promise?.succeed(())
    }

    /// What the other side asks for.
    enum Event: Sendable {
        /// This is the connection: send the request.
        case send
        /// The reader has room again.
        case readMore
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        passGathered()
        end(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        passGathered()
        end(ChannelError.eof)
        context.fireChannelInactive()
    }

    private func passGathered() {
        guard !gathered.isEmpty else { return }
        pass(.body(gathered))
        gathered.removeAll()
    }

    private func pass(_ part: ResponsePart) {
        if hasBegun, !hasEnded { wantsMore = mailbox.put(part) }
    }

    /// Only the first end counts: what goes wrong while a channel with a whole response closes is
    /// nobody's concern.
    private func end(_ error: (any Error)?) {
        hasEnded = true
        alarm?.cancel()
        if hasBegun { mailbox.end(error) }
    }

    private func watch(_ context: ChannelHandlerContext, within time: TimeAmount) {
        let context = NIOLoopBound(context, eventLoop: context.eventLoop)
        let handler = NIOLoopBound(self, eventLoop: context.value.eventLoop)
        alarm = context.value.eventLoop.scheduleTask(in: time) {
            handler.value.alarmRang(context.value)
        }
    }

    private func alarmRang(_ context: ChannelHandlerContext) {
        guard let silence, !hasEnded else { return }
        let left = wantsMore ? lastProgress + silence - .now() : silence
        if left > .zero {
            watch(context, within: left)
        } else {
            end(Silence(after: silence))
            context.close(promise: nil)
        }
    }

    struct Silence: Error { let after: TimeAmount }
}
