/// Recall by rank of several predictors on the same tokens, layers `ahead` and up: what is
/// predicted for the layers before cannot be known in time.
///
/// - `next-gate`: the later layer's router applied to what this layer's router was given (HOBBIT,
///   arXiv 2411.01433).
/// - `learned`, `path`: see `LearnedPredictor`, `PathPredictor`; the path looks one layer ahead,
///   whatever the others do.
/// - `previous token`: the experts that the token before chose in the same layer, by rank; it has
///   no more than k ranks, and the first token of a sequence none right.
struct RecallMeasurement {
    private let model: ModelFingerprint
    private let ahead: Int
    private let ranks: Int
    private let routers: [[Float]]
    private let learned: LearnedPredictor
    private let path: PathPredictor
    private var history: LayerHistory
    /// Per layer, the experts of the token before.
    private var previous: [[Int32]]
    private(set) var nextGate: RecallTable
    private(set) var byLearned: RecallTable
    private(set) var byPath: RecallTable
    private(set) var byPreviousToken: RecallTable
    private var scores: [Float]
    private var ranking: [Int32] = []

    /// - Parameter routers: Per layer (experts, embedding).
    init(
        model: ModelFingerprint, routers: [[Float]], learned: LearnedPredictor, path: PathPredictor
    ) {
        self.model = model
        self.routers = routers
        self.learned = learned
        self.path = path
        ahead = learned.ahead
        let ranks = min(2 * model.expertsPerToken, model.experts)
        self.ranks = ranks
        func table(_ name: String) -> RecallTable {
            RecallTable(name: name, ranks: ranks, expertsPerToken: model.expertsPerToken)
        }
        nextGate = table("next-gate")
        byLearned = table("learned")
        byPath = table("path")
        byPreviousToken = table("previous token")
        history = LayerHistory(model)
        previous = [[Int32]](repeating: [], count: model.layers)
        scores = [Float](repeating: 0, count: model.experts)
    }

    var tables: [RecallTable] { [nextGate, byLearned, byPath, byPreviousToken] }

    mutating func add(_ sample: RoutingSample) {
        if sample.position == 0 { previous[sample.layer] = [] }
        for token in 0..<sample.tokens { add(token, of: sample) }
        history.add(sample)
    }

    private mutating func add(_ token: Int, of sample: RoutingSample) {
        let (layer, k) = (sample.layer, model.expertsPerToken)
        let chosen = unsafe UnsafeBufferPointer(start: sample.chosen + token * k, count: k)
        defer { previous[layer] = unsafe Array(chosen) }
        guard layer >= ahead else { return }
        unsafe history.inputs[layer - ahead].withUnsafeBufferPointer { inputs in
            let input = unsafe inputs.baseAddress! + token * model.embedding
            unsafe routers[layer].withUnsafeBufferPointer { router in
                for expert in 0..<model.experts {
                    scores[expert] = unsafe LinearMap.product(
                        router.baseAddress! + expert * model.embedding, input, model.embedding)
                }
            }
            ExpertRanking.top(ranks, of: scores, into: &ranking)
            unsafe nextGate.add(predicted: ranking, chosen: chosen)
            unsafe scores.withUnsafeMutableBufferPointer {
                unsafe learned.logits(layer: layer - ahead, input: input, into: $0.baseAddress!)
            }
            ExpertRanking.top(ranks, of: scores, into: &ranking)
            unsafe byLearned.add(predicted: ranking, chosen: chosen)
        }
        unsafe history.choices[layer - 1].withUnsafeBufferPointer { last in
            unsafe history.choices[max(0, layer - 2)].withUnsafeBufferPointer { before in
                unsafe scores.withUnsafeMutableBufferPointer {
                    unsafe path.scores(
                        layer: layer, last: last.baseAddress! + token * k,
                        before: layer > 1 ? before.baseAddress! + token * k : nil, k: k,
                        into: $0.baseAddress!)
                }
            }
        }
        ExpertRanking.top(ranks, of: scores, into: &ranking)
        unsafe byPath.add(predicted: ranking, chosen: chosen)
        unsafe byPreviousToken.add(predicted: previous[layer], chosen: chosen)
    }
}

/// What the layers of the running chunk were given and chose.
struct LayerHistory {
    /// Per layer (T, embedding).
    private(set) var inputs: [[Float]]
    /// Per layer (T, k).
    private(set) var choices: [[Int32]]
    private let model: ModelFingerprint

    init(_ model: ModelFingerprint) {
        self.model = model
        inputs = [[Float]](repeating: [], count: model.layers)
        choices = [[Int32]](repeating: [], count: model.layers)
    }

    mutating func add(_ sample: RoutingSample) {
        inputs[sample.layer] = unsafe Array(
            UnsafeBufferPointer(start: sample.input, count: sample.tokens * model.embedding))
        choices[sample.layer] = unsafe Array(
            UnsafeBufferPointer(
                start: sample.chosen, count: sample.tokens * model.expertsPerToken))
    }
}
