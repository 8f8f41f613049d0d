internal import CKernels
internal import Quantization

/// The stages of a token, in order. Between two stages all workers meet; inside one, each worker
/// does its static share of rows, tokens or heads. One line in `Engine.forward` runs one stage.
enum Stage: UInt32 {
    case embed
    case attentionInput
    case projections
    case rotate
    case latentQuery
    case absorb
    case attention
    case stateProjections
    case convolution
    case deltaNet
    case mergeSpans
    case expand
    case attentionOutputInput
    case attentionOutput
    case expertInput
    case router
    case choose
    case guess
    case gather
    case gateUp
    case activate
    case down
    case combine
    case headInput
    case head

    /// Whether the work for one token is so little that the leader does it alone, without a meeting.
    var dealsTokens: Bool {
        switch self {
        case .embed, .attentionInput, .rotate, .convolution, .attentionOutputInput, .expertInput,
            .choose, .combine, .headInput:
            true
        default: false
        }
    }

    /// The entry point of every worker; see `ThreadPool.Share`.
    static let run: ThreadPool.Share = { raw, stage, worker, workers in
        let state = unsafe raw.assumingMemoryBound(to: EngineState.self)
        let stage = Stage(rawValue: stage)!
        unsafe stage.run(state, Int(worker), Int(workers))
        return unsafe workers == 1 ? nil : state.pointee.ahead(of: stage, Int(worker))
    }

    private func run(_ state: UnsafeMutablePointer<EngineState>, _ worker: Int, _ workers: Int) {
        func share(_ count: Int) -> Range<Int> { part(count, worker, workers) }
        switch self {
        case .embed: unsafe state.pointee.embed(tokens: share(state.pointee.tokens))
        case .attentionInput:
            unsafe state.pointee.attentionInput(tokens: share(state.pointee.tokens))
        case .projections: unsafe state.pointee.projections(worker)
        case .rotate: unsafe state.pointee.rotate(tokens: share(state.pointee.tokens))
        case .latentQuery: unsafe state.pointee.latentQuery(worker)
        case .absorb: unsafe state.pointee.absorb(worker)
        case .attention: unsafe state.pointee.attend(worker, workers)
        case .stateProjections: unsafe state.pointee.stateProjections(worker)
        case .convolution: unsafe state.pointee.convolution(worker, workers)
        case .deltaNet: unsafe state.pointee.deltaNet(worker)
        case .mergeSpans:
            unsafe state.pointee.mergeSpans(
                tasks: share(state.pointee.tokens * state.pointee.headCount), worker)
        case .expand: unsafe state.pointee.expand(worker)
        case .attentionOutputInput:
            unsafe state.pointee.quantiseMixed(tokens: share(state.pointee.tokens))
        case .attentionOutput: unsafe state.pointee.attentionOutput(worker)
        case .expertInput: unsafe state.pointee.expertInput(tokens: share(state.pointee.tokens))
        case .router: unsafe state.pointee.router(worker)
        case .choose: unsafe state.pointee.choose(tokens: share(state.pointee.tokens))
        case .guess: unsafe state.pointee.guess(worker)
        case .gather: unsafe state.pointee.gather(worker, workers)
        case .gateUp: unsafe state.pointee.gateUp(worker)
        case .activate: unsafe state.pointee.activate(worker, workers)
        case .down: unsafe state.pointee.down(worker)
        case .combine: unsafe state.pointee.combine(tokens: share(state.pointee.tokens))
        case .headInput: unsafe state.pointee.headInput(tokens: share(state.pointee.headTokens))
        case .head: unsafe state.pointee.head(worker)
        }
    }
}

extension EngineState {
    /// Units of a stage's work that its workers take from the queue; 0 for stages that share tokens
    /// or tasks.
    func unitCount(_ stage: Stage) -> Int {
        switch stage {
        case .projections: unsafe projectionUnits
        case .stateProjections: unsafe stateProjectionUnits
        case .deltaNet: unsafe deltaNetUnits
        case .latentQuery: unsafe latentQueryUnits
        case .absorb, .expand: unsafe headCount
        case .attentionOutput: unsafe layers[layer].attentionOutput.unitCount
        case .router: unsafe expertLayers[expertLayer].router.unitCount
        case .guess: unsafe guessedLayers * guessMatrix(0).unitCount
        case .gateUp: unsafe readyCount * (expertUnits(0) + expertUnits(1))
        case .down: unsafe readyCount * expertUnits(2)
        case .head: unsafe output.unitCount
        default: 0
        }
    }

    /// What a worker will read first in the stage that follows `stage`, where that is known.
    fileprivate func ahead(of stage: Stage, _ worker: Int) -> UnsafeRawPointer? {
        switch stage {
        case .projections, .attention, .stateProjections, .deltaNet:
            unsafe first(of: layers[layer].attentionOutput, worker)
        case .attentionOutput:
            unsafe layers[layer].hasExperts
                ? first(of: expertLayers[expertLayer].router, worker) : nil
        case .down:
            unsafe first(
                of: layer + 1 < layerCount ? firstProjection(layer + 1) : output, worker)
        case .head: unsafe first(of: firstProjection(0), worker)
        default: nil
        }
    }

    /// The matrix that a layer begins with.
    private func firstProjection(_ layer: Int) -> Matrix? {
        switch unsafe stateLayers[layer].mixer {
        case .none: unsafe layers[layer].attention.first
        case .convolution(let input, _): unsafe input
        case .deltaNet(let projections, _): unsafe projections.queryKeyValue
        }
    }

    private func first(of matrix: Matrix?, _ worker: Int) -> UnsafeRawPointer? {
        guard let matrix = unsafe matrix else { return nil }
        let unit = unsafe queue.firstUnit(worker, of: matrix.unitCount)
        return unsafe matrix.weights + unit * matrix.unitRows * matrix.rowBytes
    }
}

/// The worker-th of `workers` equal parts of `count`.
private func part(_ count: Int, _ worker: Int, _ workers: Int) -> Range<Int> {
    (count * worker / workers)..<(count * (worker + 1) / workers)
}

extension EngineState {
    /// hidden[t] = row of the token embedding.
    func embed(tokens: Range<Int>) {
        for token in tokens {
            unsafe BlockDecoder.decode(
                tokenEmbedding.format,
                from: tokenEmbedding.weights + Int(ids[token]) * tokenEmbedding.rowBytes,
                elements: embeddingLength, into: hidden + token * embeddingLength)
            unsafe scale(
                hidden + token * embeddingLength, embeddingLength, by: multipliers.embedding)
        }
    }

    func attentionInput(tokens: Range<Int>) {
        unsafe norm(tokens, hidden, layers[layer].attentionNorm, into: normed)
    }

    fileprivate var projectionUnits: Int {
        switch unsafe layers[layer].attention {
        case .none: 0
        case .heads(let heads):
            unsafe heads.query.unitCount + heads.key.unitCount + heads.value.unitCount
        case .latent(let latent):
            unsafe (latent.queryDown ?? latent.query).unitCount + latent.keyValueDown.unitCount
        }
    }

    func projections(_ worker: Int) {
        switch unsafe layers[layer].attention {
        case .none: break
        case .heads(let heads):
            let queries = unsafe heads.query.unitCount
            let keys = unsafe queries + heads.key.unitCount
            while let unit = unsafe queue.take(worker) {
                if unit < queries {
                    unsafe multiply(heads.query, unit, normed, query, worker)
                } else if unit < keys {
                    unsafe multiply(heads.key, unit - queries, normed, key, worker)
                } else {
                    unsafe multiply(heads.value, unit - keys, normed, value, worker)
                }
            }
        case .latent(let latent):
            let first = unsafe latent.queryDown ?? latent.query
            let target = unsafe latent.queryDown == nil ? headQueries : queryLatent.floats
            let queries = unsafe first.unitCount
            while let unit = unsafe queue.take(worker) {
                if unit < queries {
                    unsafe multiply(first, unit, normed, target, worker)
                } else {
                    unsafe multiply(latent.keyValueDown, unit - queries, normed, key, worker)
                }
            }
        }
    }

    fileprivate var latentQueryUnits: Int {
        guard case .latent(let latent) = unsafe layers[layer].attention else { return 0 }
        return unsafe latent.query.unitCount
    }

    func quantiseMixed(tokens: Range<Int>) {
        for token in tokens { unsafe mixed.quantise(token, kernels.table) }
    }

    func attentionOutput(_ worker: Int) {
        while let unit = unsafe queue.take(worker) {
            unsafe multiply(layers[layer].attentionOutput, unit, mixed, projected, worker)
        }
    }

    /// Adds attention's result to the residual stream and norms it for the experts.
    func expertInput(tokens: Range<Int>) {
        for token in tokens {
            let place = unsafe token * embeddingLength
            unsafe add(layers[layer].outputBias, embeddingLength, to: projected + place)
            unsafe kernels.table.pointee.add_scaled(
                projected + place, multipliers.residual, UInt32(embeddingLength), hidden + place)
        }
        unsafe norm(tokens, hidden, layers[layer].expertNorm, into: normed)
    }

    func router(_ worker: Int) {
        while let unit = unsafe queue.take(worker) {
            unsafe multiply(expertLayers[expertLayer].router, unit, normed, routerLogits, worker)
        }
    }

    /// The experts of each token, by the model's rule.
    func choose(tokens: Range<Int>) {
        for token in tokens {
            let row = unsafe routerLogits + token * expertCount
            let place = unsafe token * expertsPerToken
            if let bias = unsafe expertLayers[expertLayer].routerBias {
                unsafe kernels.table.pointee.add_scaled(bias, 1, UInt32(expertCount), row)
            }
            unsafe rankCounts[token] = Int32(
                routing.choose(
                    expertsPerToken, of: expertCount, row: row,
                    correction: expertLayers[expertLayer].routerCorrection, kernels: kernels.table,
                    chosen: chosen + place, weights: gateWeights + place))
            // A recording stands in for the choice, but not for the probabilities, which policies
            // read; and a token costs what it always does.
            if let forced = unsafe forced {
                unsafe rankCounts[token] = Int32(expertsPerToken)
                unsafe forced.copy(
                    token: token, layer: expertLayer, experts: chosen + place,
                    weights: gateWeights + place)
            }
        }
    }

    /// Router logits of the next layers, as this layer's router input foretells them: all layers'
    /// rows in one stage.
    func guess(_ worker: Int) {
        let units = unsafe guessMatrix(0).unitCount
        while let unit = unsafe queue.take(worker) {
            let ahead = unit / units
            unsafe multiply(
                guessMatrix(ahead), guessMatrix(0).unitRange(unit % units), normed, tokens,
                guessedLogits + ahead * tokens * expertCount, worker)
        }
    }

    /// What guesses the router logits of the layer `ahead` of the next; all are alike in shape.
    private func guessMatrix(_ ahead: Int) -> Matrix {
        if let learnedGates = unsafe learnedGates { return unsafe learnedGates[expertLayer] }
        return unsafe expertLayers[expertLayer + 1 + ahead].router
    }

    /// Copies the input of each pair of the ready experts beside the others of its expert.
    func gather(_ worker: Int, _ workers: Int) {
        for index in unsafe 0..<readyCount {
            let expert = unsafe ready[index]
            for row in expert.firstRow..<(expert.firstRow + expert.pairCount)
            where row % workers == worker {
                let token = unsafe Int(tokenOfPair[expert.firstPair + row - expert.firstRow])
                unsafe copyRow(from: normed, token, to: gathered, row)
            }
        }
    }

    /// Gate and up rows of every ready expert.
    func gateUp(_ worker: Int) {
        let gates = unsafe expertUnits(0)
        let units = unsafe gates + expertUnits(1)
        let single = unsafe tokens == 1
        while let unit = unsafe queue.take(worker) {
            let (index, place) = (unit / units, unit % units)
            let input = unsafe single ? normed : gathered
            let inputRow = unsafe single ? 0 : ready[index].firstRow
            let outputRow = unsafe ready[index].firstRow * expertWidth
            if place < gates {
                unsafe multiplyExpert(
                    index, 0, unit: place, input, inputRow, gateRows + outputRow, worker)
            } else {
                unsafe multiplyExpert(
                    index, 1, unit: place - gates, input, inputRow,
                    expertHidden.floats + outputRow, worker)
            }
        }
    }

    /// silu(gate) * up for the pairs of every ready expert.
    func activate(_ worker: Int, _ workers: Int) {
        for index in unsafe 0..<readyCount {
            let expert = unsafe ready[index]
            // Rows are dealt round, because in decode every expert has just one.
            for row in expert.firstRow..<(expert.firstRow + expert.pairCount)
            where row % workers == worker {
                let up = unsafe expertHidden.floats + row * expertWidth
                unsafe kernels.table.pointee.swiglu(
                    gateRows + row * expertWidth, up, UInt32(expertWidth), up)
                unsafe expertHidden.quantise(row, kernels.table)
            }
        }
    }

    /// Down rows of every ready expert.
    func down(_ worker: Int) {
        let units = unsafe expertUnits(2)
        while let unit = unsafe queue.take(worker) {
            let index = unit / units
            unsafe multiplyExpert(
                index, 2, unit: unit % units, expertHidden, ready[index].firstRow,
                expertOutput + ready[index].firstPair * embeddingLength, worker)
        }
    }

    /// Units of the gate, up or down matrix of this layer's experts: whichever version of it a
    /// ready expert has.
    private func expertUnits(_ part: Int) -> Int {
        unsafe expertMatrices[expertLayer * 3 + part].matrix.unitCount
    }

    /// hidden[t] += sum of gate weight x expert output, in order of rank: arrival order does not
    /// matter.
    func combine(tokens: Range<Int>) {
        for token in tokens {
            for rank in unsafe 0..<expertsPerToken {
                let choice = unsafe token * expertsPerToken + rank
                let pair = unsafe Int(pairOfChoice[choice])
                if pair < 0 { continue }
                unsafe kernels.table.pointee.add_scaled(
                    expertOutput + pair * embeddingLength, gateWeights[choice],
                    UInt32(embeddingLength), hidden + token * embeddingLength)
            }
        }
    }

    func headInput(tokens: Range<Int>) {
        unsafe norm(
            tokens, hidden + headFirstToken * embeddingLength, outputNorm, into: normed)
    }

    func head(_ worker: Int) {
        while let unit = unsafe queue.take(worker) {
            let rows = unsafe output.unitRange(unit)
            unsafe multiply(output, rows, normed, headTokens, logits, worker)
            for token in unsafe 0..<headTokens {
                let own = unsafe logits + token * output.rows + rows.lowerBound
                if let bias = unsafe outputBias {
                    unsafe add(bias + rows.lowerBound, rows.count, to: own)
                }
                unsafe scale(own, rows.count, by: multipliers.logits)
            }
        }
    }

    // Parts of stages

    private func scale(_ x: UnsafeMutablePointer<Float>, _ count: Int, by factor: Float) {
        if factor == 1 { return }
        for index in 0..<count { unsafe x[index] *= factor }
    }

    /// One unit of a resident matrix against the chunk's tokens.
    func multiply(
        _ matrix: Matrix, _ unit: Int, _ x: Activations, _ y: UnsafeMutablePointer<Float>,
        _ worker: Int
    ) {
        unsafe multiply(matrix, matrix.unitRange(unit), x, tokens, y, worker)
    }

    private func multiply(
        _ matrix: Matrix, _ rows: Range<Int>, _ x: Activations, _ tokens: Int,
        _ y: UnsafeMutablePointer<Float>, _ worker: Int
    ) {
        let kind = unsafe matrix.path.input
        unsafe matrix.multiply(
            kernels, rows: rows, x: x.row(kind, 0), xStride: x.strideBytes(kind), tokens: tokens,
            y: y, yStride: matrix.rows, rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    /// One unit of a ready expert's matrix `part` against its pairs, whose inputs begin at `row`.
    private func multiplyExpert(
        _ index: Int, _ part: Int, unit: Int, _ x: Activations, _ row: Int,
        _ y: UnsafeMutablePointer<Float>, _ worker: Int
    ) {
        let expert = unsafe readyMatrices + index * 3 + part
        let kind = unsafe expert.pointee.matrix.path.input
        // Units are those of the layer's matrices, which may be a wider version than this one.
        unsafe expert.pointee.multiply(
            kernels, rows: expertMatrices[expertLayer * 3 + part].matrix.unitRange(unit),
            x: x.row(kind, row), xStride: x.strideBytes(kind), tokens: ready[index].pairCount,
            y: y, yStride: expert.pointee.matrix.rows,
            rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    /// Copies one row of activations in every form that both have.
    func copyRow(from source: Activations, _ row: Int, to target: Activations, _ targetRow: Int) {
        unsafe copyRow(.float, from: source, row, to: target, targetRow)
        unsafe copyRow(.a32, from: source, row, to: target, targetRow)
        unsafe copyRow(.a256, from: source, row, to: target, targetRow)
    }

    private func copyRow(
        _ kind: ActivationKind, from source: Activations, _ row: Int, to target: Activations,
        _ targetRow: Int
    ) {
        switch kind {
        case .float:
            guard unsafe target.hasFloats else { return }
            unsafe (target.floats + targetRow * target.length).update(
                from: source.floats + row * source.length, count: source.length)
        case .a32:
            guard let from = unsafe source.a32, let to = unsafe target.a32 else { return }
            unsafe (to + targetRow * target.a32Stride).copyMemory(
                from: from + row * source.a32Stride, byteCount: source.a32Stride)
        case .a256:
            guard let from = unsafe source.a256, let to = unsafe target.a256 else { return }
            unsafe (to + targetRow * target.a256Stride).copyMemory(
                from: from + row * source.a256Stride, byteCount: source.a256Stride)
        }
    }
}
