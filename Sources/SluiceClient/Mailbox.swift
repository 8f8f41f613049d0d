import NIOCore
import Synchronization

/// One piece of a response, as it goes from the channel to the task that reads it.
enum ResponsePart: Sendable {
    case head(status: Int, headers: [String: String])
    /// What one read of the socket brought.
    case body([UInt8])
}

/// Where the channel leaves the parts of a response, and one task takes them.
///
/// It holds the channel too: who takes asks it to read on, and who gives up closes it.
final class Mailbox: Sendable {
    private typealias Reader = CheckedContinuation<ResponsePart?, any Error>

    private struct State {
        var parts: ArraySlice<ResponsePart> = []
        /// Set when nothing more will come.
        var ending: Result<ResponsePart?, any Error>?
        var reader: Reader?
        /// The connection; before there is one, all that are tried.
        var channels: [any Channel] = []
        var isAbandoned = false
    }
    private let state = Mutex(State())

    /// Parts that may wait before the channel stops reading; each is one read of the socket, of at
    /// most 64 KiB or so.
    private static let capacity = 8

    // MARK: the channel's side

    /// Names a channel that may become the connection; it is closed at once if nobody waits any more.
    func adopt(_ channel: any Channel) {
        let isAbandoned = state.withLock { state in
            state.channels.append(channel)
            return state.isAbandoned
        }
        if isAbandoned { channel.close(promise: nil) }
    }

    /// Names the channel that is the connection.
    func settle(on channel: any Channel) {
        let isAbandoned = state.withLock { state in
            state.channels = [channel]
            return state.isAbandoned
        }
        if isAbandoned { channel.close(promise: nil) }
    }

    /// Returns whether to read on.
    func put(_ part: ResponsePart) -> Bool {
        let (reader, hasRoom) = state.withLock { state -> (Reader?, Bool) in
            if let reader = state.reader.take() { return (reader, true) }
            state.parts.append(part)
            return (nil, state.parts.count < Self.capacity)
        }
        reader?.resume(returning: part)
        return hasRoom
    }

    /// Says that no more will come. Only the first time counts.
    func end(_ error: (any Error)?) {
        let ending: Result<ResponsePart?, any Error> =
            error.map { .failure($0) } ?? .success(nil)
        let reader = state.withLock { state -> Reader? in
            guard state.ending == nil else { return nil }
            state.ending = ending
            state.channels = []
            return state.reader.take()
        }
        reader?.resume(with: ending)
    }

    // MARK: the reader's side

    /// The next part; nil at the end of a whole response. Cancelling the task closes the channel.
    func take() async throws -> ResponsePart? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { reader in
                let (result, resumes) = next(reader)
                if let result { reader.resume(with: result) }
                resumes?.triggerUserOutboundEvent(ResponseHandler.Event.readMore, promise: nil)
            }
        } onCancel: {
            abandon()
        }
    }

    /// What there is for a reader, which waits if that is nothing, and the channel if it has stopped
    /// and may read on.
    private func next(
        _ reader: Reader
    ) -> (result: Result<ResponsePart?, any Error>?, resumes: (any Channel)?) {
        state.withLock { state in
            if state.isAbandoned { return (.failure(CancellationError()), nil) }
            if let part = state.parts.popFirst() {
                return (
                    .success(part),
                    state.parts.count == Self.capacity / 2 ? state.channels.first : nil
                )
            }
            if let ending = state.ending { return (ending, nil) }
            state.reader = reader
            return (nil, nil)
        }
    }

    /// Nobody wants the rest.
    func abandon() {
        let (channels, reader) = state.withLock { state in
            defer { state.channels = [] }
            state.isAbandoned = true
            state.parts = []
            return (state.channels, state.reader.take())
        }
        reader?.resume(throwing: CancellationError())
        for channel in channels { channel.close(promise: nil) }
    }
}

/// Gives up a response when the last one to hold it lets go.
final class MailboxOwner: Sendable {
    let mailbox = Mailbox()
    deinit { mailbox.abandon() }
}
