import Synchronization
import Testing

@testable import Inference

/// What the pool's workers share in these tests.
@unsafe private struct Board: ~Copyable {
    var queue: WorkQueue
    var taken: UnsafeMutablePointer<Atomic<UInt32>>
    /// The worker that does nothing, so that the others take its units; -1 for none.
    var idle: Int32 = -1
}

@Suite struct ThreadPoolTests {
    /// How often each of `count` units was taken in `rounds` rounds by `workers` workers.
    private static func takes(
        _ count: Int, workers: Int, rounds: Int, idle: Int32 = -1
    ) throws -> [UInt32] {
        let bytes = unsafe WorkQueue.byteCount(workers: workers)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 128)
        let taken = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: max(1, count))
        let board = UnsafeMutablePointer<Board>.allocate(capacity: 1)
        defer {
            unsafe memory.deallocate()
            unsafe taken.deallocate()
            unsafe board.deallocate()
        }
        for unit in 0..<count { unsafe (taken + unit).initialize(to: Atomic(0)) }
        unsafe board.initialize(
            to: Board(queue: WorkQueue(memory, workers: workers), taken: taken, idle: idle))
        let pool = unsafe try ThreadPool.start(workers: workers, cpus: [], state: board) {
            raw, _, worker, _ in
            let board = unsafe raw.assumingMemoryBound(to: Board.self)
            if unsafe worker != board.pointee.idle {
                while let unit = unsafe board.pointee.queue.take(Int(worker)) {
                    unsafe board.pointee.taken[unit].add(1, ordering: .relaxed)
                }
            }
            return nil
        }
        for _ in 0..<rounds {
            unsafe board.pointee.queue.deal(count)
            pool.run(0)
        }
        return (0..<count).map { unsafe taken[$0].load(ordering: .relaxed) }
    }

    @Test(arguments: [1, 2, 3, 7], [0, 1, 2, 5, 64, 1000])
    func everyUnitIsTakenOnce(workers: Int, count: Int) throws {
        let rounds = 50
        let takes = try ThreadPoolTests.takes(count, workers: workers, rounds: rounds)
        #expect(takes == Array(repeating: UInt32(rounds), count: count))
    }

    @Test(arguments: [0, 1, 2])
    func whatAnIdleWorkerLeavesIsTakenByTheOthers(idle: Int32) throws {
        let takes = try ThreadPoolTests.takes(100, workers: 3, rounds: 10, idle: idle)
        #expect(takes == Array(repeating: 10, count: 100))
    }

    @Test func runsAreEqualAndComplete() {
        let bytes = unsafe WorkQueue.byteCount(workers: 3)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 128)
        defer { unsafe memory.deallocate() }
        let queue = unsafe WorkQueue(memory, workers: 3)
        unsafe queue.deal(8)
        let firsts = (0...3).map { unsafe queue.firstUnit($0, of: 8) }
        #expect(firsts == [0, 2, 5, 8])
        // A worker alone takes its own run first, then the next one's.
        var order: [Int] = []
        while let unit = unsafe queue.take(1) { order.append(unit) }
        #expect(order == [2, 3, 4, 5, 6, 7, 0, 1])
        let rest = unsafe queue.take(0)
        #expect(rest == nil)
    }
}
