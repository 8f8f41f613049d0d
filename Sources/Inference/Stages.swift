internal import CKernels
internal import Quantization

/// The stages of a token, in order. Between two stages all workers meet; inside one, each worker
/// does its static share of rows, tokens or heads. One line in `Engine.forward` runs one stage.
enum Stage: UInt32 {
    case embed
    case attentionInput
    case projections
    case rotate
    case attention
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

    /// Whether shares are whole tokens: for one token the leader then runs it alone, without a
    /// meeting.
    var dealsTokens: Bool {
        switch self {
        case .embed, .attentionInput, .rotate, .attentionOutputInput, .expertInput, .choose,
            .combine,
            .headInput:
            true
        default: false
        }
    }

    /// The entry point of every worker; see `ThreadPool.Share`.
    static let run: ThreadPool.Share = { raw, stage, worker, workers in
        let state = unsafe raw.assumingMemoryBound(to: EngineState.self)
        unsafe Stage(rawValue: stage)!.run(state, Int(worker), Int(workers))
    }

    private func run(_ state: UnsafeMutablePointer<EngineState>, _ worker: Int, _ workers: Int) {
        func share(_ count: Int) -> Range<Int> { part(count, worker, workers) }
        switch self {
        case .embed: unsafe state.pointee.embed(tokens: share(state.pointee.tokens))
        case .attentionInput:
            unsafe state.pointee.attentionInput(tokens: share(state.pointee.tokens))
        case .projections: unsafe state.pointee.projections(worker, workers)
        case .rotate: unsafe state.pointee.rotate(tokens: share(state.pointee.tokens))
        case .attention:
            unsafe state.pointee.attend(
                tasks: share(state.pointee.tokens * state.pointee.headCount), worker)
        case .attentionOutputInput:
            unsafe state.pointee.quantiseMixed(tokens: share(state.pointee.tokens))
        case .attentionOutput: unsafe state.pointee.attentionOutput(worker, workers)
        case .expertInput: unsafe state.pointee.expertInput(tokens: share(state.pointee.tokens))
        case .router: unsafe state.pointee.router(worker, workers)
        case .choose: unsafe state.pointee.choose(tokens: share(state.pointee.tokens))
        case .guess: unsafe state.pointee.guess(worker, workers)
        case .gather: unsafe state.pointee.gather(worker, workers)
        case .gateUp: unsafe state.pointee.gateUp(worker, workers)
        case .activate: unsafe state.pointee.activate(worker, workers)
        case .down: unsafe state.pointee.down(worker, workers)
        case .combine: unsafe state.pointee.combine(tokens: share(state.pointee.tokens))
        case .headInput: unsafe state.pointee.headInput(tokens: share(state.pointee.headTokens))
        case .head: unsafe state.pointee.head(worker, workers)
        }
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
        }
    }

    func attentionInput(tokens: Range<Int>) {
        unsafe norm(tokens, hidden, layers[layer].attentionNorm, into: normed)
    }

    func projections(_ worker: Int, _ workers: Int) {
        unsafe multiply(layers[layer].query, normed, query, worker, workers)
        unsafe multiply(layers[layer].key, normed, key, worker, workers)
        unsafe multiply(layers[layer].value, normed, value, worker, workers)
    }

    func quantiseMixed(tokens: Range<Int>) {
        for token in tokens { unsafe mixed.quantise(token, kernels.table) }
    }

    func attentionOutput(_ worker: Int, _ workers: Int) {
        unsafe multiply(layers[layer].attentionOutput, mixed, projected, worker, workers)
    }

    /// Adds attention's result to the residual stream and norms it for the experts.
    func expertInput(tokens: Range<Int>) {
        for token in tokens {
            let place = unsafe token * embeddingLength
            unsafe kernels.table.pointee.add_scaled(
                projected + place, 1, UInt32(embeddingLength), hidden + place)
        }
        unsafe norm(tokens, hidden, layers[layer].expertNorm, into: normed)
    }

    func router(_ worker: Int, _ workers: Int) {
        unsafe multiply(layers[layer].router, normed, routerLogits, worker, workers)
    }

    /// Softmax over all experts, then the k largest in descending order, ties to the lower index.
    func choose(tokens: Range<Int>) {
        if let forced = unsafe forced {
            for token in tokens {
                let place = unsafe token * expertsPerToken
                // As below: policies read the probabilities of experts that were not chosen.
                _ = unsafe kernels.table.pointee.softmax_exp(
                    routerLogits + token * expertCount, UInt32(expertCount))
                unsafe forced.copy(
                    token: token, layer: layer, experts: chosen + place,
                    weights: gateWeights + place)
            }
            return
        }
        for token in tokens {
            let logits = unsafe routerLogits + token * expertCount
            let picks = unsafe chosen + token * expertsPerToken
            let gates = unsafe gateWeights + token * expertsPerToken
            let sum = unsafe kernels.table.pointee.softmax_exp(logits, UInt32(expertCount))
            var total: Float = 0
            for rank in unsafe 0..<expertsPerToken {
                // Starts at the first expert not yet taken, so that NaN logits still choose k
                // experts.
                var best = -1
                for expert in unsafe 0..<expertCount {
                    if unsafe taken(expert, picks, rank) { continue }
                    if unsafe best < 0 || logits[expert] > logits[best] { best = expert }
                }
                unsafe picks[rank] = Int32(best)
                unsafe gates[rank] = logits[best] / sum
                unsafe total += gates[rank]
            }
            if unsafe normalisesGateWeights {
                for rank in unsafe 0..<expertsPerToken { unsafe gates[rank] /= total }
            }
        }
    }

    /// Router logits of the next layers, as this layer's router input foretells them: all layers'
    /// rows in one stage.
    func guess(_ worker: Int, _ workers: Int) {
        for ahead in unsafe 0..<guessedLayers {
            let matrix =
                if let learnedGates = unsafe learnedGates {
                    unsafe learnedGates[layer]
                } else {
                    unsafe layers[layer + 1 + ahead].router
                }
            unsafe multiply(
                matrix, normed, guessedLogits + ahead * tokens * expertCount, worker, workers)
        }
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
    func gateUp(_ worker: Int, _ workers: Int) {
        let rows = unsafe part(expertWidth, worker, workers)
        for index in unsafe 0..<readyCount {
            let expert = unsafe ready[index]
            let input = unsafe tokens == 1 ? normed : gathered
            let inputRow = unsafe tokens == 1 ? 0 : expert.firstRow
            let place = unsafe expert.firstRow * expertWidth
            unsafe multiplyExpert(
                readyMatrices + index * 3, rows, input, inputRow, expert.pairCount,
                gateRows + place, worker)
            unsafe multiplyExpert(
                readyMatrices + index * 3 + 1, rows, input, inputRow, expert.pairCount,
                expertHidden.floats + place, worker)
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
    func down(_ worker: Int, _ workers: Int) {
        let rows = unsafe part(embeddingLength, worker, workers)
        for index in unsafe 0..<readyCount {
            let expert = unsafe ready[index]
            unsafe multiplyExpert(
                readyMatrices + index * 3 + 2, rows, expertHidden, expert.firstRow,
                expert.pairCount,
                expertOutput + expert.firstPair * embeddingLength, worker)
        }
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
        for token in tokens {
            let source = unsafe hidden + (headFirstToken + token) * embeddingLength
            unsafe kernels.table.pointee.rms_norm(
                source, outputNorm, UInt32(embeddingLength), normEpsilon,
                normed.floats + token * embeddingLength)
            unsafe normed.quantise(token, kernels.table)
        }
    }

    func head(_ worker: Int, _ workers: Int) {
        let kind = unsafe output.path.input
        unsafe output.multiply(
            kernels, rows: part(output.rows, worker, workers), x: normed.row(kind, 0),
            xStride: normed.strideBytes(kind), tokens: headTokens, y: logits, yStride: output.rows,
            rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    // Parts of stages

    private func norm(
        _ tokens: Range<Int>, _ x: UnsafeMutablePointer<Float>, _ weight: UnsafePointer<Float>,
        into target: Activations
    ) {
        for token in tokens {
            unsafe kernels.table.pointee.rms_norm(
                x + token * embeddingLength, weight, UInt32(embeddingLength), normEpsilon,
                target.floats + token * embeddingLength)
            unsafe target.quantise(token, kernels.table)
        }
    }

    private func multiply(
        _ matrix: Matrix, _ x: Activations, _ y: UnsafeMutablePointer<Float>, _ worker: Int,
        _ workers: Int
    ) {
        let kind = unsafe matrix.path.input
        unsafe matrix.multiply(
            kernels, rows: part(matrix.rows, worker, workers), x: x.row(kind, 0),
            xStride: x.strideBytes(kind), tokens: tokens, y: y, yStride: matrix.rows,
            rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    private func multiplyExpert(
        _ expert: UnsafePointer<ExpertMatrix>, _ rows: Range<Int>, _ x: Activations, _ row: Int,
        _ tokens: Int, _ y: UnsafeMutablePointer<Float>, _ worker: Int
    ) {
        let kind = unsafe expert.pointee.matrix.path.input
        unsafe expert.pointee.multiply(
            kernels, rows: rows, x: x.row(kind, row), xStride: x.strideBytes(kind), tokens: tokens,
            y: y, yStride: expert.pointee.matrix.rows,
            rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    private func taken(_ expert: Int, _ picks: UnsafeMutablePointer<Int32>, _ rank: Int) -> Bool {
        for earlier in 0..<rank where unsafe picks[earlier] == Int32(expert) { return true }
        return false
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
