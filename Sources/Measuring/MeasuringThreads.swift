internal import CHost
internal import Synchronization

/// Threads that measure, each tied to a processor, which begin a pass together.
///
/// The caller only sleeps until they are done, so it needs no processor and is tied to none: what it
/// starts afterwards still finds all of them allowed.
@safe final class MeasuringThreads {
    /// What a worker does in a pass: (worker).
    typealias Share = (Int) -> Void

    private let shared: Shared
    private var handles: [UInt64] = []

    /// - Parameter cpus: The processor of each thread.
    /// - Throws: `MeasuringError` where the kernel gives no more threads.
    init(cpus: [Int32]) throws(MeasuringError) {
        shared = Shared(workers: cpus.count)
        for (worker, cpu) in cpus.enumerated() {
            let record = unsafe Unmanaged.passRetained(Follower(shared: shared, worker: worker))
            var handle: UInt64 = 0
            let error = unsafe host_thread_start(
                &handle,
                { context in
                    let record = unsafe Unmanaged<Follower>.fromOpaque(context!).takeRetainedValue()
                    record.shared.follow(worker: record.worker)
                }, record.toOpaque(), "measure-\(worker)", cpu)
            guard error == 0 else {
                unsafe record.release()
                shared.end()
                for handle in handles { host_thread_join(handle) }
                throw MeasuringError(
                    "the kernel refused thread \(worker + 1) of \(cpus.count) (errno \(error)); give "
                        + "fewer --threads, or raise the limit on processes (ulimit -u)")
            }
            handles.append(handle)
        }
    }

    deinit {
        shared.end()
        for handle in handles { host_thread_join(handle) }
    }

    /// Seconds from the first worker's beginning to the last one's end of a pass of `count` of the
    /// threads; the others sleep.
    func seconds(of count: Int, _ share: @escaping Share) -> Double {
        shared.pass(of: count, share)
    }
}

/// One thread's way in.
private final class Follower {
    let shared: Shared
    let worker: Int

    init(shared: Shared, worker: Int) {
        self.shared = shared
        self.worker = worker
    }
}

/// What the caller writes before `generation` moves and workers read after it.
@safe private final class Shared: @unchecked Sendable {
    private let workers: Int
    private var active = 0
    private var share: MeasuringThreads.Share?
    /// Beginning and end of each worker's pass, in nanoseconds; a cache line for each worker.
    private let moments: UnsafeMutablePointer<UInt64>
    private let words: UnsafeMutablePointer<Atomic<UInt32>>
    private var generation: UnsafeMutablePointer<Atomic<UInt32>> { unsafe words }
    private var arrived: UnsafeMutablePointer<Atomic<UInt32>> { unsafe words + 32 }
    private var left: UnsafeMutablePointer<Atomic<UInt32>> { unsafe words + 64 }

    init(workers: Int) {
        self.workers = workers
        unsafe moments = .allocate(capacity: 16 * max(1, workers))
        unsafe moments.initialize(repeating: 0, count: 16 * max(1, workers))
        unsafe words = .allocate(capacity: 96)
        for index in 0..<96 { unsafe (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe moments.deallocate()
        unsafe words.deallocate()
    }

    func pass(of count: Int, _ share: @escaping MeasuringThreads.Share) -> Double {
        precondition(count > 0 && count <= workers, "\(count) of \(workers) threads")
        self.share = share
        active = count
        announce()
        while true {
            let now = unsafe left.pointee.load(ordering: .acquiring)
            if now == 0 { break }
            unsafe host_futex_wait(
                UnsafeRawPointer(left).assumingMemoryBound(to: UInt32.self), now)
        }
        self.share = nil
        let begin = (0..<count).map { unsafe moments[16 * $0] }.min()!
        let end = (0..<count).map { unsafe moments[16 * $0 + 1] }.max()!
        return Double(max(1, end - begin)) / 1e9
    }

    /// Lets every worker return. Those that did not start are not waited for.
    func end() {
        share = nil
        active = 0
        announce()
    }

    private func announce() {
        unsafe arrived.pointee.store(0, ordering: .relaxed)
        unsafe left.pointee.store(UInt32(workers), ordering: .relaxed)
        unsafe generation.pointee.add(1, ordering: .sequentiallyConsistent)
        unsafe host_futex_wake(
            UnsafeRawPointer(generation).assumingMemoryBound(to: UInt32.self), UInt32.max >> 1)
    }

    func follow(worker: Int) {
        var seen: UInt32 = 0
        while true {
            while unsafe generation.pointee.load(ordering: .acquiring) == seen {
                unsafe host_futex_wait(
                    UnsafeRawPointer(generation).assumingMemoryBound(to: UInt32.self), seen)
            }
            seen &+= 1
            if active == 0 { return }
            if worker < active, let share {
                // Waking takes longer than a pass may: all begin when the last is awake.
                unsafe arrived.pointee.add(1, ordering: .sequentiallyConsistent)
                while unsafe arrived.pointee.load(ordering: .acquiring) < UInt32(active) {
                    host_relax()
                }
                unsafe moments[16 * worker] = host_nanoseconds()
                share(worker)
                unsafe moments[16 * worker + 1] = host_nanoseconds()
            }
            let before = unsafe left.pointee.subtract(1, ordering: .sequentiallyConsistent).oldValue
            if before == 1 {
                unsafe host_futex_wake(
                    UnsafeRawPointer(left).assumingMemoryBound(to: UInt32.self), 1)
            }
        }
    }
}

/// A measurement that cannot be made here: what is missing, and what would do.
public struct MeasuringError: Error, CustomStringConvertible, Sendable {
    public let description: String

    init(_ description: String) { self.description = description }
}
