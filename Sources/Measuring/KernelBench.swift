internal import CHost
internal import CKernels
internal import ModelFormats

/// Measures kernels, and beside each pass a plain read of the same memory.
///
/// ```
///   memory   | region of thread 0               | region of thread 1               | ...
///   read     | two streams from the cursor on   |                                  |
///   memory   | matrix, matrix, ... from the same cursor on
///   experts  | gate up down | gate up down | ...   of all threads together, in leaps
/// ```
/// A cursor goes on where the last pass ended and comes back to a byte only after all the others of
/// the region, so nothing is in a cache when it is asked for. A pass is as many matrices as take
/// some milliseconds, found by a first pass that does not count.
///
/// Threads begin together, and a pass lasts until the last of them is done, as a stage of a token
/// does. Weights are any bits with half-precision scales of ordinary size; speed depends on nothing
/// else in them.
@safe public final class KernelBench {
    /// Rates of one kernel in one place, round after round.
    public struct Samples: Sendable {
        /// Of weights (or keys, or values), each counted once however many tokens use it.
        public internal(set) var bytesPerSecond: [Double] = []
        /// Of a plain read with as many threads just before; none in the cache.
        public internal(set) var readBytesPerSecond: [Double] = []
        public internal(set) var rowsPerSecond: [Double] = []
        /// Two for each multiplication with its addition.
        public internal(set) var operationsPerSecond: [Double] = []
    }

    /// Elements of a row in the cache and in memory: the embedding of OLMoE and of Qwen3-30B-A3B.
    public static let columns = 2048
    static let expertWidth = 768
    static let headSize = 128
    public static let tokensMax = 128
    /// What every thread's share of the arena is, at least: four times the caches of most.
    public static let arenaBytesPerThread = 256 << 20
    private static let cachedBytes = 128 << 10
    private static let longestRows = 2048

    private static let wordsPerLine = 16
    private static let resultCount = tokensMax * longestRows

    public let threads: Int
    public let arenaBytes: Int
    private let pool: MeasuringThreads
    private let arena: UnsafeMutableRawPointer
    /// For each thread where it goes on in its region, a cache line apart.
    private let cursors: UnsafeMutablePointer<Int>
    private var nextExpert = 0
    /// Activations in each form: 128 rows of so many columns.
    private let wide: ActivationForms
    private let narrow: ActivationForms
    /// (thread, token, row)
    private let results: UnsafeMutablePointer<Float>

    private var regionBytes: Int { arenaBytes / threads / 4096 * 4096 }

    /// - Parameters:
    ///   - processors: One for each thread that measures.
    ///   - arenaBytes: Memory to sweep; nil takes 256 MiB for each thread.
    /// - Throws: `MeasuringError` where threads or memory are refused.
    public init(processors: [Int32], arenaBytes: Int? = nil) throws(MeasuringError) {
        guard !processors.isEmpty else {
            throw MeasuringError("measuring needs at least one thread")
        }
        threads = processors.count
        let size = arenaBytes ?? threads * KernelBench.arenaBytesPerThread
        guard size / threads >= 1 << 20 else {
            throw MeasuringError(
                "\(size) bytes of memory are less than 1 MiB for each of \(threads) threads; give "
                    + "more --arena")
        }
        var error: Int32 = 0
        guard let memory = unsafe host_map_memory(size, 1, &error) else {
            throw MeasuringError(
                "the kernel refused \(size >> 20) MiB of memory to sweep (errno \(error)); give less "
                    + "--arena")
        }
        unsafe arena = memory
        self.arenaBytes = size
        do {
            pool = try MeasuringThreads(cpus: processors)
        } catch {
            unsafe host_unmap_memory(memory, size)
            throw error
        }
        unsafe cursors = .allocate(capacity: threads * KernelBench.wordsPerLine)
        unsafe cursors.initialize(repeating: 0, count: threads * KernelBench.wordsPerLine)
        wide = ActivationForms(columns: KernelBench.columns, tokens: KernelBench.tokensMax)
        narrow = ActivationForms(columns: KernelBench.expertWidth, tokens: KernelBench.tokensMax)
        unsafe results = .allocate(capacity: threads * KernelBench.resultCount)
        fill()
    }

    deinit {
        unsafe host_unmap_memory(arena, arenaBytes)
        unsafe results.deallocate()
        unsafe cursors.deallocate()
    }

    /// Bytes per second that so many threads read together, in one pass of some `milliseconds`.
    public func readRate(threads count: Int, milliseconds: Double = 8) -> Double {
        // What one core reads at most, and more than one rank of memory gives all of them.
        let bytes = min(regionBytes, Int(milliseconds * 40e6) / 128 * 128)
        let seconds = pool.seconds(of: count) { [self] worker in
            let start = worker * regionBytes + step(worker, bytes)
            unsafe results[worker * KernelBench.resultCount] = Float(
                host_read_memory(arena + start, bytes))
        }
        return Double(bytes * count) / seconds
    }

    /// Rates of a kernel, with all threads.
    ///
    /// - Parameters:
    ///   - tokens: Rows of activations that every row of weights meets, 1 ... 128; attention takes 1.
    ///   - rounds: Passes, each after a read where the weights lie in memory.
    ///   - milliseconds: What a pass should take.
    /// - Throws: `MeasuringError` if this machine has no such instruction set, or the arena is too
    ///   small for the place.
    public func samples(
        of kernel: MeasuredKernel, instructionSet: String, place: MeasuredPlace, tokens: Int,
        rounds: Int, milliseconds: Double = 8
    ) throws(MeasuringError) -> Samples {
        precondition(tokens >= 1 && tokens <= KernelBench.tokensMax, "\(tokens) tokens")
        precondition(kernel.multipliesMatrices || tokens == 1, "attention of \(tokens) tokens")
        guard let table = unsafe sluice_kernels_named(instructionSet) else {
            throw MeasuringError("this machine has no instruction set '\(instructionSet)'")
        }
        let work = Work(kernel, place)
        let room = place == .experts ? arenaBytes : regionBytes
        guard place == .cache || work.strideBytes * 2 <= room else {
            throw MeasuringError(
                "\(kernel.name): \(room >> 20) MiB of memory do not hold two of \(work.strideBytes) "
                    + "bytes; give more --arena")
        }
        var count = 1
        var seconds = 0.0
        // A pass that is over at once says little about its length, and neither does one in which
        // something else ran: so the better of two, of a tenth of the length at least.
        while true {
            seconds = unsafe min(run(work, table, tokens, count), run(work, table, tokens, count))
            if seconds >= milliseconds / 10e3 || count >= 1 << 20 { break }
            count *= 4
        }
        count = max(1, Int(Double(count) * milliseconds / 1e3 / seconds))
        var samples = Samples()
        for _ in 0..<rounds {
            if place != .cache {
                samples.readBytesPerSecond.append(
                    readRate(threads: threads, milliseconds: milliseconds))
            }
            let seconds = unsafe run(work, table, tokens, count)
            let (rows, bytes, elements) = work.totals(threads: threads)
            let rate = Double(count) / seconds
            samples.bytesPerSecond.append(Double(bytes) * rate)
            samples.rowsPerSecond.append(Double(rows) * rate)
            samples.operationsPerSecond.append(2 * Double(elements * tokens) * rate)
        }
        return samples
    }

    /// What a thread does `count` times in a pass.
    private struct Work {
        let place: MeasuredPlace
        /// One matrix for each thread, or the three of an expert for all threads.
        let matrices: [(offset: Int, matrix: MeasuredMatrix)]
        /// To the next matrix or expert.
        let strideBytes: Int

        init(_ kernel: MeasuredKernel, _ place: MeasuredPlace) {
            self.place = place
            var next = 0
            var matrices: [(offset: Int, matrix: MeasuredMatrix)] = []
            func add(_ rows: Int, _ columns: Int) {
                let matrix = MeasuredMatrix(kernel, rows: rows, columns: columns)
                matrices.append((next, matrix))
                next += (matrix.bytes + 63) / 64 * 64
            }
            let columns = kernel.multipliesMatrices ? KernelBench.columns : KernelBench.headSize
            switch place {
            case .experts:
                add(KernelBench.expertWidth, KernelBench.columns)
                add(KernelBench.expertWidth, KernelBench.columns)
                add(KernelBench.columns, KernelBench.expertWidth)
            case .cache:
                let row = MeasuredMatrix(kernel, rows: 64, columns: columns).bytes / 64
                add(max(16, KernelBench.cachedBytes / row / 16 * 16), columns)
            case .memory:
                add(kernel.multipliesMatrices ? 512 : 1024, columns)
            }
            self.matrices = matrices
            strideBytes = next
        }

        /// Rows, bytes and elements of one turn, of all threads together.
        func totals(threads: Int) -> (rows: Int, bytes: Int, elements: Int) {
            let times = place == .experts ? 1 : threads
            let rows = matrices.reduce(0) { $0 + $1.matrix.rows } * times
            let bytes = matrices.reduce(0) { $0 + $1.matrix.bytes(of: 0..<$1.matrix.rows) } * times
            let elements =
                matrices.reduce(0) { $0 + $1.matrix.rows * $1.matrix.columns } * times
            return (rows, bytes, elements)
        }
    }

    /// Seconds of one pass.
    private func run(
        _ work: Work, _ table: UnsafePointer<sluice_kernels>, _ tokens: Int, _ count: Int
    ) -> Double {
        let expert = nextExpert
        nextExpert += count
        return pool.seconds(of: threads) { [self] worker in
            for turn in 0..<count {
                var start = worker * regionBytes
                switch work.place {
                case .cache: break
                case .memory: start += step(worker, work.strideBytes)
                case .experts:
                    // A prime number of experts on: the same one comes only after all others.
                    let held = arenaBytes / work.strideBytes
                    start = (expert + turn) &* 7919 % held * work.strideBytes
                }
                for (offset, matrix) in work.matrices {
                    let rows =
                        work.place == .experts
                        ? matrix.rows * worker / threads..<matrix.rows * (worker + 1) / threads
                        : 0..<matrix.rows
                    let x = matrix.columns == KernelBench.expertWidth ? narrow : wide
                    let (place, stride) = unsafe x.row(for: matrix.kernel)
                    unsafe matrix.multiply(
                        table, at: arena + start + offset, rows: rows, x: place, xStride: stride,
                        tokens: tokens,
                        y: results + worker * KernelBench.resultCount)
                }
            }
        }
    }

    /// Where a thread goes on in its region, which then is `bytes` further.
    private func step(_ worker: Int, _ bytes: Int) -> Int {
        let cursor = unsafe cursors + worker * KernelBench.wordsPerLine
        let start = unsafe cursor.pointee + bytes > regionBytes ? 0 : cursor.pointee
        unsafe cursor.pointee = start + bytes
        return start
    }

    /// Any bits, of which each 16 are a positive number below 1 in half precision: whatever a format
    /// takes for a scale is one.
    private func fill() {
        for worker in 0..<threads {
            let region = unsafe (arena + worker * regionBytes).assumingMemoryBound(to: UInt64.self)
            var bits: UInt64 = UInt64(worker)
            for index in 0..<regionBytes / 8 {
                bits = bits &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                unsafe region[index] = bits & 0x37ff_37ff_37ff_37ff
            }
        }
    }
}

/// Rows of activations in the forms that kernels take.
@safe private final class ActivationForms {
    private let floats: UnsafeMutablePointer<Float>
    private let a32: UnsafeMutableRawPointer
    private let a256: UnsafeMutableRawPointer
    private let columns: Int

    init(columns: Int, tokens: Int) {
        self.columns = columns
        unsafe floats = .allocate(capacity: columns * tokens)
        for index in 0..<columns * tokens {
            unsafe floats[index] = Float(index &* 7919 % 2000 - 1000) / 1000
        }
        unsafe a32 = .allocate(byteCount: sluice_a32_bytes(columns) * tokens, alignment: 64)
        unsafe a256 = .allocate(byteCount: sluice_a256_bytes(columns) * tokens, alignment: 64)
        let table = unsafe sluice_kernels_named("scalar")!
        for token in 0..<tokens {
            let row = unsafe floats + token * columns
            unsafe table.pointee.quantize_a32(
                row, UInt32(columns), a32 + token * sluice_a32_bytes(columns))
            unsafe table.pointee.quantize_a256(
                row, UInt32(columns), a256 + token * sluice_a256_bytes(columns))
        }
    }

    deinit {
        unsafe floats.deallocate()
        unsafe a32.deallocate()
        unsafe a256.deallocate()
    }

    /// The first row in the form that a kernel takes, and the bytes from row to row.
    func row(for kernel: MeasuredKernel) -> (start: UnsafeRawPointer, strideBytes: Int) {
        switch kernel.blockElements {
        case 32: unsafe (UnsafeRawPointer(a32), sluice_a32_bytes(columns))
        case 256: unsafe (UnsafeRawPointer(a256), sluice_a256_bytes(columns))
        default: unsafe (UnsafeRawPointer(floats), columns * 4)
        }
    }
}
