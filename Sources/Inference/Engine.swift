public import ExpertStreaming
internal import CHost
internal import CKernels
internal import ModelFormats
internal import Quantization

/// One sequence on one model: ids in, logits out, experts streamed as the router asks for them.
///
/// An engine is used by one thread at a time, the *leader*; it owns the memory, the compute threads
/// and the expert streamer. After `init` a token allocates nothing, locks nothing and throws
/// nothing but a disk error.
@safe public struct Engine: ~Copyable {
    public let model: ModelDescription
    public let plan: MemoryPlan
    /// Name of the kernels in use.
    public let instructionSet: String
    public let arithmetic: Arithmetic

    private let state: UnsafeMutablePointer<EngineState>
    private let scratch: UnsafeMutableRawPointer
    private let keyValues: UnsafeMutableRawPointer
    private let weights: ResidentWeights
    private let pool: ThreadPool
    private var streamer: ExpertStreamer
    private var times = EngineStatistics()
    /// (chunk, experts); only while somebody observes, because the softmax overwrites the original.
    private var rawLogits: [Float] = []
    private var observer: ((LayerObservation) -> Void)?

    public var vocabularyCount: Int { model.vocabularyCount }
    /// Positions the key-value cache holds.
    public var contextCapacity: Int { plan.context }
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
        guard let table = unsafe sluice_kernels_named(options.instructionSet ?? "") else {
            throw EngineError(
                "instruction set '\(options.instructionSet ?? "")' is not one of this machine's: "
                    + InstructionSet.available.joined(separator: ", "))
        }
        let weights = try ResidentWeights(model: model, progress: progress)
        let streamer = try ExpertStreamer(
            layout: plan.layout, paths: model.file.paths, plan: plan.streaming,
            activeExpertsPerToken: model.expertsPerToken, io: options.io)
        let scratch = unsafe AnonymousMemory.allocate(plan.scratch.byteCount)
        let keyValues = unsafe AnonymousMemory.allocate(plan.keyValueBytes)
        let state = UnsafeMutablePointer<EngineState>.allocate(capacity: 1)
        unsafe state.initialize(
            to: EngineState(
                model: model, plan: plan, arithmetic: options.arithmetic, kernels: Kernels(table),
                weights: weights, scratch: scratch, keyValues: keyValues))
        // Pinning pays when every processor has its worker; with fewer threads the kernel places
        // better.
        let cpus = plan.threads == plan.cpus.count ? plan.cpus : []
        do {
            pool = unsafe try ThreadPool.start(
                workers: plan.threads, cpus: cpus, state: state, share: Stage.run)
        } catch {
            unsafe AnonymousMemory.free(scratch, plan.scratch.byteCount)
            unsafe AnonymousMemory.free(keyValues, plan.keyValueBytes)
            unsafe state.deallocate()
            throw error
        }
        unsafe instructionSet = String(cString: table.pointee.name)
        arithmetic = options.arithmetic
        self.model = model
        self.plan = plan
        self.weights = weights
        self.streamer = streamer
        unsafe self.scratch = scratch
        unsafe self.keyValues = keyValues
        unsafe self.state = state
    }

    deinit {
        unsafe AnonymousMemory.free(scratch, plan.scratch.byteCount)
        unsafe AnonymousMemory.free(keyValues, plan.keyValueBytes)
        unsafe state.deinitialize(count: 1)
        unsafe state.deallocate()
    }

    /// Logits after the last token computed, one per token of the vocabulary; valid until the next
    /// call.
    public var logits: UnsafeBufferPointer<Float> {
        unsafe UnsafeBufferPointer(start: state.pointee.logits, count: model.vocabularyCount)
    }

    /// Counters since the engine was made.
    public var statistics: EngineStatistics {
        var all = times
        all.streaming = streamer.statistics
        return all
    }

    /// Calls `observer` for every layer of every chunk from now on, between its experts and the sum
    /// of their outputs; nil ends it. Costs time and memory: for recording and profiling.
    public mutating func observe(_ observer: ((LayerObservation) -> Void)?) {
        rawLogits =
            observer == nil ? [] : [Float](repeating: 0, count: plan.chunk * model.expertCount)
        self.observer = observer
    }

    /// The router of a layer, decoded: (experts, embedding), row-major. Allocates: for profiling.
    public func routerWeights(layer: Int) -> [Float] {
        precondition(layer >= 0 && layer < model.layerCount, "no layer \(layer)")
        let state = unsafe self.state
        let router = unsafe state.pointee.layers[layer].router
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
    /// Every id is below `vocabularyCount` and every position below `contextCapacity`; the
    /// positions before have been computed.
    public mutating func prefill(_ ids: [Int32], from position: Int) throws(StreamingError) {
        precondition(position + ids.count <= contextCapacity, "positions past the context")
        var first = 0
        while first < ids.count {
            let count = min(plan.chunk, ids.count - first)
            load(ids[first..<(first + count)])
            try chunk(count, position + first)
            first += count
            if first == ids.count { head(of: count - 1, rows: 1) }
        }
    }

    /// Computes one token at `position`, and the logits after it.
    public mutating func decode(_ id: Int32, at position: Int) throws(StreamingError) {
        precondition(position < contextCapacity && id >= 0 && Int(id) < vocabularyCount)
        unsafe state.pointee.ids[0] = id
        try chunk(1, position)
        head(of: 0, rows: 1)
    }

    /// Computes `ids` from position 0 and hands the logits after each of them to `receive`, in
    /// order.
    public mutating func everyLogit(
        of ids: [Int32], _ receive: (UnsafeBufferPointer<Float>) throws -> Void
    ) throws {
        precondition(ids.count <= contextCapacity, "positions past the context")
        var first = 0
        while first < ids.count {
            let count = min(plan.chunk, ids.count - first)
            load(ids[first..<(first + count)])
            try chunk(count, first)
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

    /// Reads experts into the cache, layer by layer, until it is full.
    ///
    /// - Parameter progress: Called with the share done, 0 ... 1.
    public mutating func preload(progress: (Double) -> Void) throws(StreamingError) {
        let share = Double(plan.streaming.slotCount) / Double(model.layerCount * model.expertCount)
        let perLayer = Int(Double(model.expertCount) * share)
        let experts = unsafe state.pointee.distinct
        for layer in 0..<model.layerCount {
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
            progress(Double(layer + 1) / Double(model.layerCount))
        }
    }

    private func load(_ ids: ArraySlice<Int32>) {
        for (index, id) in ids.enumerated() {
            precondition(
                id >= 0 && Int(id) < vocabularyCount, "token id \(id) is not in the vocabulary")
            unsafe state.pointee.ids[index] = id
        }
    }

    // One token's way

    /// Computes the `tokens` ids loaded, from `position` on, up to the last layer's residual
    /// stream.
    private mutating func chunk(_ tokens: Int, _ position: Int) throws(StreamingError) {
        let state = unsafe self.state
        unsafe state.pointee.tokens = tokens
        unsafe state.pointee.position = position
        run(.embed)
        for layer in 0..<model.layerCount {
            unsafe state.pointee.layer = layer
            let start = host_nanoseconds()
            run(.attentionInput)
            run(.projections)
            run(.rotate)
            run(.attention)
            run(.attentionOutputInput)
            run(.attentionOutput)
            run(.expertInput)
            let routed = host_nanoseconds()
            run(.router)
            if observer != nil {
                for index in rawLogits.indices.prefix(tokens * model.expertCount) {
                    rawLogits[index] = unsafe state.pointee.routerLogits[index]
                }
            }
            run(.choose)
            unsafe state.pointee.groupByExpert()
            if tokens > 1 { run(.gather) }
            let chosen = host_nanoseconds()
            try experts(layer)
            if let observer {
                unsafe rawLogits.withUnsafeBufferPointer {
                    unsafe observer(state.pointee.observation(routerLogits: $0.baseAddress!))
                }
            }
            run(.combine)
            let done = host_nanoseconds()
            times.attentionNanoseconds += routed - start
            times.routerNanoseconds += chosen - routed
            times.expertNanoseconds += done - chosen
        }
        times.tokens += UInt64(tokens)
    }

    /// Computes the chunk's experts of one layer: all misses are submitted first, experts already
    /// here are computed while they arrive, then each group as it lands. Where the cache cannot
    /// hold all of them at once, in waves.
    private mutating func experts(_ layer: Int) throws(StreamingError) {
        let state = unsafe self.state
        let distinctCount = unsafe state.pointee.distinctCount
        var first = 0
        while first < distinctCount {
            let count = min(streamer.leaseCapacity(layer: layer), distinctCount - first)
            let wave = unsafe state.pointee.distinct + first
            unsafe streamer.acquire(layer: layer, experts: wave, count: count)
            var given = 0
            while given < count {
                unsafe state.pointee.readyCount = 0
                while true {
                    let index = unsafe streamer.next(wait: state.pointee.readyCount == 0)
                    if index < 0 { break }
                    unsafe state.pointee.addReady(
                        expert: Int(wave[index]), gate: streamer.address(index: index, part: 0),
                        up: streamer.address(index: index, part: 1),
                        down: streamer.address(index: index, part: 2))
                }
                let readyCount = unsafe state.pointee.readyCount
                if readyCount == 0 { break }
                given += readyCount
                run(.gateUp)
                run(.activate)
                run(.down)
            }
            streamer.release()
            if given < count, let failure = streamer.takeFailure() { throw failure }
            first += count
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

    private func run(_ stage: Stage) {
        if stage.dealsTokens,
            unsafe (stage == .headInput ? state.pointee.headTokens : state.pointee.tokens) == 1
        {
            unsafe Stage.run(state, stage.rawValue, 0, 1)
        } else {
            pool.run(stage.rawValue)
        }
    }
}
