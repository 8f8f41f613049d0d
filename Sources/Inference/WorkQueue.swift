internal import Synchronization

/// The units of work of a stage: dealt to the workers in equal runs, and taken by whoever is free.
///
/// A worker takes the units of its own run in order, so that it reads memory as it lies and the same
/// rows every time; then what the others have left. So a stage ends for all at about the same time
/// though cores differ (asymmetric ARM) or are taken away for a while (virtual machines, other
/// programs). Which worker computes a unit changes no result.
///
/// Own runs are claimed on a cache line of their own: some nanoseconds for a unit that takes
/// microseconds.
@unsafe struct WorkQueue {
    /// Bytes for `workers` workers.
    static func byteCount(workers: Int) -> Int { unsafe workers * line }

    /// One worker's run.
    private struct Run: ~Copyable {
        let next: Atomic<UInt32>
        /// Written between stages only.
        var end: UInt32
    }

    private static let line = 128

    private let base: UnsafeMutableRawPointer
    private let workers: Int

    /// - Parameter memory: `byteCount` zeroed bytes, on a cache line of their own.
    init(_ memory: UnsafeMutableRawPointer, workers: Int) {
        unsafe base = memory
        unsafe self.workers = workers
        for worker in 0..<workers {
            unsafe (memory + worker * WorkQueue.line).bindMemory(to: Run.self, capacity: 1)
                .initialize(to: Run(next: Atomic(0), end: 0))
        }
    }

    /// Deals units 0 ..< `count`; between stages only.
    func deal(_ count: Int) {
        for worker in unsafe 0..<workers {
            let run = unsafe run(worker)
            unsafe run.pointee.next.store(
                UInt32(firstUnit(worker, of: count)), ordering: .relaxed)
            unsafe run.pointee.end = UInt32(firstUnit(worker + 1, of: count))
        }
    }

    /// Where a worker's run begins if `count` units are dealt.
    func firstUnit(_ worker: Int, of count: Int) -> Int { unsafe count * worker / workers }

    /// The next unit for `worker`; nil when none is left.
    func take(_ worker: Int) -> Int? {
        for step in unsafe 0..<workers {
            let victim = unsafe worker + step < workers ? worker + step : worker + step - workers
            let run = unsafe run(victim)
            // A run that is used up is only looked at, so that its counter stays near its end.
            if unsafe run.pointee.next.load(ordering: .relaxed) >= run.pointee.end { continue }
            let unit = unsafe run.pointee.next.add(1, ordering: .relaxed).oldValue
            if unsafe unit < run.pointee.end { return Int(unit) }
        }
        return nil
    }

    private func run(_ worker: Int) -> UnsafeMutablePointer<Run> {
        unsafe (base + worker * WorkQueue.line).assumingMemoryBound(to: Run.self)
    }
}
