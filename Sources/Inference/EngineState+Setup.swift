internal import Glibc
internal import ModelFormats

extension EngineState {
    /// Points every field into the scratch, the key-value cache and the weights, and fills the
    /// tables.
    init(
        model: ModelDescription, plan: MemoryPlan, arithmetic: Arithmetic, kernels: Kernels,
        weights: borrowing ResidentWeights, scratch: UnsafeMutableRawPointer,
        keyValues: UnsafeMutableRawPointer, states: UnsafeMutableRawPointer, routing: Routing
    ) {
        let layout = plan.scratch
        func floats(_ offset: Int) -> UnsafeMutablePointer<Float> {
            unsafe (scratch + offset).assumingMemoryBound(to: Float.self)
        }
        func integers(_ offset: Int) -> UnsafeMutablePointer<Int32> {
            unsafe (scratch + offset).assumingMemoryBound(to: Int32.self)
        }
        func bytes(_ offset: Int) -> UnsafeMutablePointer<UInt8> {
            unsafe (scratch + offset).assumingMemoryBound(to: UInt8.self)
        }
        func rows(_ rows: ScratchLayout.Rows) -> Activations {
            unsafe Activations(
                floats: floats(rows.floats), a32: rows.a32.map { unsafe scratch + $0 },
                a256: rows.a256.map { unsafe scratch + $0 }, hasFloats: rows.hasFloats,
                length: rows.length,
                a32Stride: rows.a32Stride, a256Stride: rows.a256Stride)
        }
        unsafe self.kernels = kernels
        unsafe layers = (scratch + layout.layers).bindMemory(
            to: LayerState.self, capacity: model.layerCount)
        unsafe expertLayers = (scratch + layout.expertLayers).bindMemory(
            to: ExpertLayerState.self, capacity: model.expertLayerCount)
        unsafe tokenEmbedding = weights.matrix(model.tokenEmbedding, arithmetic)
        unsafe output = weights.matrix(model.output.weight, arithmetic)
        unsafe outputBias = weights.vector(model.output.bias)
        unsafe outputNorm = NormState(model.outputNorm, weights)
        unsafe ids = integers(layout.ids)
        unsafe positions = integers(layout.positions)
        unsafe sequences = integers(layout.sequences)
        unsafe hidden = floats(layout.hidden)
        unsafe normed = rows(layout.normed)
        unsafe query = floats(layout.query)
        unsafe key = floats(layout.key)
        unsafe value = floats(layout.value)
        unsafe mixed = rows(layout.mixed)
        unsafe queryLatent = rows(layout.queryLatent)
        unsafe headQueries = floats(layout.headQueries)
        unsafe plainQueries = rows(layout.plainQueries)
        unsafe latentAnswers = rows(layout.latentAnswers)
        unsafe answers = model.keepsLatents ? latentAnswers.floats : mixed.floats
        unsafe projected = floats(layout.projected)
        unsafe routerLogits = floats(layout.routerLogits)
        unsafe chosen = integers(layout.chosen)
        unsafe gateWeights = floats(layout.gateWeights)
        unsafe rankCounts = integers(layout.rankCounts)
        unsafe widths = bytes(layout.widths)
        unsafe expertPlanes = bytes(layout.expertPlanes)
        unsafe pairOfChoice = integers(layout.pairOfChoice)
        unsafe tokenOfPair = integers(layout.tokenOfPair)
        unsafe firstPair = integers(layout.firstPair)
        unsafe distinct = integers(layout.distinct)
        unsafe distinctPlanes = bytes(layout.distinctPlanes)
        unsafe isHere = (scratch + layout.isHere).bindMemory(
            to: Bool.self, capacity: model.expertCount)
        unsafe ready = (scratch + layout.ready).bindMemory(
            to: ReadyExpert.self, capacity: model.expertCount)
        unsafe expertMatrices = (scratch + layout.expertMatrices).bindMemory(
            to: ExpertMatrix.self, capacity: model.expertLayerCount * 3)
        unsafe readyMatrices = (scratch + layout.readyMatrices).bindMemory(
            to: ExpertMatrix.self, capacity: model.expertCount * 3)
        unsafe gathered = rows(layout.gathered)
        unsafe gateRows = floats(layout.gateRows)
        unsafe expertHidden = rows(layout.expertHidden)
        unsafe expertOutput = floats(layout.expertOutput)
        unsafe layerInput = rows(layout.layerInput)
        unsafe denseRows = layout.denseRows
        unsafe denseGate = floats(layout.denseGate)
        unsafe denseHidden = rows(layout.denseHidden)
        unsafe denseOutput = floats(layout.denseOutput)
        unsafe denseWeights = floats(layout.denseWeights)
        unsafe guessedLogits = floats(layout.guessedLogits)
        unsafe prefetched = integers(layout.prefetched)
        unsafe lateInput = rows(layout.lateInput)
        unsafe logits = floats(layout.logits)
        unsafe queue = WorkQueue(scratch + layout.queue, workers: plan.threads)
        unsafe attention = layout.attention
        unsafe attentionBuffers = floats(layout.attentionBuffers)
        unsafe spanResults = floats(layout.spanResults)
        unsafe rowBuffers = floats(layout.rowBuffers)
        unsafe cosine = floats(layout.cosine)
        unsafe sine = floats(layout.sine)
        unsafe cacheKernels = kernels.cache + plan.keyValueRows.kernel
        unsafe keyCache = keyValues
        unsafe valueCache =
            keyValues
            + plan.keyValueRows.valueOffset(
                positions: plan.sequences * plan.context)
        unsafe keyRowBytes = plan.keyValueRows.keyBytes
        unsafe valueRowBytes = plan.keyValueRows.valueBytes
        unsafe valuesAreKeys = plan.keyValueRows.valuesAreKeys
        unsafe attentionLayerCount = plan.keyValueRows.layerCount
        unsafe rowBufferLength = layout.rowBufferLength
        unsafe mixerRows = floats(layout.mixerRows)
        unsafe mixerRowWidth = layout.states.rowWidth
        unsafe mixerBuffers = floats(layout.mixerBuffers)
        unsafe mixerBufferLength = layout.states.bufferLength
        unsafe stateLayers = (scratch + layout.stateLayers).bindMemory(
            to: StateLayer.self, capacity: model.layerCount)
        unsafe self.states = states.assumingMemoryBound(to: Float.self)
        unsafe stateLength = layout.states.sequenceLength
        unsafe embeddingLength = model.embeddingLength
        unsafe headCount = model.headCount
        unsafe keyValueHeadCount = model.keyValueHeadCount
        unsafe headSize = model.headSize
        unsafe valueSize = model.valueSize
        unsafe attentionScale =
            model.multipliers.attention ?? 1 / Float(model.headSize).squareRoot()
        unsafe multipliers = model.multipliers
        unsafe rotaryPairs = model.rotary.dimensionCount / 2
        unsafe rotatesNeighbours = model.rotatesNeighbours
        unsafe normEpsilon = model.normEpsilon
        unsafe expertCount = model.expertCount
        unsafe expertsPerToken = model.expertsPerToken
        unsafe expertWidth = model.expertWidth
        unsafe self.routing = routing
        unsafe activation = model.activation
        unsafe contextCapacity = plan.context
        unsafe layerCount = model.layerCount
        unsafe expertLayerCount = model.expertLayerCount
        for (layer, block) in model.expertLayers.enumerated() {
            guard let experts = model.layers[block].experts else { continue }
            unsafe (expertLayers + layer).initialize(
                to: ExpertLayerState(
                    router: experts.router.map { unsafe weights.matrix($0.weight, arithmetic) },
                    routerBias: experts.router?.bias.map { unsafe weights.vector($0) },
                    routerCorrection: experts.correctionBias.map { unsafe weights.vector($0) },
                    routesEarly: experts.routesEarly,
                    gateBias: experts.biases.map { unsafe weights.vector($0.gate) },
                    upBias: experts.biases.map { unsafe weights.vector($0.up) },
                    downBias: experts.biases.map { unsafe weights.vector($0.down) }))
            for (part, shape) in experts.parts.enumerated() {
                unsafe (expertMatrices + layer * 3 + part).initialize(
                    to: ExpertMatrix(
                        shape, arithmetic, kernels, unplaced: UnsafeRawPointer(scratch)))
            }
        }
        var cacheIndex = 0
        for (index, layer) in model.layers.enumerated() {
            unsafe (layers + index).initialize(
                to: LayerState(
                    layer, of: model, cacheIndex: &cacheIndex, context: plan.context, arithmetic,
                    weights))
            unsafe (stateLayers + index).initialize(
                to: StateLayer(
                    layer, layout.states.places[index], arithmetic, weights,
                    kernels: floats(layout.mixerKernels), ones: floats(layout.mixerOnes),
                    normEpsilon: normEpsilon))
        }
        unsafe ones = nil
        if model.normKind == .layer {
            let row = unsafe floats(layout.ones)
            unsafe row.update(repeating: 1, count: model.embeddingLength)
            unsafe ones = UnsafePointer(row)
        }
        unsafe floats(layout.mixerOnes).update(repeating: 1, count: layout.states.onesLength)
        unsafe fillRotaryTables(model, weights)
        // Set by the engine where there are any.
        unsafe learnedGates = nil
        unsafe learnedBias = nil
    }

    private func fillRotaryTables(_ model: ModelDescription, _ weights: borrowing ResidentWeights) {
        var tensor = model.rotaryDivisors
        if case .long(_, let trainedContext) = model.rotary.scaling,
            unsafe contextCapacity > trainedContext
        {
            tensor = model.longRotaryDivisors
        }
        let divisors = tensor.map { tensor in
            unsafe Array(
                UnsafeBufferPointer(start: weights.vector(tensor), count: tensor.elementCount))
        }
        let (angles, magnitude) = model.rotary.angles(divisors: divisors ?? [])
        for position in unsafe 0..<contextCapacity {
            for pair in unsafe 0..<rotaryPairs {
                let angle = Double(position) * angles[pair]
                unsafe cosine[position * rotaryPairs + pair] = Float(cos(angle) * magnitude)
                unsafe sine[position * rotaryPairs + pair] = Float(sin(angle) * magnitude)
            }
        }
    }

    /// Sorts the chunk's (token, rank) choices by expert: `distinct` lists the experts in use, and
    /// the pairs of expert e are `firstPair[e]` ..< `firstPair[e + 1]`.
    ///
    /// One token's experts are listed by rank; those of many by number. Choices of width 0 make no
    /// pair; an expert is wanted with as many planes as the choice that wants most.
    mutating func groupByExpert() {
        let choices = unsafe tokens * expertsPerToken
        for expert in unsafe 0...expertCount { unsafe firstPair[expert] = 0 }
        for expert in unsafe 0..<expertCount { unsafe expertPlanes[expert] = 0 }
        for choice in 0..<choices where unsafe widths[choice] > 0 {
            let expert = unsafe Int(chosen[choice])
            unsafe firstPair[expert + 1] += 1
            unsafe expertPlanes[expert] = max(expertPlanes[expert], widths[choice])
        }
        for expert in unsafe 0..<expertCount { unsafe firstPair[expert + 1] += firstPair[expert] }
        // Filling moves each start to the next expert's; moving them back restores the table.
        for choice in 0..<choices {
            guard unsafe widths[choice] > 0 else {
                unsafe pairOfChoice[choice] = -1
                continue
            }
            let expert = unsafe Int(chosen[choice])
            let pair = unsafe firstPair[expert]
            unsafe firstPair[expert] = pair + 1
            unsafe pairOfChoice[choice] = pair
            unsafe tokenOfPair[Int(pair)] = Int32(choice / expertsPerToken)
        }
        for expert in unsafe stride(from: expertCount, to: 0, by: -1) {
            unsafe firstPair[expert] = firstPair[expert - 1]
        }
        unsafe firstPair[0] = 0
        unsafe distinctCount = 0
        if unsafe tokens == 1 {
            for rank in unsafe 0..<expertsPerToken where unsafe widths[rank] > 0 {
                unsafe list(chosen[rank])
            }
            return
        }
        for expert in unsafe 0..<expertCount where unsafe firstPair[expert + 1] > firstPair[expert]
        {
            unsafe list(Int32(expert))
        }
    }

    private mutating func list(_ expert: Int32) {
        unsafe distinct[distinctCount] = expert
        unsafe distinctPlanes[distinctCount] = expertPlanes[Int(expert)]
        unsafe distinctCount += 1
    }

    /// Sorts `distinct`: experts in memory first, then those of most pairs, then by number.
    mutating func sortDistinct() {
        for place in unsafe stride(from: 1, to: distinctCount, by: 1) {
            let (expert, planes) = unsafe (distinct[place], distinctPlanes[place])
            var left = place
            while left > 0, unsafe precedes(Int(expert), Int(distinct[left - 1])) {
                unsafe distinct[left] = distinct[left - 1]
                unsafe distinctPlanes[left] = distinctPlanes[left - 1]
                left -= 1
            }
            unsafe distinct[left] = expert
            unsafe distinctPlanes[left] = planes
        }
    }

    private func precedes(_ expert: Int, _ other: Int) -> Bool {
        if unsafe isHere[expert] != isHere[other] { return unsafe isHere[expert] }
        let pairs = unsafe firstPair[expert + 1] - firstPair[expert]
        let others = unsafe firstPair[other + 1] - firstPair[other]
        return pairs > others || (pairs == others && expert < other)
    }

    /// No expert is ready.
    mutating func beginRound() {
        unsafe readyCount = 0
        unsafe roundRows = 0
        unsafe roundWork = 0
    }

    /// Lists a leased expert for the next round of expert stages, with `planes` of its planes.
    ///
    /// - Parameter setIndex: its index in the streamer's acquired set.
    /// - Returns: its three matrices, to be placed.
    mutating func addReady(
        expert: Int, planes: Int, setIndex: Int
    ) -> UnsafeMutablePointer<ExpertMatrix> {
        let first = unsafe Int(firstPair[expert])
        let pairs = unsafe Int(firstPair[expert + 1]) - first
        unsafe ready[readyCount] = ReadyExpert(
            expert: expert, firstPair: first, pairCount: pairs, firstRow: roundRows,
            setIndex: setIndex)
        unsafe roundRows += pairs
        // Up to 4 tokens an expert costs what bringing its weights from memory does.
        unsafe roundWork += max(pairs, 4)
        let matrices = unsafe readyMatrices + readyCount * 3
        for part in 0..<3 {
            unsafe matrices[part] = expertMatrices[expertLayer * 3 + part]
            unsafe matrices[part].use(planes: planes)
        }
        unsafe readyCount += 1
        return unsafe matrices
    }
}
