/// What one process measured at one point. Rates per second, times in seconds, shares of 1; figures
/// of decode unless they are named otherwise. A peer leaves out what it cannot know.
public struct BenchmarkRun: Codable, Sendable, Equatable {
    /// Name and version of what computed.
    public var engine: String
    public var prefillTokensPerSecond: Double?
    public var decodeTokensPerSecond: Double
    /// Of every token that counted, in order.
    public var tokenSeconds: [Double]
    public var loadSeconds: Double?

    /// Experts found in memory at full width, of those asked for.
    public var hitRate: Double?
    /// Found in memory with exactly so many planes, 1 ... n: shares of those asked for.
    public var hitsByPlanes: [Double]?
    public var cacheBytes: Int?
    /// The cache as a multiple of the experts that one token uses.
    public var cacheMultiple: Double?
    /// Read because a token waited for them.
    public var demandBytesPerToken: Double?
    /// The rest of experts whose first planes were in memory.
    public var upgradeBytesPerToken: Double?
    /// Read ahead of time, by what became of it.
    public var usefulAheadBytesPerToken: Double?
    public var wastedAheadBytesPerToken: Double?
    /// Waited for the disk with nothing to compute.
    public var stallSecondsPerToken: Double?
    public var computeSecondsPerToken: Double?
    /// Shares of the router's gate mass by the planes computed with, and what was skipped or replaced.
    public var gateMassByPlanes: [Double]?
    public var approximatedGateMass: Double?

    public var majorFaults: Int?
    public var peakMemoryBytes: Int?
    /// How experts were read, or a peer's way of loading.
    public var ioMode: String?

    /// Weights that one token touches, in memory.
    public var bytesTouchedPerToken: Double?
    /// Measured in the same process, under the same limits.
    public var memoryBytesPerSecond: Double?
    public var diskBytesPerSecond: Double?
    /// The speed over that of the bound, see `Roofline`.
    public var rooflineShare: Double?

    /// Experts by layer and id.
    public var heat: ExpertHeat?

    // What the harness adds.
    /// Peak of the control group, page cache included.
    public var groupPeakBytes: Int?
    /// Bytes of the model in the page cache just before the run: shown to be none.
    public var cachedBytesBefore: Int?
    /// 1 ... repeats.
    public var round: Int?

    public init(engine: String, decodeTokensPerSecond: Double, tokenSeconds: [Double]) {
        self.engine = engine
        self.decodeTokensPerSecond = decodeTokensPerSecond
        self.tokenSeconds = tokenSeconds
    }
}

/// How often experts were used, and which were in memory at the end; row by row over layers.
public struct ExpertHeat: Codable, Sendable, Equatable {
    public var layers: Int
    public var experts: Int
    /// Times chosen, `layers * experts` of them.
    public var uses: [Int]
    /// Planes in memory when the run ended, 0 for none.
    public var residentPlanes: [Int]
    /// That an expert has at most.
    public var planes: Int

    public init(layers: Int, experts: Int, uses: [Int], residentPlanes: [Int], planes: Int) {
        self.layers = layers
        self.experts = experts
        self.uses = uses
        self.residentPlanes = residentPlanes
        self.planes = planes
    }
}
