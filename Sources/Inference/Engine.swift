public import ExpertStreaming
internal import CHost
internal import CKernels
internal import ModelFormats
internal import Quantization

/// One model and the sequences it computes: ids in, logits out, experts streamed as the router asks
/// for them.
///
/// A sequence is a number below `sequenceCapacity` and a key-value cache of its own. Computing one
/// token of several sequences together reads an expert that more than one of them uses only once,
/// and changes no bit of any answer. In some models layers keep a state instead, which cannot go
/// back: see `keepsState`.
///
/// An engine is used by one thread at a time, the *leader*; it owns the memory, the compute threads
/// and the expert streamer. After `init` a token allocates nothing, locks nothing and throws
/// nothing but a disk error.
@safe public struct Engine: ~Copyable {
    public let model: ModelDescription
    /// What the engine may take. The cache may hold less for a while: see `cacheBytes`.
    public private(set) var plan: MemoryPlan
    /// Name of the kernels in use.
    public let instructionSet: String
    public let arithmetic: Arithmetic

    let state: UnsafeMutablePointer<EngineState>
    private let scratch: UnsafeMutableRawPointer
    private let keyValues: UnsafeMutableRawPointer
    private let states: UnsafeMutableRawPointer
    /// By sequence, the positions that its state covers: see `statePositions(of:)`. Empty where
    /// there are no states.
    var stateful: [Int]
    let weights: ResidentWeights
    private let pool: ThreadPool
    var streamer: ExpertStreamer
    var times = EngineStatistics()
    var selection: ExpertSelection
    var prediction: ExpertPrediction
    let predictor: Predictor
    let predictorKind: PredictorKind
    /// Most planes that an expert is computed with.
    let expertPlanes: Int
    /// Only where the prompt's use is to fill the cache.
    var promptUse: PromptUse?
    /// Experts that the layer before deferred to this one, and their weights: (k).
    var late: LateExperts
    /// (chunk, experts); only where somebody observes or compares them, because the softmax
    /// overwrites the original.
    var rawLogits: [Float]
    private var observer: ((LayerObservation) -> Void)?
    var pressure: MemoryPressure?
    private var pressureResponse = PressureResponse()
    /// The recorded routing that is forced; `EngineState` points into it.
    private var replayed: FlatRouting?

    public var vocabularyCount: Int { model.vocabularyCount }
    /// Positions the key-value cache holds.
    public var contextCapacity: Int { plan.context }
    /// Sequences the engine holds.
    public var sequenceCapacity: Int { plan.sequences }
    /// What is done about misses in decode steps.
    public var missPolicy: MissPolicy { selection.policy }
    /// How experts are chosen: the model's rule, and what the options change about it.
    public var routing: Routing { selection.routing }
    /// Planes of an expert at full width.
    public var planesPerExpert: Int { selection.planes }
    /// Planes of an expert that are in memory, 0 for none. `layer` counts those with experts.
    public func residentPlanes(layer: Int, expert: Int) -> Int {
        streamer.residentPlanes(layer: layer, expert: expert)
    }
    /// The rung of the I/O ladder in use, and why not a higher one.
    public var ioMode: IOMode { streamer.mode }
    public var ioModeReason: String { streamer.modeReason }

    /// Loads the resident weights and opens the experts.
    ///
    /// - Parameters:
    ///   - plan: Made from the same model and options.
    ///   - progress: Called with the share of the resident weights read, 0 ... 1.
    /// - Throws: `StreamingError` for the disk, `EngineError` for an unknown instruction set.
    public init(
        model: ModelDescription, options: EngineOptions, plan: MemoryPlan,
        progress: (Double) -> Void = { _ in }
    ) throws {
        let options = try options.settled(for: model)
        guard let table = unsafe sluice_kernels_named(options.instructionSet ?? "") else {
            throw EngineError(
                "instruction set '\(options.instructionSet ?? "")' is not one of this machine's: "
                    + InstructionSet.available.joined(separator: ", "))
        }
        // Pinning pays when every core that counts has its worker; with fewer threads the kernel
        // places better, and with more than there are processors it must.
        let (ordered, least) = (plan.processors.ordered, plan.processors.recommended)
        let cpus = plan.threads >= least && plan.threads <= ordered.count ? ordered : []
        // Before anything is allocated: memory comes from the node of the processor that first
        // touches it.
        if options.pinsLeader, let first = cpus.first { host_pin_current_thread(first) }
        let weights = try ResidentWeights(model: model, progress: progress)
        var streamer = try ExpertStreamer(
            layout: plan.layout, paths: model.file.paths, plan: plan.streaming,
            activeExpertsPerToken: model.expertsPerToken,
            options: StreamingOptions(
                io: options.io, policy: options.policy, planeShares: options.planeShares,
                prefetchRanks: options.prefetchRanks > 0 && options.governsPrefetch
                    ? options.prefetchRanks : nil))
        for name in options.protectedExperts {
            try streamer.pin(layer: name.layer, expert: name.expert)
        }
        let scratch = unsafe AnonymousMemory.allocate(plan.scratch.byteCount)
        let keyValues = unsafe AnonymousMemory.allocate(plan.keyValueBytes)
        let states = unsafe AnonymousMemory.allocate(plan.stateBytes)
        let state = UnsafeMutablePointer<EngineState>.allocate(capacity: 1)
        unsafe state.initialize(
            to: EngineState(
                model: model, plan: plan, arithmetic: options.arithmetic, kernels: Kernels(table),
                weights: weights, scratch: scratch, keyValues: keyValues, states: states,
                routing: options.routing(of: model)))
        if case .learned(let gates) = options.predictor {
            unsafe state.pointee.learnedGates = gates.matrices
            unsafe state.pointee.learnedBias = UnsafePointer(gates.bias)
        }
        let pool: ThreadPool
        do {
            pool = unsafe try ThreadPool.start(
                workers: plan.threads, cpus: cpus, state: state, share: Stage.run)
        } catch {
            unsafe AnonymousMemory.free(scratch, plan.scratch.byteCount)
            unsafe AnonymousMemory.free(keyValues, plan.keyValueBytes)
            unsafe AnonymousMemory.free(states, plan.stateBytes)
            unsafe state.deallocate()
            throw error
        }
        unsafe self.init(
            model: model, options: options, plan: plan,
            instructionSet: String(cString: table.pointee.name), weights: weights,
            streamer: streamer, pool: pool, scratch: scratch, keyValues: keyValues, states: states,
            state: state)
    }

    /// Puts the parts together; apart from the above, because Swift 6.2 takes a field with a default
    /// for initialized when an initializer of a noncopyable type throws.
    private init(
        model: ModelDescription, options: EngineOptions, plan: MemoryPlan, instructionSet: String,
        weights: consuming ResidentWeights, streamer: consuming ExpertStreamer,
        pool: consuming ThreadPool, scratch: UnsafeMutableRawPointer,
        keyValues: UnsafeMutableRawPointer, states: UnsafeMutableRawPointer,
        state: UnsafeMutablePointer<EngineState>
    ) {
        self.instructionSet = instructionSet
        self.pool = pool
        arithmetic = options.arithmetic
        self.model = model
        self.plan = plan
        self.weights = weights
        selection = ExpertSelection(
            policy: options.missPolicy, protected: options.protectedExperts,
            layerCount: model.expertLayerCount, expertCount: model.expertCount,
            expertsPerToken: model.expertsPerToken, planes: streamer.layout.planesPerExpert,
            routing: options.routing(of: model), tokens: plan.sequences)
        prediction = ExpertPrediction(
            predictor: options.predictor, prefetchRanks: options.prefetchRanks,
            layerCount: model.expertLayerCount, expertCount: model.expertCount,
            expertsPerToken: model.expertsPerToken, tokenCount: plan.sequences)
        predictor = options.predictor
        predictorKind = PredictorKind(options.predictor)
        expertPlanes = min(
            options.expertPlanes ?? streamer.layout.planesPerExpert,
            streamer.layout.planesPerExpert)
        promptUse =
            options.warmUp == .prompt
            ? PromptUse(layerCount: model.expertLayerCount, expertCount: model.expertCount) : nil
        late = LateExperts(expertsPerToken: model.expertsPerToken)
        rawLogits =
            selection.readsLogits
            ? [Float](repeating: 0, count: plan.chunk * model.expertCount) : []
        self.streamer = streamer
        pressure = options.reactsToPressure ? MemoryPressure() : nil
        unsafe self.scratch = scratch
        unsafe self.keyValues = keyValues
        unsafe self.states = states
        stateful = plan.stateBytes > 0 ? Array(repeating: 0, count: plan.sequences) : []
        unsafe self.state = state
    }

    deinit {
        unsafe AnonymousMemory.free(scratch, plan.scratch.byteCount)
        unsafe AnonymousMemory.free(keyValues, plan.keyValueBytes)
        unsafe AnonymousMemory.free(states, plan.stateBytes)
        unsafe state.deinitialize(count: 1)
        unsafe state.deallocate()
    }

    /// Logits after the last token computed, one per token of the vocabulary; valid until the next
    /// call.
    public var logits: UnsafeBufferPointer<Float> { unsafe logits(step: 0) }

    /// Logits after a step of the last `decode(_:)`, by its index; valid until the next call.
    public func logits(step: Int) -> UnsafeBufferPointer<Float> {
        precondition(step >= 0 && step < plan.headRows, "no step \(step)")
        return unsafe UnsafeBufferPointer(
            start: state.pointee.logits + step * model.vocabularyCount,
            count: model.vocabularyCount)
    }

    /// Counters since the engine was made.
    public var statistics: EngineStatistics {
        var all = times
        all.streaming = streamer.statistics
        all.misses = selection.accounting
        all.prediction = prediction.statistics
        return all
    }

    /// Calls `observer` for every layer of every chunk from now on, between its experts and the sum
    /// of their outputs; nil ends it. Costs time and memory: for recording and profiling.
    public mutating func observe(_ observer: ((LayerObservation) -> Void)?) {
        rawLogits =
            observer == nil && !selection.readsLogits
            ? [] : [Float](repeating: 0, count: plan.chunk * model.expertCount)
        self.observer = observer
    }

    /// Takes the experts and gate weights of every token from now on from a recording instead of
    /// the router, token after token in the order of computation and again from its start after its
    /// end; nil ends it. The router is still computed, so a token costs what it always does, and
    /// memory for a copy of the recording is taken on top of the plan: for measuring with the
    /// routing of another model.
    ///
    /// - Throws: `EngineError` unless layers, experts and experts per token are this model's, and it
    ///   has routers.
    public mutating func forceRouting(_ replay: RoutingReplay?) throws(EngineError) {
        guard let replay else {
            unsafe state.pointee.forced = nil
            replayed = nil
            return
        }
        try replay.check(model)
        let flat = FlatRouting(replay)
        unsafe state.pointee.forced = flat.start
        replayed = consume flat
    }

    /// The router of a layer, decoded: (experts, embedding), row-major; empty in a dense model, which
    /// has none. Allocates: for profiling.
    ///
    /// - Parameter layer: among those with experts.
    public func routerWeights(layer: Int) -> [Float] {
        precondition(layer >= 0 && layer < model.expertLayerCount, "no layer \(layer)")
        let state = unsafe self.state
        guard let router = unsafe state.pointee.expertLayers[layer].router else { return [] }
        let count = unsafe router.rows * router.columns
        return unsafe [Float](unsafeUninitializedCapacity: count) { output, written in
            for row in unsafe 0..<router.rows {
                unsafe BlockDecoder.decode(
                    router.format, from: router.weights + row * router.rowBytes,
                    elements: router.columns, into: output.baseAddress! + row * router.columns)
            }
            written = count
        }
    }

    /// Computes `ids` at positions from `position` on, chunk by chunk, and the logits after the
    /// last.
    ///
    /// Every id is below `vocabularyCount`, every position below `contextCapacity` and the sequence
    /// below `sequenceCapacity`; the sequence's positions before have been computed, and nothing after
    /// them if the model keeps states: see `statePositions(of:)`.
    public mutating func prefill(
        _ ids: [Int32], from position: Int, sequence: Int = 0
    ) throws(StreamingError) {
        try prefill(ids[...], from: position, sequence: sequence, givesLogits: true)
    }

    /// Computes a part of a prompt: as the above, but without `givesLogits` no logits, which only
    /// the end of a prompt needs.
    public mutating func prefill(
        _ ids: ArraySlice<Int32>, from position: Int, sequence: Int, givesLogits: Bool
    ) throws(StreamingError) {
        precondition(position + ids.count <= contextCapacity, "positions past the context")
        precondition(sequence >= 0 && sequence < sequenceCapacity, "no sequence \(sequence)")
        respondToPressure()
        beginSequence(at: position)
        if position == 0 { promptUse?.begin() }
        var first = 0
        while first < ids.count {
            let count = min(plan.chunk, ids.count - first)
            let start = ids.startIndex + first
            load(ids[start..<(start + count)], from: position + first, sequence: sequence)
            try chunk(count)
            first += count
            if first == ids.count, givesLogits { head(of: count - 1, rows: 1) }
        }
        if givesLogits, let promptUse { try warm(promptUse.ranking) }
    }

    /// Computes one token at `position`, and the logits after it.
    public mutating func decode(
        _ id: Int32, at position: Int, sequence: Int = 0
    ) throws(StreamingError) {
        load(DecodeStep(sequence: sequence, id: id, position: position), at: 0)
        respondToPressure()
        beginSequence(at: position)
        try chunk(1, decodes: true)
        head(of: 0, rows: 1)
    }

    /// Computes one token of each of several sequences together, and the logits after each of them:
    /// see `logits(step:)`. An expert that several of them use is read and computed once.
    ///
    /// - Parameter steps: At least one, at most one for a sequence; ids, positions and sequences as
    ///   for `prefill`.
    public mutating func decode(_ steps: Span<DecodeStep>) throws(StreamingError) {
        precondition(
            steps.count > 0 && steps.count <= sequenceCapacity, "\(steps.count) steps at once")
        for index in 0..<steps.count {
            for earlier in 0..<index {
                precondition(
                    steps[earlier].sequence != steps[index].sequence,
                    "two steps of sequence \(steps[index].sequence) at once")
            }
            load(steps[index], at: index)
        }
        respondToPressure()
        try chunk(steps.count, decodes: true)
        head(of: 0, rows: steps.count)
    }

    /// Gives `target` the first `count` positions of `source`, as if it had computed the same ids:
    /// for prompts that begin alike. Of a model that keeps states, none or all that the source's
    /// covers: see `reusablePositions(common:of:)`.
    public mutating func copySequence(from source: Int, to target: Int, count: Int) {
        precondition(
            source >= 0 && source < sequenceCapacity && target >= 0 && target < sequenceCapacity
                && count >= 0 && count <= contextCapacity,
            "\(count) positions cannot be copied from sequence \(source) to \(target)")
        if source == target { return }
        let state = unsafe self.state
        if keepsState {
            precondition(
                count == 0 || count == stateful[source],
                "\(count) positions of sequence \(source), whose state covers \(stateful[source])")
            stateful[target] = count
            if count > 0 { unsafe state.pointee.copyState(from: source, to: target) }
        }
        unsafe state.pointee.copyPositions(count, from: source, to: target)
    }

    /// Computes `ids` as `prefill` does, and hands the logits after each of them to `receive`, in
    /// order.
    public mutating func everyLogit(
        of ids: [Int32], from position: Int = 0, sequence: Int = 0,
        _ receive: (UnsafeBufferPointer<Float>) throws -> Void
    ) throws {
        precondition(position + ids.count <= contextCapacity, "positions past the context")
        precondition(sequence >= 0 && sequence < sequenceCapacity, "no sequence \(sequence)")
        beginSequence(at: position)
        var first = 0
        while first < ids.count {
            let count = min(plan.chunk, ids.count - first)
            load(ids[first..<(first + count)], from: position + first, sequence: sequence)
            try chunk(count)
            var row = 0
            while row < count {
                let rows = min(plan.headRows, count - row)
                head(of: row, rows: rows)
                for index in 0..<rows {
                    try unsafe receive(
                        UnsafeBufferPointer(
                            start: state.pointee.logits + index * vocabularyCount,
                            count: vocabularyCount))
                }
                row += rows
            }
            first += count
        }
    }

    /// Memory for expert slots now.
    public var cacheBytes: Int { streamer.plan.arenaBytes }

    /// Gives the engine another budget, between two tokens: the expert cache grows or shrinks, and
    /// everything else stays.
    ///
    /// - Throws: `EngineError` naming the shortfall when what is needed at least does not fit,
    ///   `StreamingError` when the system has no memory to grow into; then nothing has changed.
    public mutating func resize(memoryBytes: Int) throws {
        let resized = try plan.resized(memoryBytes: memoryBytes)
        try streamer.resize(cacheBytes: resized.streaming.arenaBytes)
        plan = resized
    }

    /// Gives back all of the expert cache that is not needed to compute a token: for idle times.
    public mutating func releaseCache() throws(StreamingError) {
        try streamer.resize(cacheBytes: plan.cacheFloorBytes)
    }

    /// Makes the expert cache as large again as planned, after `releaseCache`.
    public mutating func restoreCache() throws(StreamingError) {
        try streamer.resize(cacheBytes: plan.streaming.arenaBytes)
    }

    /// Resizes the cache where `reactsToPressure` was asked for and it is time to. Memory that
    /// cannot be had is done without.
    private mutating func respondToPressure() {
        guard let level = pressure?.check() else { return }
        let now = host_nanoseconds()
        guard pressureResponse.concerns(level, now: now) else { return }
        let decision = pressureResponse.decide(
            level, now: now, cacheBytes: cacheBytes,
            floorBytes: plan.cacheFloorBytes, plannedBytes: plan.streaming.arenaBytes)
        switch decision {
        case .stay: break
        case .shrink(let bytes):
            if (try? streamer.resize(cacheBytes: bytes)) != nil { times.pressureShrinks += 1 }
        case .grow(let bytes):
            if (try? streamer.resize(cacheBytes: bytes)) != nil { times.pressureGrowths += 1 }
        }
    }

    /// Reads experts into the cache, layer by layer, until it is full.
    ///
    /// - Parameter progress: Called with the share done, 0 ... 1.
    public mutating func preload(progress: (Double) -> Void) throws(StreamingError) {
        let share =
            Double(streamer.plan.slotCount) / Double(model.expertLayerCount * model.expertCount)
        let perLayer = Int(Double(model.expertCount) * share)
        let experts = unsafe state.pointee.distinct
        for layer in 0..<model.expertLayerCount {
            var first = 0
            while first < perLayer {
                let count = min(streamer.leaseCapacity(layer: layer), perLayer - first)
                for index in 0..<count { unsafe experts[index] = Int32(first + index) }
                unsafe streamer.acquire(layer: layer, experts: experts, count: count)
                var given = 0
                while given < count {
                    guard streamer.next(wait: true) >= 0 else { break }
                    given += 1
                }
                streamer.release()
                if let failure = streamer.takeFailure() { throw failure }
                first += count
            }
            progress(Double(layer + 1) / Double(model.expertLayerCount))
        }
    }

    private func load(_ ids: ArraySlice<Int32>, from position: Int, sequence: Int) {
        for index in 0..<ids.count {
            let id = ids[ids.startIndex + index]
            load(DecodeStep(sequence: sequence, id: id, position: position + index), at: index)
        }
    }

    private func load(_ step: DecodeStep, at index: Int) {
        precondition(
            step.id >= 0 && Int(step.id) < vocabularyCount,
            "token id \(step.id) is not in the vocabulary")
        precondition(
            step.position >= 0 && step.position < contextCapacity,
            "position \(step.position) is not in the context")
        precondition(
            step.sequence >= 0 && step.sequence < sequenceCapacity, "no sequence \(step.sequence)")
        unsafe state.pointee.ids[index] = step.id
        unsafe state.pointee.positions[index] = Int32(step.position)
        unsafe state.pointee.sequences[index] = Int32(step.sequence)
    }

    /// Lets policies that count per sequence begin anew. With several sequences in turn there is no
    /// such moment.
    private mutating func beginSequence(at position: Int) {
        if position == 0, sequenceCapacity == 1 { streamer.beginSequence() }
    }

    // One token's way

    /// Computes the `tokens` steps loaded up to the last layer's residual stream.
    ///
    /// - Parameter decodes: as decode steps, in which misses are dealt with by policy and experts
    ///   are predicted.
    private mutating func chunk(_ tokens: Int, decodes: Bool = false) throws(StreamingError) {
        let state = unsafe self.state
        late.clear()
        prediction.begin()
        unsafe state.pointee.tokens = tokens
        if keepsState { beginStates(decodes: decodes) }
        unsafe state.pointee.dealAttention(decodes: decodes)
        streamer.beginToken()
        run(.embed)
        unsafe state.pointee.expertLayer = 0
        for layer in 0..<model.layerCount {
            unsafe state.pointee.layer = layer
            let hasExperts = unsafe state.pointee.layers[layer].hasExperts
            let routesEarly = unsafe hasExperts && state.pointee.nextExpertLayer.routesEarly
            var leased = 0
            if routesEarly {
                run(.layerInput)
                leased = route(decodes: decodes)
            }
            let start = host_nanoseconds()
            run(.attentionInput)
            mix(layer, readsAhead: routesEarly)
            run(.attentionOutputInput)
            run(.attentionOutput)
            run(.expertInput)
            times.attentionNanoseconds += host_nanoseconds() - start
            if hasExperts {
                if !routesEarly { leased = route(decodes: decodes) }
                try expertLayer(leased: leased, decodes: decodes)
                unsafe state.pointee.expertLayer += 1
            } else {
                let start = host_nanoseconds()
                denseFeedForward()
                run(.combine)
                times.expertNanoseconds += host_nanoseconds() - start
            }
        }
        if keepsState { endStates() }
        unsafe state.pointee.forced?.advance(tokens)
        times.tokens += UInt64(tokens)
    }

    /// Lets the chunk's tokens see those before them.
    private mutating func mix(_ layer: Int, readsAhead: Bool) {
        let state = unsafe self.state
        unsafe state.pointee.mixed.setLength(state.pointee.layers[layer].attentionOutput.columns)
        switch unsafe state.pointee.layers[layer].attention {
        case .none: mixByState(layer)
        case .heads:
            run(.projections)
            run(.rotate)
            // Only then are there reads that would wait for attention's end.
            if readsAhead { streamer.poll() }
            attend()
        case .latent(let latent):
            run(.projections)
            run(.rotate)
            if unsafe latent.queryDown != nil { run(.latentQuery) }
            run(.absorb)
            attend()
            run(.expand)
        }
    }

    private func mixByState(_ layer: Int) {
        switch unsafe state.pointee.stateLayers[layer].mixer {
        case .none: break
        case .convolution:
            run(.stateProjections)
            run(.convolution)
        case .deltaNet:
            run(.stateProjections)
            run(.deltaNet)
        }
    }

    private func attend() {
        run(.attention)
        if unsafe state.pointee.mergesSpans { run(.mergeSpans) }
    }

    /// The running layer's router, and the reads of what it chooses.
    ///
    /// - Returns: how many of the chosen experts are leased.
    private mutating func route(decodes: Bool) -> Int {
        let state = unsafe self.state
        let layer = unsafe state.pointee.expertLayer
        let start = host_nanoseconds()
        if unsafe state.pointee.nextExpertLayer.router != nil { run(.router) }
        if !rawLogits.isEmpty { keepLogits() }
        run(.choose)
        settleChoice(decodes: decodes)
        unsafe state.pointee.groupByExpert()
        let chosen = host_nanoseconds()
        let leased = acquireExperts(layer)
        if decodes { lookAhead(layer) }
        times.routerNanoseconds += chosen - start
        times.expertNanoseconds += host_nanoseconds() - chosen
        return leased
    }

    /// The experts of the running layer, `leased` of which are on their way, and what every token
    /// uses beside them: that is computed while the disk reads.
    private mutating func expertLayer(leased: Int, decodes: Bool) throws(StreamingError) {
        let state = unsafe self.state
        let layer = unsafe state.pointee.expertLayer
        let start = host_nanoseconds()
        denseFeedForward()
        try computeExperts(leased: leased)
        if decodes { try computeLate(layer) }
        if let observer {
            unsafe rawLogits.withUnsafeBufferPointer {
                unsafe observer(state.pointee.observation(routerLogits: $0.baseAddress!))
            }
        }
        run(.combine)
        if decodes { passOn(layer) }
        times.expertNanoseconds += host_nanoseconds() - start
    }

    /// What every token uses of the running layer's feed-forward, if there is anything: as many
    /// tokens at a time as the scratch holds.
    private mutating func denseFeedForward() {
        let state = unsafe self.state
        guard unsafe state.pointee.layers[state.pointee.layer].dense != nil else { return }
        var first = 0
        while unsafe first < state.pointee.tokens {
            unsafe state.pointee.denseFirst = first
            unsafe state.pointee.denseTokens = min(
                state.pointee.denseRows, state.pointee.tokens - first)
            run(.denseGateUp)
            streamer.poll()
            run(.denseActivate)
            run(.denseDown)
            streamer.poll()
            unsafe first += state.pointee.denseTokens
        }
    }

    /// Logits after tokens `first` ..< `first + rows` of the chunk just computed.
    private mutating func head(of first: Int, rows: Int) {
        let start = host_nanoseconds()
        unsafe state.pointee.headFirstToken = first
        unsafe state.pointee.headTokens = rows
        run(.headInput)
        run(.head)
        times.headNanoseconds += host_nanoseconds() - start
    }

    func run(_ stage: Stage) {
        if stage.dealsTokens,
            unsafe (stage == .headInput ? state.pointee.headTokens : state.pointee.tokens) == 1
        {
            _ = unsafe Stage.run(state, stage.rawValue, 0, 1)
        } else {
            unsafe state.pointee.queue.deal(state.pointee.unitCount(stage))
            pool.run(stage.rawValue)
        }
    }
}
