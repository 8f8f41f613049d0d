import CHost
import Glibc
import Synchronization

/// Signals of the process, taken by one thread that waits for them: nothing of ours ever runs inside
/// a signal handler.
public enum ProcessSignals {
    private static let numbers = [SIGTERM, SIGINT, SIGHUP, SIGUSR1]

    /// Keeps the signals from ending the process. Called before any other thread is started, because
    /// threads inherit it.
    public static func hold() {
        unsafe host_block_signals(numbers, UInt32(numbers.count))
        // A client that leaves in the middle of an answer must not end the process.
        signal(SIGPIPE, SIG_IGN)
    }

    /// Runs `body` in a task, and hands it the signals that this thread waits for meanwhile.
    ///
    /// The second signal to stop ends the process at once, with 128 and the signal's number, as a
    /// shell would say it.
    public static func withSignals(
        _ body: @escaping @Sendable (AsyncStream<ServiceSignal>) async throws -> Void
    ) throws {
        let (stream, continuation) = AsyncStream.makeStream(of: ServiceSignal.self)
        let result = ResultBox()
        let waiter = pthread_self()
        Task {
            do {
                try await body(stream)
                result.set(.success(()))
            } catch {
                result.set(.failure(error))
            }
            pthread_kill(waiter, SIGUSR1)
        }
        var stops = 0
        while true {
            let number = unsafe host_wait_for_signal(numbers, UInt32(numbers.count))
            if number == SIGHUP {
                continuation.yield(.reload)
            } else if number == SIGUSR1 {
                // From outside it means nothing.
                if let result = result.value { return try result.get() }
            } else {
                stops += 1
                if stops > 1 { _exit(128 + number) }
                continuation.yield(.stop)
            }
        }
    }
}

private final class ResultBox: Sendable {
    private let result = Mutex<Result<Void, any Error>?>(nil)

    var value: Result<Void, any Error>? { result.withLock { $0 } }

    func set(_ value: Result<Void, any Error>) { result.withLock { $0 = value } }
}
