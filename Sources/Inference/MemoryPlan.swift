public import ExpertStreaming
internal import CHost
internal import ModelFormats

/// What an engine will take, worked out before any of it is allocated.
///
/// ```
///   budget >= resident weights + key-value cache + states + scratch + prediction tables
///             + expert cache (slots and tables) + process
/// ```
/// The floor is the same sum with the smallest chunk and the smallest expert cache that work: the
/// experts that are never evicted, and beside them those that a token uses in one layer. A budget
/// below the floor is refused; the expert cache never takes more than the budget leaves.
///
/// A prompt's chunk reads each expert once, from memory or from disk, for all of its tokens, so
/// long chunks are fast, and their scratch is what they cost: 125 KB per token with Qwen3-30B-A3B's
/// shape, most of it the outputs of the experts, which are added in order of rank when all are
/// there. Unless one is asked for, the chunk is the largest power of two from 32 to 1024, and no
/// longer than the context, whose scratch takes at most a 32nd of the budget more than that of 32
/// tokens, and leaves room for the expert cache that is asked for; with `auto`, for the smallest
/// one up to 128 tokens, and beyond for the experts that one token uses (or all, if they are
/// fewer), except in a dense model, which every chunk reads through.
public struct MemoryPlan: Sendable {
    /// The ceiling, and where it comes from.
    public private(set) var budgetBytes: Int
    public private(set) var budgetSource: String
    /// Weights that every token needs.
    public let residentBytes: Int
    public let keyValueBytes: Int
    /// What sequences keep instead, in layers that have neither keys nor values; 0 where all have.
    public let stateBytes: Int
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
    /// The smallest budget that an engine of this plan can be given by `resize`: its chunk stays.
    public let resizeFloorBytes: Int
    /// The smallest expert cache that works, in bytes of slots.
    let cacheFloorBytes: Int
    private let fixedBytes: Int
    let processors: Processors
    /// Most tokens of a prompt that are computed together.
    public let chunk: Int
    let headRows: Int
    let layout: ExpertLayout
    let scratch: ScratchLayout
    let keyValueRows: KeyValueRows
    private let policyWarnings: [String]
    private let activeExpertsPerToken: Int
    /// Whether every token uses everything.
    private let isDense: Bool
    private let askedCache: CacheSize
    private let planeShares: [Double]

    /// Plans `model` under `options`; allocates nothing that lasts.
    ///
    /// - Throws: `EngineError` naming the shortfall and the figure that would do; `StreamingError`
    ///   where the model's disk refuses even to be asked.
    public init(model: ModelDescription, options: EngineOptions) throws {
        let options = try options.settled(for: model)
        let processors = Processors.ofThisProcess()
        self.processors = processors
        threads = try MemoryPlan.checked(
            "--threads", options.threads ?? processors.recommended, 1...256)
        context = try MemoryPlan.checked(
            "--ctx", options.context ?? min(model.contextLength, EngineOptions.defaultContext),
            1...model.contextLength)
        sequences = try MemoryPlan.checked("--sequences", options.sequences, 1...256)
        let askedChunk = try options.chunk.map { try MemoryPlan.checked("--chunk", $0, 1...4096) }
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
            layers: model.expertLayerCount, experts: model.expertCount,
            embedding: model.embeddingLength)
        if let planes = options.expertPlanes {
            _ = try MemoryPlan.checked("--expert-planes", planes, 1...model.planesPerExpert)
        }
        if let topP = options.expertTopP, !(topP > 0 && topP <= 1) {
            throw EngineError("--expert-top-p \(topP) is not above 0, up to 1")
        }
        guard options.prefetchRanks >= 0 else {
            throw EngineError("--prefetch \(options.prefetchRanks) is negative")
        }
        for name in options.protectedExperts
        where !(0..<model.expertLayerCount).contains(name.layer)
            || !(0..<model.expertCount).contains(name.expert)
        {
            throw EngineError(
                "\(name) is to be protected, but the model has \(model.expertLayerCount) layers of "
                    + "\(model.expertCount) experts")
        }
        let layout = try ExpertLayout(model: model)
        self.layout = layout
        residentBytes = ResidentWeights.byteCount(of: model)
        keyValueRows = try KeyValueRows(
            options.keyValues, arithmetic: options.arithmetic, model: model)
        // Each factor is bounded by a tensor's shape; the product of them may still not fit.
        let (rows, tooLong) = keyValueRows.bytesPerPosition.multipliedReportingOverflow(
            by: sequences * context)
        guard !tooLong else {
            throw EngineError("a key-value cache for \(sequences) x \(context) positions is absurd")
        }
        keyValueBytes = rows
        stateBytes = StateLayout(model: model).sequenceLength * 4 * sequences
        predictionBytes = options.predictor.byteCount
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

        // What an engine takes besides its cache, by chunk.
        let parts = (context: context, sequences: sequences, threads: threads)
        let lasting = residentBytes + keyValueBytes + stateBytes + predictionBytes
        func fixed(_ chunk: Int) -> Fixed {
            // One step of every sequence is a chunk, too, and leaves a row of logits for each.
            let chunk = max(parts.sequences, min(chunk, parts.context))
            let headRows = max(parts.sequences, min(options.headRows, chunk))
            let scratch = ScratchLayout(
                model: model, arithmetic: options.arithmetic, chunk: chunk, headRows: headRows,
                context: parts.context, workers: parts.threads,
                roundMultiplications: options.roundMultiplications,
                denseTokens: options.denseTokens,
                layersAhead: options.predictor.layersAhead, sequenceCount: parts.sequences)
            let held = lasting + scratch.byteCount
            let process =
                MemoryPlan.programBytes + model.file.metadata.headerByteCount * 3
                + model.vocabularyCount * 48 + model.expertLayerCount * model.expertCount * 128
                + parts.threads * 256 * 1024 + held / 512 + options.callerBytes
            return Fixed(
                chunk: chunk, headRows: headRows, scratch: scratch, processBytes: process,
                byteCount: held + process)
        }
        let least = fixed(askedChunk ?? MemoryPlan.chunks.lowerBound)
        var chosen = least
        if askedChunk == nil {
            let askedCache = options.cache.bytes(for: needs)
            // One slot more of every size, because the largest cache that fits is found by trying.
            let once = needs.activeSetBytes + needs.floorBytes / model.expertsPerToken
            while chosen.chunk < min(context, MemoryPlan.chunks.upperBound) {
                let longer = fixed(chosen.chunk * 2)
                let growth = longer.scratch.byteCount - least.scratch.byteCount
                // Without a router each chunk reads what the cache lacks once, whatever it holds.
                let isCheap = longer.chunk <= MemoryPlan.cheapChunk || model.isDense
                let cacheBytes = askedCache ?? (isCheap ? cacheFloor : once)
                let cache = try plan(min(max(cacheBytes, cacheFloor), needs.fullBytes))
                guard growth <= budgetBytes / MemoryPlan.chunkShare,
                    longer.byteCount + cache.totalBytes <= budgetBytes
                else { break }
                chosen = longer
            }
        }
        chunk = chosen.chunk
        headRows = chosen.headRows
        scratch = chosen.scratch
        scratchBytes = chosen.scratch.byteCount
        processBytes = chosen.processBytes
        fixedBytes = chosen.byteCount
        floorBytes = least.byteCount + smallest.totalBytes
        resizeFloorBytes = chosen.byteCount + smallest.totalBytes
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
        isDense = model.isDense
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
                "--cache \(options.cache) cannot hold "
                    + (model.isDense
                        ? "the feed-forward of one layer"
                        : "the \(model.expertsPerToken) experts that a token uses in one layer")
                    + "\(MemoryPlan.pins(options)); give at least "
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
        // The tables grow with the slots, so what is left for slots is found by trying, to a slot.
        var tooMany = max(floor, min(wanted, left))
        let most = try plan(tooMany)
        if most.totalBytes <= left { return most }
        var fits = floor
        var best = try plan(fits)
        let slotBytes = best.classes.reduce(Int.max) { min($0, $1.slotBytes) }
        while tooMany - fits > slotBytes {
            let middle = (fits + tooMany) / 2
            let trial = try plan(middle)
            if trial.totalBytes <= left {
                (fits, best) = (middle, trial)
            } else {
                tooMany = middle
            }
        }
        return best
    }

    /// This plan under another budget: everything but the expert cache stays. The cache is what was
    /// asked for first, or as much of it as the budget leaves.
    ///
    /// - Throws: `EngineError` naming the shortfall if the floor does not fit.
    func resized(memoryBytes: Int) throws -> MemoryPlan {
        let memoryBytes = max(0, memoryBytes)
        guard memoryBytes >= resizeFloorBytes else {
            throw EngineError(
                "memory cannot be resized to \(ByteSize(bytes: memoryBytes)): with a context of "
                    + "\(context) at least \(ByteSize(bytes: resizeFloorBytes).enoughMegabytes) are needed, "
                    + "\(ByteSize(bytes: resizeFloorBytes - memoryBytes)) more; the budget stays at "
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
        let needs = streaming.needs
        guard !isDense else {
            let missing = ByteSize(bytes: needs.fullBytes - cacheBytes)
            let enough = ByteSize(bytes: totalBytes + needs.fullBytes - cacheBytes)
            return [
                "the model is dense, and the cache holds \(MemoryPlan.times(streaming.multipleOfActiveSet)) of "
                    + "its feed-forward layers: every token reads about \(missing) from the disk; all of "
                    + "them need --memory \(enough.enoughMegabytes)"
            ]
        }
        let enough = ByteSize(bytes: totalBytes + 2 * needs.activeSetBytes - cacheBytes)
        return [
            "the expert cache holds \(MemoryPlan.times(streaming.multipleOfActiveSet))x the experts that "
                + "one token uses; below 1x an LRU cache hits almost nothing and every token waits for the "
                + "disk; 2x needs --memory \(enough.enoughMegabytes)"
        ]
    }

    /// Code, libraries, allocator and language runtime: up to 27 MiB resident were measured on
    /// x86-64, of which a memory cgroup is charged for no more.
    private static let programBytes = 28 << 20
    /// Chunks that are chosen without being asked for.
    private static let chunks = 32...1024
    /// A chunk so long is worth more than the part of a cache below the active set that it takes:
    /// the prompt reads every expert once for each.
    private static let cheapChunk = 128
    /// A longer chunk than the shortest may take the budget divided by this.
    private static let chunkShare = 32

    /// What does not depend on the budget, for one length of chunk.
    private struct Fixed {
        var chunk: Int
        var headRows: Int
        var scratch: ScratchLayout
        var processBytes: Int
        var byteCount: Int
    }

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
        extents.reserveCapacity(model.expertLayerCount * model.expertCount * planes * 3)
        for layer in 0..<model.expertLayerCount {
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
            layerCount: model.expertLayerCount, expertsPerLayer: model.expertCount,
            partsPerExpert: 3,
            planesPerExpert: planes, nested: model.planesNest, extents: extents,
            checksums: checksums, fileSizes: model.file.fileSizes)
    }
}
