import Synchronization

/// Counts of requests and how long they took, as Prometheus takes them.
final class RequestMetrics: Sendable {
    /// Upper bounds of the histograms' buckets, in seconds: from an answer out of memory to minutes
    /// on a slow board.
    static let bounds = [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]

    struct Key: Hashable {
        var path: String
        var status: Int
    }

    struct Histogram {
        /// By bucket, not summed up; the last one has no bound.
        var counts = [UInt64](repeating: 0, count: RequestMetrics.bounds.count + 1)
        var sum = 0.0

        mutating func add(_ seconds: Double) {
            let bounds = RequestMetrics.bounds
            counts[bounds.firstIndex { seconds <= $0 } ?? bounds.count] += 1
            sum += seconds
        }
    }

    struct State {
        var requests: [Key: UInt64] = [:]
        var seconds: [String: Histogram] = [:]
        var firstTokenSeconds = Histogram()
    }

    private let state = Mutex(State())

    /// - Parameter path: One of ours, or "other": what strangers ask for must not make labels.
    func add(path: String, status: Int, seconds: Double) {
        state.withLock { state in
            state.requests[Key(path: path, status: status), default: 0] += 1
            state.seconds[path, default: Histogram()].add(seconds)
        }
    }

    /// From a request's arrival to its first text.
    func add(firstTokenSeconds seconds: Double) {
        state.withLock { $0.firstTokenSeconds.add(seconds) }
    }

    var snapshot: State { state.withLock { $0 } }
}
