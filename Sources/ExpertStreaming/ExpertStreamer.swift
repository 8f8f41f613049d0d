private import CHost
private import CRing

/// Brings a model's experts from disk into a fixed amount of memory, and keeps the ones used last.
///
/// One layer at a time: `acquire` leases the experts that are in memory and sends the reads of all
/// others at once; `next` hands them out as they are there; `release` ends the leases.
///
///     var streamer = try ExpertStreamer(
///         layout: layout, paths: ["model.gguf"], cacheBytes: 512 << 20, activeExpertsPerToken: 4)
///     let chosen: [Int32] = [3, 17, 42, 64]  // by the router
///     chosen.withUnsafeBufferPointer {
///         streamer.acquire(layer: 0, experts: $0.baseAddress!, count: $0.count)
///     }
///     var index = streamer.next(wait: true)
///     while index >= 0 {
///         compute(expert: chosen[index], gate: streamer.address(index: index, part: 0))
///         index = streamer.next(wait: true)
///     }
///     streamer.release()
///     if let failure = streamer.takeFailure() { throw failure }
///
/// It knows layers, experts and bytes, nothing of transformers. It belongs to one thread, the
/// leader: the one that first acquires. After `init` it allocates nothing, takes no lock and grows
/// no more.
///
/// Where weights are cut into planes, a plane is what has a slot, is read and is evicted; a lease
/// is of an expert, and covers all its planes.
///
///     disk --pieces--> slot (empty -> loading -> resident)    ExpertCache: which slot
///            Disk                                             SlotArena:   where in memory
public struct ExpertStreamer: ~Copyable {
    public let layout: ExpertLayout
    /// The memory of the cache as it is now.
    public internal(set) var plan: StreamingPlan
    /// The way of reading in use.
    public let mode: IOMode
    /// The mode in words, with why no better one is in use: for logs and summaries.
    public var modeReason: String { modeText.0 + disk.registration + modeText.1 }
    /// The failure that made `next` return -2; until it is taken, or the next `acquire`.
    public internal(set) var failure: StreamingError?

    /// `modeReason` before and after what it says of registered buffers.
    private let modeText: (String, String)
    let paths: [String]
    let planeShares: [Double]
    /// Experts that a token uses in each layer.
    let active: Int
    var cache: ExpertCache
    var arena: SlotArena
    var disk: Disk

    /// Byte in its slot where a part starts, by slot and part.
    var partPlaces: FlatArray<UInt32>
    /// How far the reading of a slot's plane is, by slot.
    var reads: FlatArray<SlotRead>

    /// The acquired set, by index: experts, planes asked for, slots that are still being read for
    /// it; and the indices in the order in which they are there. Who was released alone keeps its
    /// index, with expert -1.
    var setCount = 0
    /// Experts of the set that are leased still.
    var leasedCount = 0
    var setExperts: FlatArray<Int32>
    var setPlanes: FlatArray<UInt8>
    var setMissing: FlatArray<Int32>
    var ready: FlatArray<Int32>
    var readyHead = 0
    var readyTail = 0
    /// Index in the acquired set by expert index; -1 for none.
    var setIndex: FlatArray<Int32>

    /// Slots whose reads are not all cut into pieces yet: those that the set waits for, and those
    /// that are read in the background.
    var demand: NumberQueue
    var background: NumberQueue
    /// What shall be read in the background when the disk has time: experts (by index) that have
    /// only a prefix, before experts that are predicted.
    var upgrades: NumberQueue
    var wishes: PrefetchQueue
    /// Whether new reads in the background may begin.
    var allowsBackground = true
    /// Pieces in flight or waiting to be sent again, by tag; the tags not in use; and those that
    /// must be sent again.
    var pieces: FlatArray<ReadPiece>
    var freeTags: FlatArray<Int32>
    var freeTagCount: Int
    var retries: FlatArray<Int32>
    var retryCount = 0
    var inFlight = 0
    var inFlightBytes = 0
    /// Of those in flight: what was sent in the background.
    var backgroundInFlight = 0
    var backgroundBytes = 0
    /// When the first of the set's reads in flight was sent.
    var busySince: UInt64 = 0
    /// The set is being released: nothing of it is sent again.
    var isReleasing = false

    var counters = ExpertStreamerStatistics()
    /// Says how many predicted experts of a layer are read; nil: all.
    var governor: PrefetchGovernor?
    /// Tokens of the governor's window, and the figures when it began.
    var windowTokens = 0
    var windowStart = ExpertStreamerStatistics()

    // MARK: Planning

    /// Alignment in bytes that direct reads of these files need; what `plan` wants to know.
    ///
    /// - Throws: `unusableFile` for a file that cannot be opened.
    public static func alignment(paths: [String]) throws(StreamingError) -> Int {
        var files = OpenFiles(count: paths.count)
        if let failure = files.open(paths: paths, direct: false) {
            throw StreamingError(
                .unusableFile,
                "\(paths[failure.index]): cannot be opened (\(errnoText(failure.error)))")
        }
        return files.directAlignment()
    }

    /// What a cache of `cacheBytes` would hold and take, without allocating it.
    ///
    /// - Parameters:
    ///   - alignment: as `alignment(paths:)` tells it.
    ///   - activeExpertsPerToken: experts that a token uses in each layer.
    ///   - cacheBytes: memory for slots; the plan uses at most that.
    ///   - planeShares: as in `StreamingOptions`.
    /// - Throws: `cacheTooSmall` with the size that would do; `invalidLayout` for shares that do
    ///   not fit the layout.
    public static func plan(
        layout: ExpertLayout, alignment: Int, activeExpertsPerToken: Int, cacheBytes: Int,
        planeShares: [Double] = []
    ) throws(StreamingError) -> StreamingPlan {
        try StreamingPlan(
            layout: layout, alignment: alignment, active: activeExpertsPerToken,
            cacheBytes: cacheBytes, planeShares: planeShares)
    }

    /// The cache sizes that matter for a model: floor, active set, everything.
    public static func needs(
        layout: ExpertLayout, alignment: Int, activeExpertsPerToken: Int
    ) -> CacheNeeds {
        guard
            let plan = try? StreamingPlan(
                layout: layout, alignment: alignment, active: activeExpertsPerToken,
                cacheBytes: .max)
        else { preconditionFailure("an unlimited cache is never too small") }
        return plan.needs
    }

    // MARK: Making one

    /// Allocates the cache, opens the files and finds a way of reading that works.
    ///
    /// - Parameters:
    ///   - paths: the files that the layout's extents name by index.
    ///   - cacheBytes: memory for slots; `plan` tells what else is taken.
    ///   - activeExpertsPerToken: experts that a token uses in each layer; the queue is made deep
    ///     enough for their reads.
    /// - Throws: `cacheTooSmall`, `outOfMemory`, `unusableFile`, or `modeRefused` for a mode that
    ///   was asked for and does not work.
    public init(
        layout: ExpertLayout, paths: [String], cacheBytes: Int, activeExpertsPerToken: Int,
        options: StreamingOptions = StreamingOptions()
    ) throws(StreamingError) {
        try self.init(
            layout: layout, paths: paths, cacheBytes: cacheBytes,
            activeExpertsPerToken: activeExpertsPerToken, options: options, refusals: .init(),
            simulated: nil)
    }

    /// As above, for a plan that was made before.
    ///
    /// - Parameter plan: made by `plan` for the same layout, paths, active experts and shares.
    public init(
        layout: ExpertLayout, paths: [String], plan: StreamingPlan, activeExpertsPerToken: Int,
        options: StreamingOptions = StreamingOptions()
    ) throws(StreamingError) {
        try self.init(
            layout: layout, paths: paths, plan: plan, activeExpertsPerToken: activeExpertsPerToken,
            options: options, refusals: DiskLadder.Refusals(), simulated: nil)
    }

    /// As the first, with conditions and a disk for tests.
    init(
        layout: ExpertLayout, paths: [String], cacheBytes: Int, activeExpertsPerToken: Int,
        options: StreamingOptions = StreamingOptions(),
        refusals: DiskLadder.Refusals = DiskLadder.Refusals(), simulated: SimulatedDisk?
    ) throws(StreamingError) {
        let plan = try Self.plan(
            layout: layout, alignment: Self.alignment(paths: paths),
            activeExpertsPerToken: activeExpertsPerToken, cacheBytes: cacheBytes,
            planeShares: options.planeShares)
        try self.init(
            layout: layout, paths: paths, plan: plan, activeExpertsPerToken: activeExpertsPerToken,
            options: options, refusals: refusals, simulated: simulated)
    }

    private init(
        layout: ExpertLayout, paths: [String], plan: StreamingPlan, activeExpertsPerToken: Int,
        options: StreamingOptions, refusals: DiskLadder.Refusals, simulated: SimulatedDisk?
    ) throws(StreamingError) {
        guard paths.count == layout.fileSizes.count else {
            throw StreamingError(
                .invalidLayout, "\(paths.count) paths given for \(layout.fileSizes.count) files")
        }
        let ladder = DiskLadder(
            paths: paths, samples: Self.samples(layout, alignment: plan.alignment),
            refusals: refusals)
        let choice = try ladder.choose(options.io)
        try choice.files.checkSizes(layout.fileSizes, paths: paths)
        var arena = SlotArena(plan: plan)
        try arena.map(plan: plan)

        let opened = try DiskOpener(
            plan: plan,
            depth: Self.depth(layout: layout, plan: plan, active: activeExpertsPerToken),
            refusals: refusals
        ).open(choice, forced: options.io != nil, arena: arena, simulated: simulated)
        self.init(
            layout: layout, paths: paths, plan: plan, active: activeExpertsPerToken,
            options: options, arena: arena, opened: opened)
    }

    /// Puts the parts together; apart from the above, because Swift 6.2 miscounts what an
    /// initializer of a noncopyable type has initialized when it throws.
    private init(
        layout: ExpertLayout, paths: [String], plan: StreamingPlan, active: Int,
        options: StreamingOptions, arena: consuming SlotArena, opened: consuming DiskOpener.Opened
    ) {
        mode = opened.mode
        modeText = (opened.reason, opened.because)
        disk = opened.disk
        let depth = disk.depth
        let experts = layout.expertsPerLayer
        cache = ExpertCache(plan: plan, layout: layout, policy: options.policy, active: active)
        planeShares = options.planeShares
        governor = options.prefetchRanks.map { PrefetchGovernor(largestLevel: $0) }
        partPlaces = FlatArray(
            repeating: 0, count: arena.slotCapacity * layout.partsPerExpert)
        reads = FlatArray(repeating: SlotRead(), count: arena.slotCapacity)
        setExperts = FlatArray(repeating: -1, count: experts)
        setPlanes = FlatArray(repeating: 0, count: experts)
        setMissing = FlatArray(repeating: 0, count: experts)
        ready = FlatArray(repeating: -1, count: experts)
        setIndex = FlatArray(repeating: -1, count: layout.layerCount * experts)
        demand = NumberQueue(capacity: experts * layout.planesPerExpert)
        background = NumberQueue(capacity: depth + layout.planesPerExpert)
        upgrades = NumberQueue(capacity: Self.waitingUpgrades)
        wishes = PrefetchQueue(capacity: Self.waitingWishes)
        let blank = unsafe ReadPiece(
            address: arena.address(slot: 0), offset: 0, length: 0, needed: 0, fileIndex: 0, slot: 0,
            chunk: 0, attempts: 0)
        pieces = FlatArray(repeating: blank, count: depth)
        var freeTags = FlatArray<Int32>(repeating: 0, count: depth)
        for tag in 0..<depth { freeTags[tag] = Int32(tag) }
        self.freeTags = freeTags
        freeTagCount = depth
        retries = FlatArray(repeating: 0, count: depth)
        self.arena = arena
        self.layout = layout
        self.plan = plan
        self.paths = paths
        self.active = min(active, layout.expertsPerLayer)
    }

    /// Upgrades and predictions that wait at most; more are dropped.
    static let waitingUpgrades = 64
    static let waitingWishes = 64

    /// A range of every file that holds weights, to try reading with.
    private static func samples(_ layout: ExpertLayout, alignment: Int) -> [AlignedRange?] {
        var samples = [AlignedRange?](repeating: nil, count: layout.fileSizes.count)
        for index in 0..<layout.layerCount * layout.expertsPerLayer * layout.planesPerExpert {
            var part = 0
            while let range = layout.range(planeIndex: index, part: part, alignment: alignment) {
                if samples[range.fileIndex] == nil { samples[range.fileIndex] = range }
                part = range.nextPart
            }
        }
        return samples
    }

    /// Reads that may be in flight: all of one token's misses of a layer if the experts are small,
    /// and as many as the window holds if they are large.
    private static func depth(layout: ExpertLayout, plan: StreamingPlan, active: Int) -> Int {
        let perExpert = plan.classes.reduce(0) {
            max(
                $0,
                $1.slotBytes / ReadPiece.largestBytes + layout.partsPerExpert * $1.pools.count)
        }
        return min(max(active * perExpert, 32), 256)
    }

    deinit {
        // Reads in flight write to the arena: wait for them. If that cannot be (the ring belongs to
        // a thread that is gone), the arena is left mapped rather than given to somebody else.
        if inFlight > 0, !disk.drain(inFlight) { arena.abandon() }
    }
}
