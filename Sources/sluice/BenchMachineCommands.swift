import ArgumentParser
import Benchmarking
import ExpertStreaming
import Glibc
import Inference
import Measuring
import ModelFormats

struct BenchDiskCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "disk",
        abstract: "Measures random reads of a file, as experts are read.",
        discussion: """
            Sizes and depths in turn, over the whole file, past the page cache where the file system allows it. A \
            figure is the median over rounds, with least and greatest.
            """)

    @Argument(help: "Model or any large file; none means the demo model.")
    var file: String?

    @Option(help: ArgumentHelp("Bytes of a read, as 64K,432K,1M.", valueName: "sizes"))
    var sizes = "64K,256K,1M"

    @Option(help: ArgumentHelp("Reads in flight, as 1,8,32.", valueName: "counts"))
    var depths = CountList([1, 4, 16, 64])

    @Option(help: "How experts are read: auto, direct, buffered or pread.")
    var io: IOArgument = .auto

    @Option(help: ArgumentHelp("Of each figure and round.", valueName: "seconds"))
    var seconds = 0.5

    @OptionGroup var repeated: RoundsArgument
    @OptionGroup var report: ReportArguments

    struct Row: Encodable {
        var pieceBytes: Int
        var depth: Int
        var bytesPerSecond: Spread
        var medianLatencySeconds: Spread
        var worstLatencySeconds: Double
        var ioMode: String
    }

    func validate() throws {
        if !(seconds > 0 && seconds <= 60) {
            throw ValidationError("--seconds \(seconds) is not above 0, up to 60.")
        }
        for depth in depths.counts where !(1...DiskProbe.deepest).contains(depth) {
            throw ValidationError("--depths \(depth) is not between 1 and \(DiskProbe.deepest).")
        }
    }

    func run() throws {
        try Failure.reporting {
            let path = try ModelLocation.path(file)
            try Console.requireReadable(path)
            let pieces = try sizes.split(separator: ",").map { word in
                guard let size = ByteSize(String(word)), size.bytes > 0 else {
                    throw InputError("--sizes: '\(word)' is no size; try 256K")
                }
                return size.bytes
            }
            var rows: [Row] = []
            for piece in pieces {
                var probe = try DiskProbe(
                    path: path, pieceBytes: piece, depth: depths.counts.max() ?? 1, mode: io.mode)
                // What is asked of the drive first wakes it up.
                _ = try probe.measure(seconds: seconds / 5)
                var samples = depths.counts.map { _ in [DiskProbe.Sample]() }
                for round in 0..<repeated.rounds {
                    for (index, depth) in depths.counts.enumerated() {
                        samples[index].append(
                            try probe.measure(
                                depth: depth, seconds: seconds,
                                seed: UInt64(round * depths.counts.count + index + 1)))
                    }
                }
                for (depth, taken) in zip(depths.counts, samples) {
                    rows.append(
                        Row(
                            pieceBytes: probe.pieceBytes, depth: depth,
                            bytesPerSecond: Spread(taken.map(\.bytesPerSecond)),
                            medianLatencySeconds: Spread(taken.map(\.medianLatencySeconds)),
                            worstLatencySeconds: taken.map(\.worstLatencySeconds).max() ?? 0,
                            ioMode: probe.mode.rawValue))
                }
            }
            Console.out(
                report.json ? try JSONOutput.text(["rows": rows]) : Self.table(rows))
        }
    }

    private static func table(_ rows: [Row]) -> String {
        TextTable.aligned(
            [["read of", "in flight", "GB/s", "latency, ms", "worst", "I/O"]]
                + rows.map { row in
                    [
                        "\(ByteSize(bytes: row.pieceBytes))", "\(row.depth)",
                        scaled(row.bytesPerSecond, 1e-9).text(2),
                        scaled(row.medianLatencySeconds, 1000).text(2),
                        fixed(row.worstLatencySeconds * 1000, 1), row.ioMode,
                    ]
                })
    }
}

struct BenchMemoryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "memory",
        abstract: "Measures plain reads of memory: what decode is bound by once experts are there.")

    @Option(
        help: ArgumentHelp(
            "Counts of threads, as 1,2,4; default: one, and all.", valueName: "counts"))
    var threads: CountList?

    @Option(
        help: ArgumentHelp("Memory that every thread sweeps.", valueName: "size"))
    var size = ByteSize(bytes: 64 << 20)

    @OptionGroup var repeated: RoundsArgument
    @OptionGroup var report: ReportArguments

    struct Row: Encodable {
        var threads: Int
        var bytesPerSecond: Spread
    }

    func validate() throws {
        if !((1 << 20)...(1 << 34)).contains(size.bytes) {
            throw ValidationError("--size is not between 1M and 16G.")
        }
    }

    func run() throws {
        try Failure.reporting {
            let all = try MeasuringProcessors.chosen(nil).count
            let counts = threads?.counts ?? (all > 1 ? [1, all] : [1])
            let processors = try MeasuringProcessors.chosen(counts.max())
            for count in counts where count < 1 {
                throw InputError("--threads \(count) reads nothing")
            }
            let bench = try KernelBench(
                processors: processors, arenaBytes: processors.count * size.bytes)
            var rates = counts.map { _ in [Double]() }
            for _ in 0..<repeated.rounds {
                for (index, count) in counts.enumerated() {
                    rates[index].append(
                        Spread((0..<3).map { _ in bench.readRate(threads: count) }).median)
                }
            }
            let rows = zip(counts, rates).map { Row(threads: $0, bytesPerSecond: Spread($1)) }
            Console.out(
                report.json
                    ? try JSONOutput.text(["rows": rows])
                    : TextTable.aligned(
                        [["threads", "GB/s"]]
                            + rows.map {
                                ["\($0.threads)", scaled($0.bytesPerSecond, 1e-9).text(1)]
                            }))
        }
    }
}

/// A spread in another unit.
private func scaled(_ spread: Spread, _ factor: Double) -> Spread {
    Spread([spread.least * factor, spread.median * factor, spread.greatest * factor])
}
