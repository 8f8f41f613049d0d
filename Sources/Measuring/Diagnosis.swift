internal import ExpertStreaming
public import Inference

/// What `sluice doctor` finds out: the machine, its disk and memory as measured, what speed follows
/// for a model, and what stands in the way.
public struct Diagnosis: Sendable, Encodable {
    /// Reads of one size, so many at a time.
    public struct Reads: Sendable, Equatable, Encodable {
        public var depth: Int
        public var pieceBytes: Int
        public var bytesPerSecond: Double
        public var medianLatencySeconds: Double
        public var worstLatencySeconds: Double
        /// The depth is the one that experts are read with.
        public var isAsExpertsAreRead: Bool
    }

    public private(set) var host: HostFacts
    public private(set) var drive: DriveFacts?
    /// The file that was read.
    public private(set) var file: String
    /// How, in words; nil if it could not be read.
    public private(set) var ioMode: String?
    public private(set) var reads: [Reads] = []
    /// Plain reads of memory by one thread.
    public private(set) var memoryBytesPerSecondOneThread: Double
    /// And by as many threads as compute.
    public private(set) var memoryBytesPerSecond: Double
    /// Nil without a model, or if it does not fit.
    public private(set) var prediction: SpeedPrediction?
    /// The worst first.
    public private(set) var findings: [Finding]

    /// Whether nothing keeps the model (or any, where none is given) from running.
    public var canRun: Bool { !findings.contains { $0.weight == .blocking } }

    /// Rate of reads as experts are read, bytes per second; 0 if they could not be made.
    public var diskBytesPerSecond: Double {
        reads.last(where: \.isAsExpertsAreRead)?.bytesPerSecond ?? 0
    }

    private static let memoryRounds = 5
    /// Below this share of the link's rate something else is the matter.
    private static let healthyLinkShare = 0.5

    /// Examines this machine for `model`, and the disk under `file`.
    ///
    /// - Parameters:
    ///   - file: A file to read, with an absolute path without symbolic links: the model, or any
    ///     of at least 1 MiB on the disk in question.
    ///   - model: What is to run; nil examines the machine alone.
    ///   - options: How it is to run.
    ///   - seconds: For reading the disk, all depths together.
    ///   - progress: Told what is measured next.
    /// - Throws: `MeasuringError` where threads or memory for measuring are refused.
    public init(
        file: String, model: ModelDescription?, options: EngineOptions, seconds: Double,
        progress: (String) -> Void = { _ in }
    ) throws(MeasuringError) {
        let host = HostFacts()
        let drive = DriveFacts(path: file)
        var findings = Finding.about(host)
        if let drive { findings += Finding.about(drive, machine: host.machine) }

        progress("reading memory")
        let processors = Processors.ofThisProcess()
        let threads = min(
            max(1, options.threads ?? processors.recommended), processors.ordered.count)
        (memoryBytesPerSecondOneThread, memoryBytesPerSecond) = try Self.memoryRates(
            processors: Array(processors.ordered.prefix(threads)),
            most: min(host.memoryLimitBytes, options.memoryBytes ?? .max))

        progress("reading \(file)")
        do throws(StreamingError) {
            let (mode, text, reads) = try Self.disk(
                file, piece: Self.pieceBytes(of: model), mode: options.io, seconds: seconds)
            ioMode = text
            self.reads = reads
            if mode != .direct, options.io == nil {
                findings.append(
                    Finding(
                        .costly, "experts are not read directly: \(text)",
                        cost: "more processor time per read, and memory for the page cache",
                        remedy: "put the model on ext4 or XFS, and allow io_uring"))
            }
            let rate = reads.last?.bytesPerSecond ?? 0
            if let link = drive?.link, rate < link.bytesPerSecond * Self.healthyLinkShare {
                findings.append(
                    Finding(
                        .note,
                        "reads give \(Int(rate / 1e6)) MB/s, and the drive's link carries "
                            + "\(Int(link.bytesPerSecond / 1e6))",
                        cost: "the drive is slow, hot, or busy with something else",
                        remedy: "iostat -x 1 shows who reads; nvme smart-log how hot it is"))
            }
        } catch {
            ioMode = nil
            findings.append(
                Finding(
                    .blocking, error.description, cost: "experts cannot be read",
                    remedy: "check that the file is whole and the drive well: dmesg | tail"))
        }

        if let model {
            do {
                let plan = try MemoryPlan(model: model, options: options)
                if !reads.isEmpty {
                    prediction = SpeedPrediction(
                        model: model, plan: plan, memoryBytesPerSecond: memoryBytesPerSecond,
                        diskBytesPerSecond: reads[reads.count - 1].bytesPerSecond)
                }
                findings += plan.warnings.map {
                    Finding(
                        .costly, $0, cost: "most experts are read again for every token",
                        remedy: "give more memory, or a model with smaller experts")
                }
            } catch {
                findings.append(
                    Finding(
                        .blocking, "\(error)", cost: "the model does not start",
                        remedy: "sluice plan MODEL shows what takes the memory"))
            }
        }
        self.host = host
        self.drive = drive
        self.file = file
        self.findings = findings.sorted { $0.weight.rank < $1.weight.rank }
    }

    /// Bytes per second of one thread and of all, medians of some passes.
    private static func memoryRates(
        processors: [Int32], most bytes: Int
    ) throws(MeasuringError) -> (one: Double, all: Double) {
        let threads = processors.count
        let arena = max(
            threads << 22, min(threads * KernelBench.arenaBytesPerThread, bytes / 4))
        let bench = try KernelBench(processors: processors, arenaBytes: arena)
        func median(_ threads: Int) -> Double {
            let rates = (0..<memoryRounds).map { _ in bench.readRate(threads: threads) }
            return rates.sorted()[memoryRounds / 2]
        }
        return (median(1), median(threads))
    }

    /// Bytes of one read of the model's experts, of the longest that there are without a model.
    private static func pieceBytes(of model: ModelDescription?) -> Int {
        guard let model else { return DiskProbe.largestPieceBytes }
        let planes = 0..<model.planesPerExpert
        let largest = planes.map { model.extent(layer: 0, expert: 0, plane: $0, part: 0).byteCount }
        return DiskProbe.pieceBytes(range: max(1, largest.max() ?? 1))
    }

    private static func disk(
        _ file: String, piece: Int, mode: IOMode?, seconds: Double
    ) throws(StreamingError) -> (mode: IOMode, text: String, reads: [Reads]) {
        let window = min(max(8, DiskProbe.windowBytes / piece), DiskProbe.deepest)
        var probe = try DiskProbe(path: file, pieceBytes: piece, depth: window, mode: mode)
        // What is asked of the drive first wakes it up.
        _ = try probe.measure(seconds: seconds / 20)
        var reads: [Reads] = []
        for (index, depth) in [1, 4, window].enumerated() {
            let sample = try probe.measure(
                depth: depth, seconds: seconds * (depth == window ? 0.5 : 0.2),
                seed: UInt64(index + 2))
            reads.append(
                Reads(
                    depth: depth, pieceBytes: probe.pieceBytes,
                    bytesPerSecond: sample.bytesPerSecond,
                    medianLatencySeconds: sample.medianLatencySeconds,
                    worstLatencySeconds: sample.worstLatencySeconds,
                    isAsExpertsAreRead: depth == window))
        }
        return (probe.mode, probe.modeText, reads)
    }
}
