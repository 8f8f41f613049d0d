/// The guesses of a step's experts, by layer, and how they turned out.
///
/// Scores are written into `scores`; `rank` keeps the best, `check` compares them with what the
/// router chose when it comes to that layer. Allocates nothing after `init`.
struct ExpertPrediction {
    let layersAhead: Int
    /// Guesses kept of each layer: at least k, for the figures.
    let ranks: Int
    /// Guesses of each layer that are read; 0 for none.
    let prefetchRanks: Int
    private(set) var statistics: PredictionStatistics

    /// (experts): what the next `rank` sorts.
    var scores: [Float]

    private let layerCount: Int
    private let expertCount: Int
    private let tokenCount: Int
    /// (layers, layers ahead, tokens, ranks): experts, likeliest first.
    private var guesses: [Int32]
    /// (layers, layers ahead): tokens with guesses.
    private var guessedTokens: [Int]
    /// (layers, tokens, k): what the router chose in this step.
    private var history: [Int32]
    private let expertsPerToken: Int
    /// (experts)
    private var isTaken: [Bool]

    /// - Parameter tokenCount: most tokens of one step.
    init(
        predictor: Predictor, prefetchRanks: Int, layerCount: Int, expertCount: Int,
        expertsPerToken: Int, tokenCount: Int = 1
    ) {
        layersAhead = predictor.layersAhead
        self.prefetchRanks = min(prefetchRanks, expertCount)
        ranks = min(max(expertsPerToken, prefetchRanks), expertCount)
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.tokenCount = tokenCount
        statistics = PredictionStatistics(layersAhead: layersAhead, ranks: ranks)
        scores = Array(repeating: 0, count: expertCount)
        guesses = Array(repeating: -1, count: layerCount * layersAhead * tokenCount * ranks)
        guessedTokens = Array(repeating: 0, count: layerCount * layersAhead)
        self.expertsPerToken = expertsPerToken
        history = Array(repeating: 0, count: layerCount * tokenCount * expertsPerToken)
        isTaken = Array(repeating: false, count: expertCount)
    }

    /// Layers after `layer` that there are guesses for.
    func reach(after layer: Int) -> Int { min(layersAhead, layerCount - 1 - layer) }

    /// Forgets all guesses: a new step begins.
    mutating func begin() {
        for index in guessedTokens.indices { guessedTokens[index] = 0 }
    }

    /// Keeps the experts with the highest scores as the guess for a token's choice in `layer`, made
    /// `ahead` layers before; ties to the lower index.
    mutating func rank(layer: Int, ahead: Int, token: Int = 0) {
        let first = place(layer, ahead, token)
        for expert in 0..<expertCount { isTaken[expert] = false }
        for rank in 0..<ranks {
            var best = -1
            for expert in 0..<expertCount where !isTaken[expert] {
                if best < 0 || scores[expert] > scores[best] { best = expert }
            }
            isTaken[best] = true
            guesses[first + rank] = Int32(best)
        }
        guessedTokens[layer * layersAhead + ahead - 1] = token + 1
    }

    /// The guess of `rank` for a token's choice in `layer`, made `ahead` layers before.
    func guess(layer: Int, ahead: Int, token: Int = 0, rank: Int) -> Int32 {
        guesses[place(layer, ahead, token) + rank]
    }

    /// Scores the experts after `layer` by the router's choices there and in the layer before.
    mutating func score(after layer: Int, token: Int = 0, by paths: ExpertPaths) {
        let base = (layer + 1) * expertCount
        for expert in 0..<expertCount { scores[expert] = paths.base[base + expert] }
        let last = (layer * tokenCount + token) * expertsPerToken
        let beforeLast = last - tokenCount * expertsPerToken
        for rank in 0..<expertsPerToken {
            // Pairs without entries, or all of them where there is no layer before.
            var unknown = layer > 0 ? 0 : 1
            for earlier in 0..<(layer > 0 ? expertsPerToken : 0) {
                let row = paths.row(
                    layer: layer + 1, last: history[last + rank],
                    beforeLast: history[beforeLast + earlier])
                if !paths.add(row: row, to: &scores) { unknown += 1 }
            }
            guard unknown > 0 else { continue }
            let any = paths.row(layer: layer + 1, last: history[last + rank], beforeLast: nil)
            _ = paths.add(row: any, times: Float(unknown), to: &scores)
        }
    }

    /// Scores the experts of `layer` by what a forced routing will choose there, in its order of
    /// rank; each of them is put last, and another put in its place, with probability 1 - `recall`.
    /// The rest is in no particular order. The same for the same recorded token, layer and rank.
    mutating func score(layer: Int, token: Int = 0, by routing: ForcedRouting, recall: Double) {
        let seed = unsafe UInt64(routing.recordedToken(token) * layerCount + layer)
        for expert in 0..<expertCount {
            scores[expert] = Float(Self.share(seed, UInt64(expert)))
            isTaken[expert] = false
        }
        for rank in 0..<expertsPerToken {
            let expert = unsafe routing.expert(token: token, layer: layer, rank: rank)
            scores[expert] = -1
            isTaken[expert] = true
        }
        for rank in 0..<expertsPerToken {
            let draw = UInt64(expertCount + 2 * rank)
            var guess = unsafe routing.expert(token: token, layer: layer, rank: rank)
            if Self.share(seed, draw) >= recall {
                guess = Int(Self.share(seed, draw + 1) * Double(expertCount))
                var tries = 1
                while isTaken[guess], tries < expertCount {
                    guess = (guess + 1) % expertCount
                    tries += 1
                }
                // None is left where a token uses nearly all experts.
                if isTaken[guess] { continue }
                isTaken[guess] = true
            }
            scores[guess] = Float(1 + expertsPerToken - rank)
        }
    }

    /// A number from 0 to below 1 that two others decide (SplitMix64's mixing function).
    private static func share(_ seed: UInt64, _ draw: UInt64) -> Double {
        var bits = (seed << 20 &+ draw &+ 1) &* 0x9E37_79B9_7F4A_7C15
        bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
        return Double((bits ^ bits >> 31) >> 11) * 0x1p-53
    }

    /// Compares what was guessed for `layer` with the router's choice, and remembers that.
    ///
    /// - Parameters:
    ///   - chosen: (k): the token's experts by rank.
    ///   - computed: how many of them are computed; nil for all.
    mutating func check(
        layer: Int, token: Int = 0, chosen: UnsafeBufferPointer<Int32>, computed: Int? = nil
    ) {
        let needed = unsafe UnsafeBufferPointer(
            start: chosen.baseAddress, count: computed ?? chosen.count)
        let place = (layer * tokenCount + token) * expertsPerToken
        for rank in chosen.indices { history[place + rank] = unsafe chosen[rank] }
        for ahead in 0..<layersAhead where guessedTokens[layer * layersAhead + ahead] > token {
            statistics.add(ahead: ahead + 1)
            let first = self.place(layer, ahead + 1, token)
            for rank in 0..<ranks where unsafe needed.contains(guesses[first + rank]) {
                statistics.add(right: rank, ahead: ahead + 1)
            }
        }
    }

    private func place(_ layer: Int, _ ahead: Int, _ token: Int) -> Int {
        ((layer * layersAhead + ahead - 1) * tokenCount + token) * ranks
    }
}
