internal import CKernels
internal import Quantization

/// The stages of a token, in order. Between two stages all workers meet; inside one, each worker
/// does its static share of rows, tokens or heads. One line in `Engine.forward` runs one stage.
enum Stage: UInt32 {
    case embed
    case layerInput
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
    case denseGateUp
    case denseActivate
    case denseDown
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
            .layerInput, .choose, .denseActivate, .combine, .headInput:
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
        case .layerInput: unsafe state.pointee.keepLayerInput(tokens: share(state.pointee.tokens))
        case .router: unsafe state.pointee.router(worker)
        case .choose: unsafe state.pointee.choose(tokens: share(state.pointee.tokens))
        case .guess: unsafe state.pointee.guess(worker)
        case .denseGateUp: unsafe state.pointee.denseGateUp(worker)
        case .denseActivate:
            unsafe state.pointee.denseActivate(rows: share(state.pointee.denseTokens))
        case .denseDown: unsafe state.pointee.denseDown(worker)
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
        case .router: unsafe expertLayers[expertLayer].router!.unitCount
        case .guess: unsafe guessedLayers * guessMatrix(0).unitCount
        case .denseGateUp:
            unsafe layers[layer].dense!.gate.unitCount + layers[layer].dense!.up.unitCount
        case .denseDown: unsafe layers[layer].dense!.down.unitCount
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
            unsafe first(of: afterAttention, worker)
        case .denseDown where unsafe !layers[layer].hasExperts, .down:
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

    /// The matrix that follows attention; nil where that is one of an expert.
    private var afterAttention: Matrix? {
        guard unsafe layers[layer].hasExperts else { return unsafe layers[layer].dense?.gate }
        let experts = unsafe expertLayers[expertLayer]
        return unsafe experts.routesEarly ? layers[layer].dense?.gate : experts.router
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

    /// Keeps the residual stream as it enters the layer, for its router.
    func keepLayerInput(tokens: Range<Int>) {
        for token in tokens {
            unsafe (layerInput.floats + token * embeddingLength).update(
                from: hidden + token * embeddingLength, count: embeddingLength)
            unsafe layerInput.quantise(token, kernels.table)
        }
    }

    func router(_ worker: Int) {
        while let unit = unsafe queue.take(worker) {
            unsafe multiply(
                expertLayers[expertLayer].router!, unit, routerInput, routerLogits, worker)
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
                guessMatrix(ahead), guessMatrix(0).unitRange(unit % units), routerInput, from: 0,
                tokens,
                guessedLogits + ahead * tokens * expertCount, worker)
        }
    }

    /// What guesses the router logits of the layer `ahead` of the next; all are alike in shape.
    private func guessMatrix(_ ahead: Int) -> Matrix {
        if let learnedGates = unsafe learnedGates { return unsafe learnedGates[expertLayer] }
        return unsafe expertLayers[expertLayer + 1 + ahead].router!
    }

    /// Gate and up rows of what every token uses, for the tokens of this go.
    func denseGateUp(_ worker: Int) {
        guard let dense = unsafe layers[layer].dense else { return }
        let gates = unsafe dense.gate.unitCount
        while let unit = unsafe queue.take(worker) {
            if unit < gates {
                unsafe multiply(
                    dense.gate, dense.gate.unitRange(unit), normed, from: denseFirst, denseTokens,
                    denseGate, worker)
            } else {
                unsafe multiply(
                    dense.up, dense.up.unitRange(unit - gates), normed, from: denseFirst,
                    denseTokens, denseHidden.floats, worker)
            }
        }
    }

    /// The activation of this go's rows, and the weights of their outputs.
    func denseActivate(rows: Range<Int>) {
        guard let dense = unsafe layers[layer].dense else { return }
        let width = unsafe dense.gate.rows
        let hidden = unsafe hiddenRows(width)
        for row in rows {
            unsafe applyActivation(denseGate + row * width, hidden.floats + row * width, width)
            unsafe hidden.quantise(row, kernels.table)
            let weight = unsafe denseWeights + (denseFirst + row) * 2
            guard let gate = unsafe layers[layer].denseGate else {
                unsafe weight[0] = 1
                continue
            }
            unsafe kernels.gemm[Int(SLUICE_F32)](
                gate, embeddingLength * 4, 1,
                normed.floats + (denseFirst + row) * embeddingLength, 0, 1,
                UInt32(embeddingLength), weight, 1)
            // A sigmoid is the softmax beside 0.
            unsafe weight[1] = 0
            let sum = unsafe kernels.table.pointee.softmax_exp(weight, 2)
            unsafe weight[0] /= sum
        }
    }

    /// Down rows of what every token uses.
    func denseDown(_ worker: Int) {
        guard let dense = unsafe layers[layer].dense else { return }
        while let unit = unsafe queue.take(worker) {
            unsafe multiply(
                dense.down, dense.down.unitRange(unit), hiddenRows(dense.gate.rows), from: 0,
                denseTokens, denseOutput + denseFirst * embeddingLength, worker)
        }
    }

    /// The rows between gate, up and down of a width, in the forms that such rows have: layers
    /// differ in both.
    private func hiddenRows(_ width: Int) -> Activations {
        var rows = unsafe denseHidden
        unsafe rows.length = width
        if width % 32 != 0 { unsafe rows.a32 = nil }
        if width % 256 != 0 { unsafe rows.a256 = nil }
        return unsafe rows
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
        let inPlace = unsafe !gathers
        while let unit = unsafe queue.take(worker) {
            let (index, place) = (unit / units, unit % units)
            let input = unsafe inPlace ? normed : gathered
            let inputRow = unsafe inPlace ? 0 : ready[index].firstRow
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

    /// The activation for the pairs of every ready expert.
    func activate(_ worker: Int, _ workers: Int) {
        for index in unsafe 0..<readyCount {
            let expert = unsafe ready[index]
            // Rows are dealt round, because in decode every expert has just one.
            for row in expert.firstRow..<(expert.firstRow + expert.pairCount)
            where row % workers == worker {
                unsafe applyActivation(
                    gateRows + row * expertWidth, expertHidden.floats + row * expertWidth,
                    expertWidth)
                unsafe expertHidden.quantise(row, kernels.table)
            }
        }
    }

    /// up = activation of a row of gate and up products.
    private func applyActivation(
        _ gate: UnsafePointer<Float>, _ up: UnsafeMutablePointer<Float>, _ width: Int
    ) {
        switch unsafe activation {
        case .silu: unsafe kernels.table.pointee.swiglu(gate, up, UInt32(width), up)
        case .relu: unsafe kernels.table.pointee.reglu(gate, up, UInt32(width), up)
        case .clampedSwiGLU(let alpha, let limit):
            unsafe kernels.table.pointee.clamped_swiglu(gate, up, UInt32(width), alpha, limit, up)
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
    /// matter. What every token uses comes last.
    func combine(tokens: Range<Int>) {
        let ranks = unsafe layers[layer].hasExperts ? expertsPerToken : 0
        let isDense = unsafe layers[layer].dense != nil
        for token in tokens {
            let target = unsafe hidden + token * embeddingLength
            for rank in 0..<ranks {
                let choice = unsafe token * expertsPerToken + rank
                let pair = unsafe Int(pairOfChoice[choice])
                if pair < 0 { continue }
                unsafe kernels.table.pointee.add_scaled(
                    expertOutput + pair * embeddingLength,
                    gateWeights[choice] * multipliers.residual, UInt32(embeddingLength), target)
            }
            if isDense {
                unsafe kernels.table.pointee.add_scaled(
                    denseOutput + token * embeddingLength,
                    denseWeights[token * 2] * multipliers.residual, UInt32(embeddingLength), target)
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
            unsafe multiply(output, rows, normed, from: 0, headTokens, logits, worker)
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
        unsafe multiply(matrix, matrix.unitRange(unit), x, from: 0, tokens, y, worker)
    }

    /// Rows of a resident matrix against `tokens` rows of input from row `first` on.
    private func multiply(
        _ matrix: Matrix, _ rows: Range<Int>, _ x: Activations, from first: Int, _ tokens: Int,
        _ y: UnsafeMutablePointer<Float>, _ worker: Int
    ) {
        let kind = unsafe matrix.path.input
        unsafe matrix.multiply(
            kernels, rows: rows, x: x.row(kind, first), xStride: x.strideBytes(kind),
            tokens: tokens,
            y: y, yStride: matrix.rows, rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    /// One unit of a ready expert's matrix `part` against its pairs, whose inputs begin at `row`,
    /// and what the model adds to the products.
    private func multiplyExpert(
        _ index: Int, _ part: Int, unit: Int, _ x: Activations, _ row: Int,
        _ y: UnsafeMutablePointer<Float>, _ worker: Int
    ) {
        let expert = unsafe readyMatrices + index * 3 + part
        let kind = unsafe expert.pointee.matrix.path.input
        // Units are those of the layer's matrices, which may be a wider version than this one.
        let rows = unsafe expertMatrices[expertLayer * 3 + part].matrix.unitRange(unit)
        let (pairs, stride) = unsafe (ready[index].pairCount, expert.pointee.matrix.rows)
        unsafe expert.pointee.multiply(
            kernels, rows: rows, x: x.row(kind, row), xStride: x.strideBytes(kind), tokens: pairs,
            y: y, yStride: stride, rowBuffer: rowBuffers + worker * rowBufferLength)
        guard let bias = unsafe expertLayers[expertLayer].bias(part) else { return }
        let added = unsafe bias + ready[index].expert * stride + rows.lowerBound
        for pair in 0..<pairs {
            unsafe kernels.table.pointee.add_scaled(
                added, 1, UInt32(rows.count), y + pair * stride + rows.lowerBound)
        }
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
