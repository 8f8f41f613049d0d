internal import CHost
internal import Synchronization

/// The engine's compute threads: one leader (the caller) and `workers - 1` pinned followers that
/// run the same function on their share of the work, then wait for the next.
///
/// ```
///   leader                         follower
///   writes the job                 spins on `generation`, then sleeps on it
///   generation += 1 (release) ---> sees it (acquire), runs its share
///   runs its own share             remaining -= 1 (release)
///   waits for remaining == 0 <---- (acquire), so it sees every result
/// ```
///
/// What a result is never depends on who computes it: a stage's units of work are independent, so a
/// worker that is done with its part may take what another has not begun (`WorkQueue`). Waiting spins
/// for some microseconds, because the next stage of a token is usually that near, and then sleeps on
/// a futex, because an idle engine must cost nothing and a shared processor must be given up. The
/// first of that time goes into asking memory for the weights that come next: a core that waits for
/// another leaves the memory idle, which is what limits a token.
@safe struct ThreadPool: ~Copyable {
    /// One stage of work on shared state: (state, stage number, worker, workers). Returns where the
    /// worker will read first in the stage after, or nil; that need not be memory one may read.
    typealias Share =
        @convention(c) (
            UnsafeMutableRawPointer, UInt32, Int32, Int32
        ) -> UnsafeRawPointer?

    /// Written by the leader before `generation` moves, read by followers after it; words that
    /// different threads write live on different cache lines.
    @unsafe struct Shared: ~Copyable {
        let generation: UnsafeMutablePointer<Atomic<UInt32>>
        let remaining: UnsafeMutablePointer<Atomic<UInt32>>
        let sleepers: UnsafeMutablePointer<Atomic<UInt32>>
        let leaderSleeps: UnsafeMutablePointer<Atomic<UInt32>>
        var stage: UInt32 = 0
        var workers: Int32
        let state: UnsafeMutableRawPointer
        let share: Share
        let block: UnsafeMutableRawPointer

        init(workers: Int32, state: UnsafeMutableRawPointer, share: Share) {
            let line = 128
            let block = UnsafeMutableRawPointer.allocate(byteCount: 4 * line, alignment: line)
            func word(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
                let pointer = unsafe (block + index * line).bindMemory(
                    to: Atomic<UInt32>.self, capacity: 1)
                unsafe pointer.initialize(to: Atomic(0))
                return unsafe pointer
            }
            unsafe generation = word(0)
            unsafe remaining = word(1)
            unsafe sleepers = word(2)
            unsafe leaderSleeps = word(3)
            unsafe self.block = block
            unsafe self.workers = workers
            unsafe self.state = state
            unsafe self.share = share
        }

        deinit { unsafe block.deallocate() }
    }

    @unsafe private struct Follower {
        let shared: UnsafeMutablePointer<Shared>
        let worker: Int32
    }

    /// Stage number that ends a follower.
    private static let quit = UInt32.max
    /// About 20 microseconds of `host_relax`, longer than any gap between the stages of a token.
    private static let spins = 2_000
    /// How much of what comes next is asked for while waiting: what fits the smallest second-level
    /// caches of the boards beside what is in use.
    private static let aheadBytes = 64 << 10
    /// Asked for between two looks at the word that is waited for.
    private static let aheadStep = 256

    private let shared: UnsafeMutablePointer<Shared>
    private let handles: [UInt64]
    private var workers: Int32 { unsafe shared.pointee.workers }

    /// Starts `workers - 1` threads. `cpus` names the processor of each worker (the leader's
    /// first); an empty list leaves placement to the kernel.
    ///
    /// - Throws: `EngineError` where the kernel gives no more threads.
    static func start(
        workers: Int, cpus: [Int32], state: UnsafeMutableRawPointer, share: Share
    ) throws(EngineError) -> ThreadPool {
        let shared = UnsafeMutablePointer<Shared>.allocate(capacity: 1)
        unsafe shared.initialize(to: Shared(workers: Int32(workers), state: state, share: share))
        var handles: [UInt64] = []
        for worker in 1..<max(1, workers) {
            let follower = UnsafeMutablePointer<Follower>.allocate(capacity: 1)
            unsafe follower.initialize(to: Follower(shared: shared, worker: Int32(worker)))
            var handle: UInt64 = 0
            let error = unsafe host_thread_start(
                &handle, { context in unsafe ThreadPool.follow(context!) }, follower,
                "sluice-\(worker)", worker < cpus.count ? cpus[worker] : -1)
            guard error == 0 else {
                unsafe follower.deallocate()
                // The pool of those that did start ends them.
                _ = unsafe ThreadPool(shared: shared, handles: handles)
                throw EngineError(
                    "the kernel refused compute thread \(worker + 1) of \(workers) (errno "
                        + "\(error)); give fewer --threads, or raise the limit on processes "
                        + "(ulimit -u)")
            }
            handles.append(handle)
        }
        return unsafe ThreadPool(shared: shared, handles: handles)
    }

    private init(shared: UnsafeMutablePointer<Shared>, handles: [UInt64]) {
        unsafe self.shared = shared
        self.handles = handles
    }

    deinit {
        if !handles.isEmpty {
            announce(ThreadPool.quit)
            for handle in handles { host_thread_join(handle) }
        }
        unsafe shared.deinitialize(count: 1)
        unsafe shared.deallocate()
    }

    /// Runs every worker's share of `stage` and returns when all are done.
    func run(_ stage: UInt32) {
        announce(stage)
        let ahead = unsafe shared.pointee.share(shared.pointee.state, stage, 0, workers)
        if workers > 1 { unsafe awaitFollowers(ahead) }
    }

    private func announce(_ stage: UInt32) {
        guard workers > 1 else { return }
        unsafe shared.pointee.stage = stage
        unsafe shared.pointee.remaining.pointee.store(UInt32(workers - 1), ordering: .relaxed)
        unsafe shared.pointee.generation.pointee.add(1, ordering: .sequentiallyConsistent)
        if unsafe shared.pointee.sleepers.pointee.load(ordering: .sequentiallyConsistent) > 0 {
            unsafe host_futex_wake(
                UnsafeRawPointer(shared.pointee.generation).assumingMemoryBound(to: UInt32.self),
                UInt32(workers))
        }
    }

    private func awaitFollowers(_ ahead: UnsafeRawPointer?) {
        let remaining = unsafe shared.pointee.remaining
        var asked = 0
        for _ in 0..<ThreadPool.spins {
            if unsafe remaining.pointee.load(ordering: .acquiring) == 0 { return }
            unsafe ThreadPool.pass(ahead, &asked)
        }
        unsafe shared.pointee.leaderSleeps.pointee.store(1, ordering: .sequentiallyConsistent)
        while true {
            let left = unsafe remaining.pointee.load(ordering: .sequentiallyConsistent)
            if left == 0 { break }
            unsafe host_futex_wait(
                UnsafeRawPointer(remaining).assumingMemoryBound(to: UInt32.self), left)
        }
        unsafe shared.pointee.leaderSleeps.pointee.store(0, ordering: .relaxed)
    }

    /// One step of waiting.
    private static func pass(_ ahead: UnsafeRawPointer?, _ asked: inout Int) {
        guard let ahead = unsafe ahead, asked < aheadBytes else {
            host_relax()
            return
        }
        unsafe host_prefetch(ahead, asked, aheadStep)
        asked += aheadStep
    }

    private static func follow(_ context: UnsafeMutableRawPointer) {
        let record = unsafe context.assumingMemoryBound(to: Follower.self)
        let shared = unsafe record.pointee.shared
        let worker = unsafe record.pointee.worker
        unsafe record.deallocate()
        let workers = unsafe shared.pointee.workers
        let generation = unsafe shared.pointee.generation
        let remaining = unsafe shared.pointee.remaining
        var seen: UInt32 = 0
        var ahead: UnsafeRawPointer?
        while true {
            var spins = 0
            var asked = 0
            while unsafe generation.pointee.load(ordering: .acquiring) == seen {
                spins += 1
                if spins < ThreadPool.spins {
                    unsafe pass(ahead, &asked)
                } else {
                    unsafe shared.pointee.sleepers.pointee.add(1, ordering: .sequentiallyConsistent)
                    unsafe host_futex_wait(
                        UnsafeRawPointer(generation).assumingMemoryBound(to: UInt32.self), seen)
                    unsafe shared.pointee.sleepers.pointee.subtract(
                        1, ordering: .sequentiallyConsistent)
                }
            }
            seen &+= 1
            let stage = unsafe shared.pointee.stage
            if stage == ThreadPool.quit { return }
            unsafe ahead = shared.pointee.share(shared.pointee.state, stage, worker, workers)
            let before = unsafe remaining.pointee.subtract(
                1, ordering: .sequentiallyConsistent
            ).oldValue
            if before == 1,
                unsafe shared.pointee.leaderSleeps.pointee.load(ordering: .sequentiallyConsistent)
                    != 0
            {
                unsafe host_futex_wake(
                    UnsafeRawPointer(remaining).assumingMemoryBound(to: UInt32.self), 1)
            }
        }
    }
}
