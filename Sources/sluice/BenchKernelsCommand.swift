import ArgumentParser
import Benchmarking
import ExpertStreaming
import Inference
import Measuring

struct BenchKernelsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels",
        abstract: "Measures the kernels beside the machine's memory; needs no model.",
        discussion: """
            Each figure is the median with least and greatest of --rounds passes of all threads, which are tied to \
            processors. Places: cache (128 KiB for each thread), memory (in order, each byte once) and experts (gate, \
            up and down of experts from all over the memory). Before each pass over memory comes a plain read of it. \
            The roofline is the lesser of that read and of the same kernel's best rate in the cache. GB/s are of weights, \
            counted once however many tokens use them.
            """)

    @Option(
        help: ArgumentHelp(
            "Formats, as Q4_K,Q6_K, with their planes; and attention. Default: all.",
            valueName: "formats"))
    var formats: String?

    @Option(
        help: ArgumentHelp(
            """
            Instruction sets of this machine, or all; default: all, of scalar only one token, which is there \
            to compare with.
            """,
            valueName: "names"))
    var isa: String?

    @Option(help: ArgumentHelp("Tokens at once, 1 to 128.", valueName: "counts"))
    var tokens: CountList = CountList([1, 8, 32, 128])

    @Option(help: ArgumentHelp("cache, memory, experts; default: all.", valueName: "places"))
    var places: String?

    @Option(help: "Threads; default: every processor this process may use.")
    var threads: Int?

    @OptionGroup var repeated: RoundsArgument

    @Option(help: ArgumentHelp("What a pass should take, in milliseconds.", valueName: "ms"))
    var pass: Double = 6

    @Option(
        help: ArgumentHelp(
            "Memory to sweep; default: 256M for each thread. Give several times the caches.",
            valueName: "size"))
    var arena: ByteSize?

    @OptionGroup var output: ReportArguments

    func validate() throws {
        if !(pass >= 0.1 && pass <= 10_000) {
            throw ValidationError("--pass \(pass) is not between 0.1 and 10000 ms.")
        }
        for count in tokens.counts where !(1...KernelBench.tokensMax).contains(count) {
            throw ValidationError(
                "--tokens \(count) is not between 1 and \(KernelBench.tokensMax).")
        }
    }

    func run() throws {
        try Failure.reporting {
            let rounds = repeated.rounds
            let kernels = try chosenKernels()
            let sets = try chosenInstructionSets()
            let places = try chosenPlaces()
            let bench = try KernelBench(
                processors: MeasuringProcessors.chosen(threads), arenaBytes: arena?.bytes)
            var report = KernelReport(bench, rounds: rounds)
            var rows: [KernelRow] = []
            for kernel in kernels {
                for set in sets {
                    for tokens in tokens.counts where measures(kernel, set, tokens) {
                        Console.progress("\(kernel.name), \(set), \(tokens) tokens")
                        let cached = try bench.samples(
                            of: kernel, instructionSet: set, place: .cache, tokens: tokens,
                            rounds: rounds, milliseconds: pass)
                        let roof = Spread(cached.bytesPerSecond).greatest
                        for place in places where place != .experts || kernel.multipliesMatrices {
                            let samples =
                                try place == .cache
                                ? cached
                                : bench.samples(
                                    of: kernel, instructionSet: set, place: place, tokens: tokens,
                                    rounds: rounds, milliseconds: pass)
                            rows.append(
                                KernelRow(kernel, set, place, tokens, samples, cachedRate: roof))
                        }
                    }
                }
            }
            report.finish(bench, rounds: rounds)
            report.rows = rows
            Console.out(output.json ? try JSONOutput.text(report) : report.table)
        }
    }

    private func measures(_ kernel: MeasuredKernel, _ set: String, _ tokens: Int) -> Bool {
        if tokens > 1, !kernel.multipliesMatrices { return false }
        return isa != nil || set != "scalar" || tokens == 1
    }

    private func chosenKernels() throws -> [MeasuredKernel] {
        guard let formats else { return MeasuredKernel.all }
        return try formats.split(separator: ",").flatMap { word in
            let found = MeasuredKernel.all.filter { $0.family.lowercased() == word.lowercased() }
            guard !found.isEmpty else {
                var known: [String] = []
                for kernel in MeasuredKernel.all where !known.contains(kernel.family) {
                    known.append(kernel.family)
                }
                throw InputError(
                    "--formats: no kernel is called '\(word)'; there are "
                        + known.joined(separator: ", "))
            }
            return found
        }
    }

    private func chosenInstructionSets() throws -> [String] {
        let available = InstructionSet.available
        guard let isa, isa != "all" else { return available }
        return try isa.split(separator: ",").map { word in
            guard available.contains(String(word)) else {
                throw InputError(
                    "--isa: '\(word)' is not one of this machine's: "
                        + available.joined(separator: ", "))
            }
            return String(word)
        }
    }

    private func chosenPlaces() throws -> [MeasuredPlace] {
        guard let places else { return MeasuredPlace.allCases }
        return try places.split(separator: ",").map { word in
            guard let place = MeasuredPlace(rawValue: String(word)) else {
                throw InputError(
                    "--places: '\(word)' is none of "
                        + MeasuredPlace.allCases.map(\.rawValue).joined(separator: ", "))
            }
            return place
        }
    }
}

/// What `bench kernels` measured. Rates per second; GB are 10^9 bytes.
struct KernelReport: Encodable {
    var threads: Int
    var instructionSets = InstructionSet.available
    var arenaBytes: Int
    var rounds: Int
    /// Plain reads of one thread and of all of them, before and after everything else.
    var readGigabytesPerSecondOneThread: Spread
    var readGigabytesPerSecond: Spread
    var rows: [KernelRow] = []
    private var reads: (one: [Double], all: [Double]) = ([], [])

    private enum CodingKeys: CodingKey {
        case threads, instructionSets, arenaBytes, rounds, readGigabytesPerSecondOneThread
        case readGigabytesPerSecond, rows
    }

    init(_ bench: KernelBench, rounds: Int) {
        threads = bench.threads
        arenaBytes = bench.arenaBytes
        self.rounds = rounds
        readGigabytesPerSecondOneThread = Spread([0])
        readGigabytesPerSecond = Spread([0])
        finish(bench, rounds: rounds)
    }

    /// Reads again: what the memory gave at the end counts, too.
    mutating func finish(_ bench: KernelBench, rounds: Int) {
        for _ in 0..<rounds {
            reads.one.append(bench.readRate(threads: 1) / 1e9)
            reads.all.append(bench.readRate(threads: bench.threads) / 1e9)
        }
        readGigabytesPerSecondOneThread = Spread(reads.one)
        readGigabytesPerSecond = Spread(reads.all)
    }

    var table: String {
        var lines = [
            [
                "kernel", "isa", "place", "tokens", "GB/s", "GFLOP/s", "million rows/s",
                "read GB/s",
                "roofline",
            ]
        ]
        lines += rows.map { row in
            [
                row.kernel, row.instructionSet, row.place, "\(row.tokens)",
                row.gigabytesPerSecond.text(1), row.gigaflopsPerSecond.text(0),
                fixed(row.rowsPerSecond.median / 1e6, 2),
                row.readGigabytesPerSecond?.text(1) ?? "",
                row.rooflineShare.map { "\(fixed($0.median * 100, 0)) %" } ?? "",
            ]
        }
        return "plain read: one thread \(readGigabytesPerSecondOneThread.text(1)) GB/s, \(threads) "
            + "threads \(readGigabytesPerSecond.text(1)) GB/s\n" + TextTable.aligned(lines)
    }
}

/// One kernel in one place.
struct KernelRow: Encodable {
    var kernel: String
    var instructionSet: String
    var place: String
    var tokens: Int
    /// Of weights, each counted once.
    var gigabytesPerSecond: Spread
    /// Two operations for each multiplication with its addition.
    var gigaflopsPerSecond: Spread
    var rowsPerSecond: Spread
    /// Of the plain reads between the passes.
    var readGigabytesPerSecond: Spread?
    /// Of the lesser of the read just before and of the best rate in the cache.
    var rooflineShare: Spread?

    init(
        _ kernel: MeasuredKernel, _ set: String, _ place: MeasuredPlace, _ tokens: Int,
        _ samples: KernelBench.Samples, cachedRate: Double
    ) {
        self.kernel = kernel.name
        instructionSet = set
        self.place = place.rawValue
        self.tokens = tokens
        gigabytesPerSecond = Spread(samples.bytesPerSecond.map { $0 / 1e9 })
        gigaflopsPerSecond = Spread(samples.operationsPerSecond.map { $0 / 1e9 })
        rowsPerSecond = Spread(samples.rowsPerSecond)
        guard place != .cache else { return }
        readGigabytesPerSecond = Spread(samples.readBytesPerSecond.map { $0 / 1e9 })
        rooflineShare = Spread(
            zip(samples.bytesPerSecond, samples.readBytesPerSecond).map {
                $0 / min($1, cachedRate)
            })
    }
}
