internal import CKernels

/// Everything a compute thread needs, as plain pointers and numbers: shared by reference with all
/// workers, written by the leader between stages only. Nothing here is reference counted, so a
/// stage retains nothing.
///
/// Shapes are (rows, columns), row-major; T is the tokens of the running chunk, P = T x k the pairs
/// of a token and one of its experts, sorted by expert, R those of the experts that are computed in
/// one round.
@unsafe struct EngineState {
    var kernels: Kernels

    // Model
    var embeddingLength = 0
    var headCount = 0
    var keyValueHeadCount = 0
    /// Elements of a query and a key, and of a value, as attention meets them.
    var headSize = 0
    var valueSize = 0
    /// On queries x keys.
    var attentionScale: Float = 0
    var rotaryPairs = 0
    var rotatesNeighbours = false
    var normEpsilon: Float = 0
    var multipliers = Multipliers()
    var expertCount = 0
    var expertsPerToken = 0
    var expertWidth = 0
    var routing: Routing
    var activation = ExpertActivation.silu
    var attention: AttentionShape
    var contextCapacity = 0
    var layerCount = 0
    var layers: UnsafeMutablePointer<LayerState>
    /// Layers with experts.
    var expertLayerCount = 0
    var expertLayers: UnsafeMutablePointer<ExpertLayerState>
    var tokenEmbedding: Matrix
    var output: Matrix
    /// (vocabulary)
    var outputBias: UnsafePointer<Float>?
    var outputNorm: NormState

    // The running chunk
    var layer = 0
    /// The running layer's number among those with experts, or the next one's.
    var expertLayer = 0
    var tokens = 0
    var ids: UnsafeMutablePointer<Int32>  // (T)
    var positions: UnsafeMutablePointer<Int32>  // (T), each in its own sequence
    var sequences: UnsafeMutablePointer<Int32>  // (T)
    var hidden: UnsafeMutablePointer<Float>  // residual stream (T, embedding)
    var normed: Activations  // (T, embedding)
    var query: UnsafeMutablePointer<Float>  // (T, heads, query stride of the layer)
    var key: UnsafeMutablePointer<Float>  // (T, key-value heads x head size)
    var value: UnsafeMutablePointer<Float>  // (T, key-value heads x value size)
    /// What attention answers: (T, heads, value size); the floats of `mixed` or `latentAnswers`.
    var answers: UnsafeMutablePointer<Float>
    /// What the layer mixed: (T, mixed width of the layer).
    var mixed: Activations
    var projected: UnsafeMutablePointer<Float>  // (T, embedding)
    /// What a mixer with a state makes of the input: see `StateLayout`.
    var mixerRows: UnsafeMutablePointer<Float>  // (T, mixer row width)
    var mixerRowWidth = 0
    var mixerBuffers: UnsafeMutablePointer<Float>  // (workers, mixer buffer length)
    var mixerBufferLength = 0
    /// What routers read, where that is not `normed`: the residual stream as it enters the layer.
    var layerInput: Activations  // (T, embedding)
    /// Whether every token is of another sequence; otherwise positions follow one another.
    var decodes = false
    /// Whether the spans of one token are dealt to several workers, and merged when all are there.
    var splitsSpans = false
    var mergesSpans = false

    // Latent attention
    var queryLatent: Activations  // (T, query rank)
    var headQueries: UnsafeMutablePointer<Float>  // (T, heads, plain + turned size)
    var plainQueries: Activations  // (T, heads, plain size)
    var latentAnswers: Activations  // (T, heads, rank)

    // Routing
    var routerLogits: UnsafeMutablePointer<Float>  // (T, experts)
    var chosen: UnsafeMutablePointer<Int32>  // (T, k)
    var gateWeights: UnsafeMutablePointer<Float>  // (T, k)
    /// Ranks of `chosen` that are computed, from the best on: (T); the others' weights are 0.
    var rankCounts: UnsafeMutablePointer<Int32>
    /// What stands in for the router's choice while a recorded routing is forced.
    var forced: ForcedRouting?
    /// Planes wanted, by choice: (T, k); 0 for a choice that this layer does not compute.
    var widths: UnsafeMutablePointer<UInt8>
    /// Planes wanted, by expert: (experts).
    var expertPlanes: UnsafeMutablePointer<UInt8>
    var pairOfChoice: UnsafeMutablePointer<Int32>  // (T, k); -1 where nothing is computed
    var tokenOfPair: UnsafeMutablePointer<Int32>  // (P)
    var firstPair: UnsafeMutablePointer<Int32>  // (experts + 1)
    /// Experts in use: (experts), or (k) for one token.
    var distinct: UnsafeMutablePointer<Int32>
    var distinctCount = 0
    /// Planes wanted of `distinct`.
    var distinctPlanes: UnsafeMutablePointer<UInt8>
    /// Whether an expert in use is in memory: (experts).
    var isHere: UnsafeMutablePointer<Bool>
    var ready: UnsafeMutablePointer<ReadyExpert>
    var readyCount = 0
    /// Pairs of the ready experts, and the same with an expert of few counted for more.
    var roundRows = 0
    var roundWork = 0
    /// Shapes and formats of every layer's experts, without addresses: (expert layers, 3)
    var expertMatrices: UnsafeMutablePointer<ExpertMatrix>
    /// Gate, up and down matrices of the ready experts: (ready, 3)
    var readyMatrices: UnsafeMutablePointer<ExpertMatrix>

    // Expert arithmetic
    var gathered: Activations  // (R, embedding); unused for one token
    var gateRows: UnsafeMutablePointer<Float>  // (R, expert width)
    var expertHidden: Activations  // (R, expert width); up first, then silu(gate) * up
    var expertOutput: UnsafeMutablePointer<Float>  // (P, embedding)

    // Arithmetic of what every token uses: a dense layer or a shared expert
    /// Most tokens that are computed in one go.
    var denseRows = 0
    /// The running go's first token, and how many there are: S.
    var denseFirst = 0
    var denseTokens = 0
    var denseGate: UnsafeMutablePointer<Float>  // (S, width)
    var denseHidden: Activations  // (S, width); up first, then the activation's result
    var denseOutput: UnsafeMutablePointer<Float>  // (T, embedding)
    /// The weight of each token's output, and its logit: (T, 2).
    var denseWeights: UnsafeMutablePointer<Float>

    // Guesses and deferral
    /// Router logits guessed for the layers after this one: (layers ahead, T, experts).
    var guessedLogits: UnsafeMutablePointer<Float>
    /// How many layers ahead are guessed after this one.
    var guessedLayers = 0
    /// Maps to the next layer's router logits, by layer; nil to apply the routers themselves.
    var learnedGates: UnsafeMutablePointer<Matrix>?
    /// What is added to them: (layers, experts).
    var learnedBias: UnsafePointer<Float>?
    /// Experts to prefetch: (experts).
    var prefetched: UnsafeMutablePointer<Int32>
    /// Input of the layer before, for experts that are computed a layer late: (1, embedding).
    var lateInput: Activations

    // Head
    var logits: UnsafeMutablePointer<Float>  // (head rows, vocabulary)
    var headTokens = 0
    var headFirstToken = 0

    // Workers
    var queue: WorkQueue
    var attentionBuffers: UnsafeMutablePointer<Float>  // (workers, attention.bufferLength)
    var rowBuffers: UnsafeMutablePointer<Float>  // (workers, longest row)
    var rowBufferLength = 0

    /// Partial results by span: for each token in turn (heads, its spans, attention.resultLength).
    var spanResults: UnsafeMutablePointer<Float>

    // Tables
    /// (embedding), where norms take the mean off.
    var ones: UnsafePointer<Float>?
    var cosine: UnsafeMutablePointer<Float>  // (context, rotary pairs)
    var sine: UnsafeMutablePointer<Float>
    var cacheKernels: UnsafePointer<sluice_cache_kernels>
    var keyCache: UnsafeMutableRawPointer
    var valueCache: UnsafeMutableRawPointer
    var keyRowBytes = 0
    var valueRowBytes = 0
    /// Whether values are the first elements of keys, and `valueCache` is `keyCache`.
    var valuesAreKeys = false
    /// Layers that look positions up.
    var attentionLayerCount = 0

    // States
    /// (layers)
    var stateLayers: UnsafeMutablePointer<StateLayer>
    /// (sequences, state length): see `StateLayout`.
    var states: UnsafeMutablePointer<Float>
    var stateLength = 0
}

/// What stays in memory of a layer's experts.
@unsafe struct ExpertLayerState {
    /// Nil where there is one expert, which every token uses.
    var router: Matrix?
    var routerBias: UnsafePointer<Float>?  // (experts)
    /// Added to the probabilities for the choice only: (experts).
    var routerCorrection: UnsafePointer<Float>?
    /// Whether the router reads what enters the layer.
    var routesEarly: Bool
    /// Added to the products of gate, up and down: (experts, rows).
    var gateBias: UnsafePointer<Float>?
    var upBias: UnsafePointer<Float>?
    var downBias: UnsafePointer<Float>?

    /// What is added to the products of gate (0), up (1) or down (2).
    func bias(_ part: Int) -> UnsafePointer<Float>? {
        unsafe part == 0 ? gateBias : part == 1 ? upBias : downBias
    }
}

/// The pairs that a leased expert computes; its matrices are in `readyMatrices`.
struct ReadyExpert {
    var expert: Int
    var firstPair: Int
    var pairCount: Int
    /// Row of the round's buffers where its pairs begin.
    var firstRow: Int
    /// Its index in the streamer's acquired set.
    var setIndex: Int
}

extension EngineState {
    /// The running layer among those with experts, or the next one.
    var nextExpertLayer: ExpertLayerState { unsafe expertLayers[expertLayer] }

    /// Whether inputs of an expert's pairs are copied beside one another: not for one token, nor
    /// where every token uses the one expert.
    var gathers: Bool { unsafe tokens > 1 && expertCount > 1 }

    /// What the running layer's router reads.
    var routerInput: Activations {
        unsafe nextExpertLayer.routesEarly ? layerInput : normed
    }

    /// What the running chunk's current layer did.
    func observation(routerLogits: UnsafePointer<Float>) -> LayerObservation {
        unsafe LayerObservation(
            layer: expertLayer, tokens: tokens, ids: ids, positions: positions,
            sequences: sequences,
            routerLogits: routerLogits,
            input: routerInput.floats, residual: hidden, chosen: chosen, gateWeights: gateWeights,
            rankCounts: rankCounts,
            outputRow: pairOfChoice, expertOutput: expertOutput)
    }
}
