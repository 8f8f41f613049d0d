internal import CKernels
internal import ModelFormats

/// Where every working buffer of an engine lies in its one scratch allocation. Computed before
/// anything is allocated, so that `plan` and the engine agree to the byte.
struct ScratchLayout: Sendable {
    /// The form a row of activations takes, and where its rows begin.
    struct Rows: Sendable {
        var floats = 0
        var a32: Int?
        var a256: Int?
        var hasFloats = true
        var length = 0

        var a32Stride: Int { sluice_a32_bytes(length) }
        var a256Stride: Int { sluice_a256_bytes(length) }
    }

    private(set) var byteCount = 0

    var layers = 0, expertLayers = 0, ids = 0, positions = 0, sequences = 0, hidden = 0, query = 0,
        key = 0,
        value = 0, projected = 0
    var routerLogits = 0, chosen = 0, gateWeights = 0, pairOfChoice = 0, tokenOfPair = 0,
        firstPair = 0
    var rankCounts = 0, widths = 0, expertPlanes = 0, distinctPlanes = 0, isHere = 0,
        guessedLogits = 0,
        prefetched = 0
    var distinct = 0, ready = 0, expertMatrices = 0, readyMatrices = 0, gateRows = 0,
        expertOutput = 0, logits = 0, attentionBuffers = 0, spanResults = 0,
        rowBuffers = 0
    var cosine = 0, sine = 0, queue = 0, ones = 0, headQueries = 0
    var stateLayers = 0, mixerRows = 0, mixerBuffers = 0, mixerKernels = 0, mixerOnes = 0
    var normed = Rows(), mixed = Rows(), gathered = Rows(), expertHidden = Rows()
    var layerInput = Rows(), lateInput = Rows()
    var queryLatent = Rows(), plainQueries = Rows(), latentAnswers = Rows()
    var denseGate = 0, denseOutput = 0, denseWeights = 0
    var denseHidden = Rows()
    let rowBufferLength: Int
    let attention: AttentionShape
    let states: StateLayout
    /// Pairs of a round of experts: it takes no further expert once it has so many.
    let roundPairs: Int
    /// Tokens that a dense layer or a shared expert computes in one go. As many as make little of
    /// bringing its weights from memory again for the next; more would cost scratch, because such
    /// layers are wide.
    let denseRows: Int

    /// Buffers for chunks of `chunk` tokens, `headRows` rows of logits, `context` positions, and
    /// guesses of the experts of one token of each of `sequenceCount` sequences, `layersAhead`.
    init(
        model: ModelDescription, arithmetic: Arithmetic, chunk: Int, headRows: Int, context: Int,
        workers: Int, roundMultiplications: Int, denseTokens: Int, layersAhead: Int = 0,
        sequenceCount: Int = 1
    ) {
        let embedding = model.embeddingLength
        let queryWidth = model.widestQuery
        let keyWidth = model.keyValueHeadCount * model.headSize
        let valueWidth = model.keepsLatents ? 0 : model.keyValueHeadCount * model.valueSize
        // Twice one token's, because a layer may compute experts that the one before deferred.
        let pairs = max(chunk, 2) * model.expertsPerToken
        roundPairs = max(
            1, roundMultiplications / (3 * model.embeddingLength * model.expertWidth))
        // The last expert of a round may be every token's.
        let roundRows = max(
            model.expertsPerToken, min(chunk * model.expertsPerToken, roundPairs - 1 + chunk))
        func kinds(_ formats: [BlockFormat]) -> Set<ActivationKind> {
            Set(formats.map { MatrixPath(format: $0, arithmetic: arithmetic).input })
        }
        let expertParts = (0..<model.expertLayerCount).map { model.expertParts(layer: $0) }
        // What multiplies the normed input; all tensors of the layer that might.
        let resident = model.roles.filter { !$0.role.isWidened }.flatMap(\.tensors)
        let normedKinds = kinds(
            resident.filter { $0.shape[0] == embedding }.map(\.format)
                + expertParts.flatMap { $0.prefix(2).flatMap(\.formats) })
        let gatheredKinds = kinds(expertParts.flatMap { $0.prefix(2).flatMap(\.formats) })
        let mixedKinds = kinds(model.layers.map(\.mixerOutput.format))
        let mixedWidth = model.layers.map(\.mixerOutput.shape[0]).max() ?? 0
        let hiddenKinds = kinds(expertParts.flatMap { $0[2].formats })
        let latent = LatentSizes(model)
        states = StateLayout(model: model)
        let dense = model.layers.compactMap(\.dense)
        let denseWidth = dense.reduce(0) { max($0, $1.width) }
        denseRows = dense.isEmpty ? 0 : min(chunk, denseTokens)
        let routesEarly = model.layers.contains { $0.experts?.routesEarly == true }
        let routerKinds = kinds(model.layers.compactMap { $0.experts?.router?.weight.format })
        rowBufferLength = max(
            resident.map(\.shape[0]).max() ?? 0, mixedWidth, model.expertWidth, denseWidth,
            unsafe EngineState.decodedRows * latent.rank)
        attention = AttentionShape(
            headCount: model.headCount, keyValueHeadCount: model.keyValueHeadCount,
            headSize: model.headSize, valueSize: model.valueSize, context: context)

        layers = unsafe take(model.layerCount * MemoryLayout<LayerState>.stride)
        expertLayers = unsafe take(
            model.expertLayerCount * MemoryLayout<ExpertLayerState>.stride)
        ids = take(chunk * 4)
        positions = take(chunk * 4)
        sequences = take(chunk * 4)
        hidden = take(chunk * embedding * 4)
        normed = rows(chunk, embedding, normedKinds)
        query = take(chunk * queryWidth * 4)
        key = take(chunk * keyWidth * 4)
        value = take(chunk * valueWidth * 4)
        mixed = rows(chunk, mixedWidth, mixedKinds)
        queryLatent = rows(chunk, latent.queryRank, kinds(latent.queryFormats))
        headQueries = take(chunk * latent.queryWidth * 4)
        plainQueries = rows(
            chunk * latent.headCount, latent.plainSize, kinds(latent.transposedKeyFormats))
        latentAnswers = rows(chunk * latent.headCount, latent.rank, kinds(latent.valueFormats))
        projected = take(chunk * embedding * 4)
        routerLogits = take(chunk * model.expertCount * 4)
        chosen = take(pairs * 4)
        gateWeights = take(pairs * 4)
        rankCounts = take(chunk * 4)
        widths = take(pairs)
        expertPlanes = take(model.expertCount)
        pairOfChoice = take(pairs * 4)
        tokenOfPair = take(pairs * 4)
        firstPair = take((model.expertCount + 1) * 4)
        distinct = take(model.expertCount * 4)
        distinctPlanes = take(model.expertCount)
        isHere = take(model.expertCount)
        ready = take(model.expertCount * MemoryLayout<ReadyExpert>.stride)
        expertMatrices = unsafe take(model.expertLayerCount * 3 * MemoryLayout<ExpertMatrix>.stride)
        readyMatrices = unsafe take(model.expertCount * 3 * MemoryLayout<ExpertMatrix>.stride)
        gathered = rows(
            chunk == 1 || model.isDense ? 0 : roundRows, embedding, gatheredKinds,
            hasFloats: gatheredKinds.contains(.float))
        gateRows = take(roundRows * model.expertWidth * 4)
        expertHidden = rows(roundRows, model.expertWidth, hiddenKinds)
        expertOutput = take(pairs * embedding * 4)
        layerInput = rows(routesEarly ? chunk : 0, embedding, routerKinds)
        denseGate = take(denseRows * denseWidth * 4)
        denseHidden = rows(denseRows, denseWidth, kinds(dense.map(\.down.format)))
        denseOutput = take(dense.isEmpty ? 0 : chunk * embedding * 4)
        denseWeights = take(dense.isEmpty ? 0 : chunk * 2 * 4)
        guessedLogits = take(layersAhead * sequenceCount * model.expertCount * 4)
        prefetched = take(model.expertCount * 4)
        lateInput = rows(1, embedding, normedKinds)
        logits = take(headRows * model.vocabularyCount * 4)
        attentionBuffers = take(workers * attention.bufferLength * 4)
        spanResults = take(attention.spanResultCount * attention.resultLength * 4)
        rowBuffers = take(workers * rowBufferLength * 4)
        queue = unsafe take(WorkQueue.byteCount(workers: workers))
        cosine = take(context * (model.rotary.dimensionCount / 2) * 4)
        sine = take(context * (model.rotary.dimensionCount / 2) * 4)
        stateLayers = unsafe take(model.layerCount * MemoryLayout<StateLayer>.stride)
        mixerRows = take(chunk * states.rowWidth * 4)
        mixerBuffers = take(workers * states.bufferLength * 4)
        mixerKernels = take(states.kernelLength * 4)
        mixerOnes = take(states.onesLength * 4)
        ones = take(model.normKind == .layer ? embedding * 4 : 0)
    }

    /// Sections start on cache lines of their own, so that threads writing neighbours do not meet.
    private mutating func take(_ bytes: Int) -> Int {
        let offset = byteCount
        byteCount += (bytes + 127) / 128 * 128
        return offset
    }

    private mutating func rows(
        _ count: Int, _ length: Int, _ kinds: Set<ActivationKind>, hasFloats: Bool = true
    ) -> Rows {
        var rows = Rows(hasFloats: hasFloats, length: length)
        if hasFloats { rows.floats = take(count * length * 4) }
        if kinds.contains(.a32) { rows.a32 = take(count * sluice_a32_bytes(length)) }
        if kinds.contains(.a256) { rows.a256 = take(count * sluice_a256_bytes(length)) }
        return rows
    }
}

/// What buffers of latent attention depend on; nothing in models without it.
private struct LatentSizes {
    var headCount = 0, rank = 0, queryRank = 0, plainSize = 0
    /// Elements of the queries of all heads, before they are brought into the latent space.
    var queryWidth = 0
    /// Formats of the matrices that queries come from where they have latents, that bring queries
    /// into the latent space as they are, and that bring answers back.
    var queryFormats: [BlockFormat] = []
    var transposedKeyFormats: [BlockFormat] = []
    var valueFormats: [BlockFormat] = []

    init(_ model: ModelDescription) {
        for layer in model.layers {
            guard case .latent(let latent) = layer.mixer else { continue }
            headCount = model.headCount
            rank = max(rank, latent.rank)
            queryWidth = max(
                queryWidth, model.headCount * (latent.plainSize + latent.turnedSize))
            if latent.queryDown != nil {
                queryRank = latent.query.shape[0]
                queryFormats.append(latent.query.format)
            }
            switch latent.keyValueUp {
            case .split(let key, let value):
                plainSize = latent.plainSize
                transposedKeyFormats.append(key.format)
                valueFormats.append(value.format)
            case .joined(let both): valueFormats.append(both.format)
            }
        }
    }
}

extension ModelDescription {
    /// Floats that attention takes of a token in the layer where they are most: queries of all heads,
    /// with their gates.
    fileprivate var widestQuery: Int {
        let isGated = layers.contains {
            guard case .attention(let attention) = $0.mixer else { return false }
            return attention.isGated
        }
        return headCount * headSize * (isGated ? 2 : 1)
    }
}
