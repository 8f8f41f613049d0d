import Dispatch
import Synchronization

/// The border between commands, which run on the main thread, and what is asynchronous.
enum Waiting {
    /// Runs `work` in a task, and returns what it returns.
    static func forTask<Value: Sendable>(
        _ work: @escaping @Sendable () async throws -> Value
    ) throws -> Value {
        let box = Box<Value>()
        Task {
            do {
                let value = try await work()
                box.put(.success(value))
            } catch {
                box.put(.failure(error))
            }
        }
        return try box.take().get()
    }

    private final class Box<Value: Sendable>: Sendable {
        private let result = Mutex<Result<Value, any Error>?>(nil)
        private let isFull = DispatchSemaphore(value: 0)

        func put(_ value: Result<Value, any Error>) {
            result.withLock { $0 = value }
            isFull.signal()
        }

        func take() -> Result<Value, any Error> {
            while true {
                isFull.wait()
                if let value = result.withLock({ $0 }) { return value }
            }
        }
    }
}
