public import ExpertStreaming
internal import CHost
internal import ModelFormats

/// What an engine will take, worked out before any of it is allocated.
///
/// ```
///   budget >= resident weights + key-value cache + scratch + prediction tables
///             + expert cache (slots and tables) + process
/// ```
/// The floor is the same sum with the smallest expert cache that works: the experts that are never
/// evicted, and beside them those that a token uses in one layer. A budget below the floor is
/// refused; the expert cache never takes more than the budget leaves.
public struct MemoryPlan: Sendable {
    /// The ceiling, and where it comes from.
    public private(set) var budgetBytes: Int
    public private(set) var budgetSource: String
    /// Weights that every token needs.
    public let residentBytes: Int
    public let keyValueBytes: Int
    /// Working buffers, logits and rotary tables.
    public let scratchBytes: Int
    /// Tables that experts are predicted with.
    public let predictionBytes: Int
    /// The program itself: code, header, vocabulary, sampler, thread stacks, page tables of the
    /// resident part.
    public let processBytes: Int
    /// The expert cache.
    public private(set) var streaming: StreamingPlan
    /// Positions of the key-value cache.
    public let context: Int
    /// Sequences that the key-value cache holds, each with `context` positions.
    public let sequences: Int
    public let threads: Int

    public var cacheBytes: Int { streaming.arenaBytes }
    public var totalBytes: Int { fixedBytes + streaming.totalBytes }
    /// The smallest budget that works.
    public let floorBytes: Int
    /// The smallest expert cache that works, in bytes of slots.
    let cacheFloorBytes: Int
    private let fixedBytes: Int
    let processors: Processors
    let chunk: Int
    let headRows: Int
    let layout: ExpertLayout
    let scratch: ScratchLayout
    let keyValueRows: KeyValueRows
    private let policyWarnings: [String]
    private let activeExpertsPerToken: Int
    private let askedCache: CacheSize
    private let planeShares: [Double]

    /// Plans `model` under `options`; allocates nothing that lasts.
    ///
    /// - Throws: `EngineError` naming the shortfall and the figure that would do; `StreamingError`
    ///   where the model's disk refuses even to be asked.
    public init(model: ModelDescription, options: EngineOptions) throws {
        let processors = Processors.ofThisProcess()
        self.processors = processors
        threads = try MemoryPlan.checked(
            "--threads", options.threads ?? processors.recommended, 1...256)
        context = try MemoryPlan.checked(
            "--ctx", options.context ?? min(model.contextLength, EngineOptions.defaultContext),
            1...model.contextLength)
        sequences = try MemoryPlan.checked("--sequences", options.sequences, 1...256)
        // One step of every sequence is a chunk, too, and leaves a row of logits for each.
        chunk = max(
            sequences, min(try MemoryPlan.checked("--chunk", options.chunk, 1...4096), context))
        headRows = max(sequences, min(options.headRows, chunk))
        if case .deferred = options.missPolicy, sequences > 1 {
            throw EngineError(
                "--miss \(options.missPolicy) computes one sequence at a time, not \(sequences)")
        }
        var policyWarnings: [String] = []
        if let warning = options.missPolicy.warning(expertsPerToken: model.expertsPerToken) {
            policyWarnings.append(warning)
        }
        if options.prefetchRanks > 0, options.predictor.layersAhead == 0 {
            policyWarnings.append(
                "--prefetch \(options.prefetchRanks) reads nothing without guesses; give --predict")
        }
        self.policyWarnings = policyWarnings
        try options.predictor.check(
            layers: model.layerCount, experts: model.expertCount, embedding: model.embeddingLength)
        if let planes = options.expertPlanes {
            _ = try MemoryPlan.checked("--expert-planes", planes, 1...model.planesPerExpert)
        }
        guard options.prefetchRanks >= 0 else {
            throw EngineError("--prefetch \(options.prefetchRanks) is negative")
        }
        for name in options.protectedExperts
        where !(0..<model.layerCount).contains(name.layer)
            || !(0..<model.expertCount).contains(name.expert)
        {
            throw EngineError(
                "\(name) is to be protected, but the model has \(model.layerCount) layers of "
                    + "\(model.expertCount) experts")
        }
        let layout = try ExpertLayout(model: model)
        self.layout = layout
        scratch = ScratchLayout(
            model: model, arithmetic: options.arithmetic, chunk: chunk,
            headRows: headRows, context: context, workers: threads,
            layersAhead: options.predictor.layersAhead,
            sequenceCount: sequences)

        residentBytes = ResidentWeights.byteCount(of: model)
        scratchBytes = scratch.byteCount
        keyValueRows = try KeyValueRows(
            options.keyValues, arithmetic: options.arithmetic, headSize: model.headSize)
        let positionBytes = model.layerCount * model.keyValueHeadCount * keyValueRows.byteCount
        // Each factor is bounded by a tensor's shape; the product of them may still not fit.
        let (rows, tooLong) = positionBytes.multipliedReportingOverflow(
            by: sequences * context * 2)
        guard !tooLong else {
            throw EngineError("a key-value cache for \(sequences) x \(context) positions is absurd")
        }
        keyValueBytes = rows
        predictionBytes = options.predictor.byteCount
        let held = residentBytes + keyValueBytes + scratchBytes + predictionBytes
        processBytes =
            MemoryPlan.programBytes + model.file.metadata.headerByteCount * 3 + model
            .vocabularyCount * 48
            + model.layerCount * model.expertCount * 128 + threads * 256 * 1024 + held / 512
        fixedBytes = held + processBytes

        let limit = MemoryLimit.available()
        budgetBytes = options.memoryBytes ?? limit.bytes
        budgetSource = options.memoryBytes == nil ? limit.explanation : "--memory"
        let alignment = try ExpertStreamer.alignment(paths: model.file.paths)
        func plan(_ cacheBytes: Int) throws(StreamingError) -> StreamingPlan {
            try ExpertStreamer.plan(
                layout: layout, alignment: alignment, activeExpertsPerToken: model.expertsPerToken,
                cacheBytes: cacheBytes, planeShares: options.planeShares)
        }
        let needs = ExpertStreamer.needs(
            layout: layout, alignment: alignment, activeExpertsPerToken: model.expertsPerToken)
        let (smallest, cacheFloor) = try MemoryPlan.smallest(
            needs, holding: options.protectedExperts, expertsPerToken: model.expertsPerToken,
            plan: plan)
        cacheFloorBytes = cacheFloor
        floorBytes = fixedBytes + smallest.totalBytes
        guard budgetBytes >= floorBytes else {
            throw EngineError(
                "\(model.name) needs at least \(ByteSize(bytes: floorBytes).enoughMegabytes) of memory with a context "
                    + "of \(context)\(sequences == 1 ? "" : " for each of \(sequences) sequences")"
                    + "\(MemoryPlan.pins(options)), "
                    + "but \(budgetSource) allows "
                    + "\(ByteSize(bytes: budgetBytes)): \(ByteSize(bytes: floorBytes - budgetBytes)) short; "
                    + "give --memory \(ByteSize(bytes: floorBytes).enoughMegabytes), or lower --ctx"
            )
        }
        activeExpertsPerToken = model.expertsPerToken
        askedCache = options.cache
        planeShares = options.planeShares
        guard let asked = options.cache.bytes(for: needs) else {
            streaming = try MemoryPlan.largest(
                needs.fullBytes, within: budgetBytes - fixedBytes, floor: cacheFloorBytes,
                plan: plan)
            return
        }
        if asked < cacheFloorBytes, case .bytes = options.cache {
            throw EngineError(
                "--cache \(options.cache) cannot hold the \(model.expertsPerToken) experts that a token "
                    + "uses in one layer\(MemoryPlan.pins(options)); give at least "
                    + "\(ByteSize(bytes: cacheFloorBytes).enoughMegabytes)"
            )
        }
        streaming = try plan(max(asked, cacheFloorBytes))
        let total = fixedBytes + streaming.totalBytes
        guard total <= budgetBytes else {
            throw EngineError(
                "--cache \(options.cache) makes \(ByteSize(bytes: total).enoughMegabytes) in all, but "
                    + "\(budgetSource) allows \(ByteSize(bytes: budgetBytes)): "
                    + "\(ByteSize(bytes: total - budgetBytes)) short; give --memory "
                    + "\(ByteSize(bytes: total).enoughMegabytes), or --cache auto")
        }
    }

    /// The smallest cache with slots for what stays for ever and, beside it, for what a token uses
    /// in one layer.
    private static func smallest(
        _ needs: CacheNeeds, holding pinned: Set<LayerExpert>, expertsPerToken: Int,
        plan: (Int) throws(StreamingError) -> StreamingPlan
    ) throws -> (plan: StreamingPlan, cacheBytes: Int) {
        var trial = try plan(needs.floorBytes)
        var pins = trial.classes.map { _ in 0 }
        for name in pinned { pins[trial.classOfLayer[name.layer]] += 1 }
        var cacheBytes = needs.floorBytes
        while true {
            // What one class lacks the others get a share of, so it may take several steps.
            let lacking = zip(trial.classes, pins).reduce(0) { sum, pair in
                let slots = pair.1 == 0 ? 0 : pair.1 + expertsPerToken
                return sum + max(0, slots - pair.0.fullSlotCount) * pair.0.slotBytes
            }
            if lacking == 0 { return (trial, cacheBytes) }
            guard cacheBytes < needs.fullBytes else {
                throw EngineError(
                    "\(pinned.count) experts are to stay in memory, which leaves too few of their "
                        + "layers' for the \(expertsPerToken) of a token; protect fewer")
            }
            cacheBytes = min(needs.fullBytes, cacheBytes + lacking)
            trial = try plan(cacheBytes)
        }
    }

    /// How errors name the protected experts.
    private static func pins(_ options: EngineOptions) -> String {
        let count = options.protectedExperts.count
        return count == 0 ? "" : " and \(count) protected experts that stay in memory"
    }

    /// The largest cache of at most `wanted` bytes that takes at most `left` with its tables.
    private static func largest(
        _ wanted: Int, within left: Int, floor: Int,
        plan: (Int) throws(StreamingError) -> StreamingPlan
    ) throws(StreamingError) -> StreamingPlan {
        // The tables grow with the slots, so what is left for slots is found by trying.
        var cacheBytes = max(floor, min(wanted, left))
        var trial = try plan(cacheBytes)
        while trial.totalBytes > left, cacheBytes > floor {
            cacheBytes = max(floor, cacheBytes - (trial.totalBytes - left))
            trial = try plan(cacheBytes)
        }
        return trial
    }

    /// This plan under another budget: everything but the expert cache stays. The cache is what was
    /// asked for first, or as much of it as the budget leaves.
    ///
    /// - Throws: `EngineError` naming the shortfall if the floor does not fit.
    func resized(memoryBytes: Int) throws -> MemoryPlan {
        let memoryBytes = max(0, memoryBytes)
        guard memoryBytes >= floorBytes else {
            throw EngineError(
                "memory cannot be resized to \(ByteSize(bytes: memoryBytes)): with a context of "
                    + "\(context) at least \(ByteSize(bytes: floorBytes).enoughMegabytes) are needed, "
                    + "\(ByteSize(bytes: floorBytes - memoryBytes)) more; the budget stays at "
                    + "\(ByteSize(bytes: budgetBytes))")
        }
        let needs = streaming.needs
        var plan = self
        plan.budgetBytes = memoryBytes
        plan.budgetSource = "the new budget"
        plan.streaming = try MemoryPlan.largest(
            min(askedCache.bytes(for: needs) ?? .max, needs.fullBytes),
            within: memoryBytes - fixedBytes, floor: cacheFloorBytes
        ) { cacheBytes throws(StreamingError) in
            try ExpertStreamer.plan(
                layout: layout, alignment: streaming.alignment,
                activeExpertsPerToken: activeExpertsPerToken, cacheBytes: cacheBytes,
                planeShares: planeShares)
        }
        return plan
    }

    /// What the user should know before it runs: each one line.
    public var warnings: [String] {
        policyWarnings + cacheWarnings
    }

    private var cacheWarnings: [String] {
        guard streaming.multipleOfActiveSet < 1 else { return [] }
        let enough = ByteSize(bytes: totalBytes + 2 * streaming.needs.activeSetBytes - cacheBytes)
        return [
            "the expert cache holds \(MemoryPlan.times(streaming.multipleOfActiveSet))x the experts that "
                + "one token uses; below 1x an LRU cache hits almost nothing and every token waits for the "
                + "disk; 2x needs --memory \(enough.enoughMegabytes)"
        ]
    }

    /// Code, libraries, allocator and language runtime: 13 to 19 MiB resident were measured on
    /// x86-64, of which a memory cgroup is charged for no more.
    private static let programBytes = 24 << 20

    private static func checked(
        _ name: String, _ value: Int, _ range: ClosedRange<Int>
    ) throws(EngineError) -> Int {
        guard range.contains(value) else {
            throw EngineError(
                "\(name) \(value) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }

    private static func times(_ factor: Double) -> String { "\((factor * 100).rounded() / 100)" }
}

extension ExpertLayout {
    /// The experts of `model`: for each layer, expert and plane its gate, up and down matrices.
    init(model: ModelDescription) throws(StreamingError) {
        let planes = model.planesPerExpert
        var extents: [ExpertExtent] = []
        var checksums: [UInt32] = []
        extents.reserveCapacity(model.layerCount * model.expertCount * planes * 3)
        for layer in 0..<model.layerCount {
            for expert in 0..<model.expertCount {
                for plane in 0..<planes {
                    for part in 0..<3 {
                        let extent = model.extent(
                            layer: layer, expert: expert, plane: plane, part: part)
                        extents.append(
                            ExpertExtent(
                                fileIndex: extent.fileIndex, offset: extent.offset,
                                byteCount: extent.byteCount))
                    }
                    if let sum = model.checksum(layer: layer, expert: expert, plane: plane) {
                        checksums.append(sum)
                    }
                }
            }
        }
        try self.init(
            layerCount: model.layerCount, expertsPerLayer: model.expertCount, partsPerExpert: 3,
            planesPerExpert: planes, nested: model.planesNest, extents: extents,
            checksums: checksums, fileSizes: model.file.fileSizes)
    }
}
