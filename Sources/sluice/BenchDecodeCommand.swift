import ArgumentParser
import Inference

struct BenchDecodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decode",
        abstract: "Measures whole tokens of decode, and where their time goes.",
        discussion: """
            One engine, with its expert cache filled first. Every round reads memory plainly and then decodes -n tokens \
            at each of the positions of --at; what lies before them is computed as a prompt, once. Token ids are fixed, \
            from all over the vocabulary. The roofline is the time that the bytes a token touches take at the \
            round's own rate of reading, or its kernels in the cache where that is longer.
            """)

    @OptionGroup var arguments: WholeTokenArguments

    @Option(
        help: ArgumentHelp("Positions to decode at, as 0,4096.", valueName: "positions"))
    var at: CountList = CountList([0])

    @Option(
        name: .customShort("n"),
        help: ArgumentHelp("Tokens measured per round.", valueName: "tokens")
    )
    var count: Int = 32

    @Option(help: ArgumentHelp("Tokens decoded before, at every position.", valueName: "tokens"))
    var warmUp: Int = 4

    func validate() throws {
        if count < 1 { throw ValidationError("-n \(count) measures nothing.") }
        if warmUp < 0 { throw ValidationError("--warm-up \(warmUp) is negative.") }
    }

    func run() throws {
        try Failure.reporting {
            let positions = at.counts
            let furthest = positions.max() ?? 0
            var measured = try MeasuredEngine(arguments, positions: furthest + max(count, warmUp))
            let set = measured.engine.instructionSet
            var machine = Roofline(readRate: measured.readRate())
            try measured.work.measure(
                tokens: 1, into: &machine, measured.bench, instructionSet: set)
            if furthest > 0 {
                Console.progress("computing the \(furthest) positions before")
                try measured.engine.prefill(measured.ids(0..<furthest), from: 0)
            }
            // A state cannot go back, so each position is come to anew.
            func goTo(_ position: Int) throws {
                guard measured.engine.keepsState, position > 0 else { return }
                try measured.engine.prefill(measured.ids(0..<position), from: 0)
            }
            for position in positions where warmUp > 0 {
                try goTo(position)
                let ids = measured.ids(position..<position + warmUp)
                _ = try measured.measure(tokens: warmUp) { try decode(&$0, ids, position) }
            }
            var runs = positions.map { _ in [WholeTokenRun]() }
            var rates: [[Double]] = positions.map { _ in [] }
            for round in 0..<arguments.repeated.rounds {
                for (index, position) in positions.enumerated() {
                    Console.progress(
                        "round \(round + 1) of \(arguments.repeated.rounds) at \(position)")
                    let ids = measured.ids(position..<position + count)
                    try goTo(position)
                    rates[index].append(measured.readRate())
                    runs[index].append(
                        try measured.measure(tokens: count) { engine in
                            try decode(&engine, ids, position)
                        })
                }
            }
            let rows = positions.indices.map { index in
                let keyValues =
                    measured.keyValueBytes(positions: positions[index] + count / 2)
                    + measured.engine.stateByteCount
                return WholeTokenRow(
                    at: positions[index], tokens: count,
                    bytesPerToken: measured.work.bytesPerToken + keyValues,
                    products: measured.work.products(tokens: 1) * count, runs: runs[index],
                    readRates: rates[index],
                    leastSeconds: rates[index].map { rate in
                        machine.readRate = rate
                        let token =
                            measured.work.leastSeconds(tokens: 1, machine)
                            + measured.work.leastHeadSeconds(machine) + Double(keyValues) / rate
                        return token * Double(count)
                    })
            }
            let report = WholeTokenReport(measured, rows: rows)
            Console.out(
                arguments.report.json
                    ? try JSONOutput.text(report) : WholeTokenRow.table("position", rows))
        }
    }
}

/// Decodes `ids` from `position` on.
private func decode(
    _ engine: inout Engine, _ ids: [Int32], _ position: Int
) throws {
    for index in ids.indices { try engine.decode(ids[index], at: position + index) }
}
