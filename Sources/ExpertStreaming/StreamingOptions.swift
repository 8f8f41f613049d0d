/// How experts are read and kept.
public struct StreamingOptions: Sendable, Equatable {
    /// The way of reading; nil for the best that works.
    public var io: IOMode?
    /// Which expert leaves first.
    public var policy: EvictionPolicy
    /// Slots of every plane relative to those of plane 0, which is 1: none may be larger than 1.
    /// Missing ones count as 1. With less than 1 for the later planes, the cache holds more experts
    /// at low width than at full width.
    public var planeShares: [Double]

    /// Predicted experts per layer that `prefetch` may read, at most; nil for as many as it is
    /// told. With a number, a governor allows fewer when reading ahead does not pay.
    public var prefetchRanks: Int?

    public init(
        io: IOMode? = nil, policy: EvictionPolicy = .lru, planeShares: [Double] = [],
        prefetchRanks: Int? = nil
    ) {
        self.io = io
        self.policy = policy
        self.planeShares = planeShares
        self.prefetchRanks = prefetchRanks
    }
}
