/// Everything a report shows, and everything its JSON holds.
public struct BenchmarkReport: Codable, Sendable {
    public struct Machine: Codable, Sendable, Equatable {
        public var processor: String
        public var processors: Int
        public var memoryBytes: Int
        public var kernel: String
        /// What the models lie on.
        public var drive: String
        /// Instruction set of the kernels.
        public var instructionSet: String

        public init(
            processor: String, processors: Int, memoryBytes: Int, kernel: String, drive: String,
            instructionSet: String
        ) {
            self.processor = processor
            self.processors = processors
            self.memoryBytes = memoryBytes
            self.kernel = kernel
            self.drive = drive
            self.instructionSet = instructionSet
        }
    }

    /// All runs of one point.
    public struct Row: Codable, Sendable {
        public var point: BenchmarkPoint
        /// The command that measures this row alone, again.
        public var command: String
        public var runs: [BenchmarkRun]

        public init(point: BenchmarkPoint, command: String, runs: [BenchmarkRun]) {
            self.point = point
            self.command = command
            self.runs = runs
        }

        public var decode: Spread { Spread(runs.map(\.decodeTokensPerSecond)) }

        /// The spread of a figure over the runs that have it; nil where none does.
        public func spread(_ figure: (BenchmarkRun) -> Double?) -> Spread? {
            let values = runs.compactMap(figure)
            return values.isEmpty ? nil : Spread(values)
        }

        /// A percentile, 0 ... 1, of the time of a token, over all runs; nil without times.
        public func tokenSeconds(percentile: Double) -> Double? {
            let times = runs.flatMap(\.tokenSeconds).sorted()
            guard !times.isEmpty else { return nil }
            let place = Int((Double(times.count) * percentile).rounded(.up)) - 1
            return times[min(max(place, 0), times.count - 1)]
        }
    }

    /// What a setting costs in quality, and saves in bytes.
    public struct Quality: Codable, Sendable, Equatable {
        public var model: String
        public var setting: String
        public var perplexity: Double
        public var exactPerplexity: Double
        public var meanDivergence: Double
        /// Share of tokens whose likeliest next one is the same.
        public var agreement: Double
        public var bytesReadPerToken: Double
        public var tokens: Int

        public init(
            model: String, setting: String, perplexity: Double, exactPerplexity: Double,
            meanDivergence: Double, agreement: Double, bytesReadPerToken: Double, tokens: Int
        ) {
            self.model = model
            self.setting = setting
            self.perplexity = perplexity
            self.exactPerplexity = exactPerplexity
            self.meanDivergence = meanDivergence
            self.agreement = agreement
            self.bytesReadPerToken = bytesReadPerToken
            self.tokens = tokens
        }
    }

    /// Form of this record; readers refuse another.
    public var version = 1
    /// Days as 2026-11-21.
    public var date: String
    /// The whole sweep's command.
    public var command: String
    /// Version of the program, and the commit of the checkout that it lies in: build before measuring.
    public var sluice: String
    public var commit: String?
    public var machine: Machine
    public var rows: [Row]
    public var quality: [Quality] = []
    /// What a reader must know: limits that could not be set, gaps between this machine and a board.
    public var remarks: [String] = []

    public init(date: String, command: String, sluice: String, machine: Machine, rows: [Row]) {
        self.date = date
        self.command = command
        self.sluice = sluice
        self.machine = machine
        self.rows = rows
    }
}

/// Median with least and greatest.
public struct Spread: Codable, Sendable, Equatable {
    public var median: Double
    public var least: Double
    public var greatest: Double

    /// - Parameter values: At least one.
    public init(_ values: [Double]) {
        let sorted = values.sorted()
        median = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
        least = sorted[0]
        greatest = sorted[sorted.count - 1]
    }
}
