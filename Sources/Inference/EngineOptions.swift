public import ExpertStreaming

/// What the user may decide about an engine.
public struct EngineOptions: Sendable {
    /// Ceiling on everything the process holds, in bytes; nil takes what the machine allows.
    public var memoryBytes: Int?
    /// How much of it caches experts.
    public var cache = CacheSize.auto
    /// What the engine's user holds beside it, in bytes; the budget has to have room for it, too.
    public var callerBytes = 0
    /// Positions of the key-value cache; nil takes the model's, at most
    /// `EngineOptions.defaultContext`.
    public var context: Int?
    /// Sequences held at the same time, each with `context` positions of its own.
    public var sequences = 1
    /// Compute threads; nil takes one for each big core that this process may use, on one NUMA
    /// node.
    public var threads: Int?
    /// Ties the thread that makes the engine to the best processor, where the other compute threads
    /// are tied to theirs: for a thread that does nothing else.
    public var pinsLeader = false
    /// Rung of the I/O ladder; nil probes from the top.
    public var io: IOMode?
    /// Which expert leaves the cache first. Against LRU, frequency reads 15 % fewer bytes per token
    /// at 2x and 23 % fewer at 4x on the demo model, and 9 % and 8 % on a trace of Qwen3-30B-A3B; at
    /// 1x it reads 3 to 5 % more.
    public var policy = EvictionPolicy.lfuDefault
    /// Slots for each plane of the experts relative to those of the first, at most 1 each; missing
    /// ones are 1. Less than 1 keeps more experts coarse and fewer whole.
    public var planeShares: [Double] = []
    public var arithmetic = Arithmetic.int8
    /// Format of the key-value cache; under `Arithmetic.f32` it holds floats whatever is asked for.
    public var keyValues = KeyValueFormat.f16
    /// Most tokens computed together in prefill; nil takes as many as the budget has room for, by
    /// `MemoryPlan`'s rule.
    public var chunk: Int?
    /// Rows of logits computed together; 1 unless every position's logits are wanted.
    public var headRows = 1
    /// Computes only the best experts of a token that together have this router probability, above
    /// 0 and up to 1, and at most k: see `Routing.topP`. An approximation of a model that was not
    /// trained so; it acts on prompts, too, and the answer does not depend on what is in memory. Nil
    /// takes the model's own rule.
    public var expertTopP: Double?
    /// What to do when a chosen expert is not in memory; acts on decode steps.
    public var missPolicy = MissPolicy.exact
    /// Planes that every expert is computed with, whatever is in memory; nil means all. For
    /// measuring what a prefix costs: the answer is a coarser model's.
    public var expertPlanes: Int?
    /// Experts that no miss policy touches: super experts (arXiv 2507.23279) and the user's own.
    /// They are read at the start and stay in memory.
    public var protectedExperts: Set<LayerExpert> = []
    /// Where guesses of the next layers' experts come from, in decode steps.
    public var predictor = Predictor.none
    /// Guesses per layer that are read before they are asked for, best first; 0 reads none.
    public var prefetchRanks = 0
    /// Reads fewer of them while that does not pay; see `PrefetchGovernor`.
    public var governsPrefetch = true
    /// What fills the cache between the prompt and the first token.
    public var warmUp = WarmUp.none
    /// Gives memory back while the machine or the control group runs short of it, and takes it
    /// again when that is over.
    public var reactsToPressure = false
    /// Kernels to use, as `InstructionSet.available` names them; nil takes the best.
    public var instructionSet: String?

    /// Multiplications after which a round of a chunk's experts takes no further one: 1 to 4 ms on
    /// two cores, in which a disk of 2 GB/s reads no more than the streamer keeps in flight.
    /// Shorter rounds meet more often, longer ones leave the disk without work. Less in tests.
    var roundMultiplications = 1 << 28

    /// Tokens of a chunk that a dense layer or a shared expert computes in one go. Less in tests.
    var denseTokens = 64

    public static let defaultContext = 4096

    public init() {}

    /// The model's rule, and what the user changes about it.
    func routing(of model: ModelDescription) -> Routing {
        var routing = model.routing
        if let expertTopP { routing.topP = Float(expertTopP) }
        return routing
    }

    /// These options as they act on `model`: a dense one leaves less to decide. Its layers follow one
    /// another in every token, so the best expert to evict is the one that comes round last, and
    /// what to prefetch needs no guess.
    ///
    /// - Throws: `EngineError` for what only a router gives sense to.
    func settled(for model: ModelDescription) throws(EngineError) -> EngineOptions {
        guard model.isDense else { return self }
        guard missPolicy == .exact else {
            throw EngineError(
                "--miss \(missPolicy): \(model.name) is dense, so every token needs all of it; "
                    + "give --miss exact")
        }
        var settled = self
        // Uses are equal, and so it is the distance alone that decides.
        settled.policy = .edgemoe
        switch predictor {
        case .none: if prefetchRanks > 0 { settled.predictor = .nextGate(layers: 1) }
        case .nextGate: break
        case .path, .learned, .recorded:
            throw EngineError(
                "--predict: \(model.name) is dense, so what comes next is known; give --prefetch 1 "
                    + "alone")
        }
        return settled
    }
}

/// An engine that cannot be made as asked: which limit, the figures, and what would do.
public struct EngineError: Error, CustomStringConvertible, Sendable {
    public let description: String

    init(_ description: String) { self.description = description }
}
