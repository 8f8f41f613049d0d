import ArgumentParser
import Inference

struct BenchPrefillCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prefill",
        abstract: "Measures prompts, and where their time goes.",
        discussion: """
            One engine, with its expert cache filled first. Every round reads memory plainly and then computes a \
            prompt of each of --lengths from an empty context; the head is computed once for each. Token ids are \
            fixed, from all over the vocabulary. The roofline is the time that each chunk's weights take at the \
            round's own rate of reading, or their kernels in the cache where that is longer, with the experts \
            chosen evenly; attention to earlier positions is not in it.
            """)

    @OptionGroup var arguments: WholeTokenArguments

    @Option(help: ArgumentHelp("Tokens of the prompts.", valueName: "tokens"))
    var lengths: CountList = CountList([128, 512])

    func validate() throws {
        for length in lengths.counts where length < 1 {
            throw ValidationError("--lengths \(length) measures nothing.")
        }
    }

    func run() throws {
        try Failure.reporting {
            let lengths = lengths.counts
            var measured = try MeasuredEngine(arguments, positions: lengths.max() ?? 1)
            let set = measured.engine.instructionSet
            var machine = Roofline(readRate: measured.readRate())
            for length in lengths {
                for tokens in chunks(of: length, measured.chunk) {
                    try measured.work.measure(
                        tokens: tokens, into: &machine, measured.bench, instructionSet: set)
                }
            }
            // Once for nothing: pages of the key-value cache and buffers are touched.
            try measured.engine.prefill(measured.ids(0..<(lengths.max() ?? 1)), from: 0)
            var runs = lengths.map { _ in [WholeTokenRun]() }
            var rates: [[Double]] = lengths.map { _ in [] }
            for round in 0..<arguments.repeated.rounds {
                for (index, length) in lengths.enumerated() {
                    Console.progress(
                        "round \(round + 1) of \(arguments.repeated.rounds): \(length) tokens")
                    let ids = measured.ids(0..<length)
                    rates[index].append(measured.readRate())
                    runs[index].append(
                        try measured.measure(tokens: length) { try $0.prefill(ids, from: 0) })
                }
            }
            let work = measured.work
            let rows = lengths.indices.map { index in
                let length = lengths[index]
                let sizes = chunks(of: length, measured.chunk)
                return WholeTokenRow(
                    at: 0, tokens: length,
                    bytesPerToken: work.bytesPerToken
                        + measured.keyValueBytes(positions: length / 2),
                    products: work.products(tokens: length), runs: runs[index],
                    readRates: rates[index],
                    leastSeconds: rates[index].map { rate in
                        machine.readRate = rate
                        return sizes.reduce(work.leastHeadSeconds(machine)) {
                            $0 + work.leastSeconds(tokens: $1, machine)
                        }
                    })
            }
            let report = WholeTokenReport(measured, rows: rows)
            Console.out(
                arguments.report.json
                    ? try JSONOutput.text(report) : WholeTokenRow.table("prompt", rows))
        }
    }

    /// Sizes of the chunks that a prompt is computed in.
    private func chunks(of length: Int, _ chunk: Int) -> [Int] {
        stride(from: 0, to: length, by: chunk).map { min(chunk, length - $0) }
    }
}
