/// Trains predictors on a text and measures them on another.
///
/// Of the training text every fifth sequence decides the penalty of the ridge regressions: the one
/// with the best recall at k there, layer by layer. The maps are then fitted to all of it.
public struct PredictorTraining: Sendable {
    /// Layers between what a map is given and what it predicts, 1 or 2.
    public var ahead = 1
    /// Memory for the sums of the regressions. Where they do not fit together, the text is run
    /// several times.
    public var memoryBytes = 1 << 30
    /// Penalties tried, as shares of the mean square of the inputs' sums.
    public var penalties = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    /// Path table: successors per key (nil takes twice the experts per token), pairs per layer, and
    /// how often a pair must have been seen.
    public var pathWidth: Int?
    public var pathPairsPerLayer = 16_384
    public var pathLeastCount = 4

    public init() {}

    /// What training came to.
    public struct Result: Sendable {
        public let learned: LearnedPredictor
        public let path: PathPredictor
        public let fits: [Fit]
        public let trainingTokens: Int
    }

    /// How one layer's map was fitted.
    public struct Fit: Sendable, Equatable {
        /// The layer whose router's input is used.
        public let layer: Int
        /// The penalty chosen, as a share of the mean square.
        public let penalty: Double
        /// Recall at k on the sequences kept apart.
        public let recall: Double
    }

    /// Trains on `source`.
    ///
    /// - Parameter progress: Called with the share done, 0 ... 1.
    /// - Throws: `ProfilingError` where the text is too short or the model's figures are not
    ///   finite, and what the source throws.
    public func train<Source: RoutingSource & ~Copyable>(
        on source: inout Source, progress: @escaping (Double) -> Void = { _ in }
    ) throws -> Result {
        let model = source.model
        guard model.layers > ahead else {
            throw ProfilingError(
                "the model has \(model.layers) layers; looking \(ahead) ahead needs \(ahead + 1)")
        }
        guard model.experts <= 4096 else {
            throw ProfilingError(
                "\(model.experts) experts per layer are too many to count pairs of; at most 4096 are supported"
            )
        }
        guard source.sequenceCount >= PredictorTraining.validationStride else {
            throw ProfilingError(
                "\(source.sequenceCount) sequences are too few to train on: every fifth decides the penalty; "
                    + "give more text, or a smaller --ctx")
        }
        let maps = model.layers - ahead
        let bytes = NormalEquations.byteCount(inputs: model.embedding, outputs: model.experts)
        let perPass = min(maps, max(1, memoryBytes / bytes))
        let passes = (maps + perPass - 1) / perPass
        let sequences = Double(source.sequenceCount)
        let mapFloats = model.experts * model.embedding
        var weights: [Float] = []
        var bias: [Float] = []
        weights.reserveCapacity(maps * mapFloats)
        var fits: [Fit] = []
        var paths = RecordedPaths(model)
        for pass in 0..<passes {
            let layers = (pass * perPass)..<min(maps, (pass + 1) * perPass)
            var sums = RegressionSums(model, layers: layers, ahead: ahead)
            try source.forEachSample { sample in
                if pass == 0 { paths.add(sample) }
                sums.add(sample)
                if sample.layer == 0 {
                    progress(
                        (Double(pass) + Double(sample.sequence) / sequences) / Double(passes))
                }
            }
            for layer in layers {
                let (fit, solution) = try sums.fit(layer, penalties: penalties)
                fits.append(fit)
                weights += solution.weights.map { Float($0) }
                bias += solution.bias.map { Float($0) }
            }
        }
        progress(1)
        let width = min(model.experts, pathWidth ?? 2 * model.expertsPerToken)
        return Result(
            learned: LearnedPredictor(
                layers: model.layers, experts: model.experts, embedding: model.embedding,
                ahead: ahead, weights: weights, bias: bias),
            path: paths.predictor(
                width: width, pairsPerLayer: pathPairsPerLayer, leastCount: pathLeastCount),
            fits: fits, trainingTokens: paths.tokens)
    }

    /// Recall by rank on `source`, which should be no training text: next-gate, learned, path,
    /// previous token.
    ///
    /// - Parameter routers: Per layer (experts, embedding); see `TextRouting.routers()`.
    public static func recall<Source: RoutingSource & ~Copyable>(
        of result: Result, routers: [[Float]], on source: inout Source
    ) throws -> [RecallTable] {
        var measurement = RecallMeasurement(
            model: source.model, routers: routers, learned: result.learned, path: result.path)
        try source.forEachSample { measurement.add($0) }
        return measurement.tables
    }

    fileprivate static let validationStride = 5
}

/// The sums of several layers' regressions, and the samples kept apart to choose a penalty.
private struct RegressionSums {
    private let model: ModelFingerprint
    private let layers: Range<Int>
    private let ahead: Int
    private var history: LayerHistory
    private var sums: [NormalEquations]
    private var apart: [Apart]

    /// Samples of a layer that are not in its sums.
    private struct Apart {
        var inputs: [Float] = []
        var logits: [Float] = []
        var choices: [Int32] = []
        var count = 0
    }

    /// Samples kept apart per layer; more are dropped, to bound memory.
    private static let apartLimit = 1024

    init(_ model: ModelFingerprint, layers: Range<Int>, ahead: Int) {
        self.model = model
        self.layers = layers
        self.ahead = ahead
        history = LayerHistory(model)
        sums = layers.map { _ in
            NormalEquations(inputs: model.embedding, outputs: model.experts)
        }
        apart = layers.map { _ in Apart() }
    }

    mutating func add(_ sample: RoutingSample) {
        let layer = sample.layer - ahead
        if layers.contains(layer) {
            let index = layer - layers.lowerBound
            if sample.sequence % PredictorTraining.validationStride
                == PredictorTraining.validationStride - 1
            {
                keepApart(sample, index)
            } else {
                unsafe history.inputs[layer].withUnsafeBufferPointer {
                    unsafe sums[index].add(
                        x: $0.baseAddress!, y: sample.routerLogits, samples: sample.tokens)
                }
            }
        }
        if layers.contains(sample.layer) { history.add(sample) }
    }

    private mutating func keepApart(_ sample: RoutingSample, _ index: Int) {
        let count = min(sample.tokens, RegressionSums.apartLimit - apart[index].count)
        guard count > 0 else { return }
        apart[index].inputs += history.inputs[sample.layer - ahead]
            .prefix(count * model.embedding)
        unsafe apart[index].logits += UnsafeBufferPointer(
            start: sample.routerLogits, count: count * model.experts)
        unsafe apart[index].choices += UnsafeBufferPointer(
            start: sample.chosen, count: count * model.expertsPerToken)
        apart[index].count += count
    }

    /// Chooses the penalty on the samples kept apart, then fits to all.
    func fit(
        _ layer: Int, penalties: [Double]
    ) throws(ProfilingError) -> (
        fit: PredictorTraining.Fit, solution: (weights: [Double], bias: [Double])
    ) {
        var equations = sums[layer - layers.lowerBound]
        let apart = apart[layer - layers.lowerBound]
        var best: PredictorTraining.Fit?
        for penalty in penalties {
            guard let solution = equations.solve(penalty: penalty * equations.scale) else {
                continue
            }
            let recall = recall(solution, apart)
            if best == nil || recall > best!.recall {
                best = PredictorTraining.Fit(layer: layer, penalty: penalty, recall: recall)
            }
        }
        unsafe apart.inputs.withUnsafeBufferPointer { x in
            unsafe apart.logits.withUnsafeBufferPointer { y in
                if let x = x.baseAddress, let y = y.baseAddress {
                    unsafe equations.add(x: x, y: y, samples: apart.count)
                }
            }
        }
        guard let best, let solution = equations.solve(penalty: best.penalty * equations.scale)
        else {
            throw ProfilingError(
                "layer \(layer): no map can be fitted; what its router is given is all zero or not finite"
            )
        }
        return (best, solution)
    }

    private func recall(
        _ solution: (weights: [Double], bias: [Double]), _ apart: Apart
    ) -> Double {
        let map = LearnedPredictor(
            layers: 2, experts: model.experts, embedding: model.embedding, ahead: 1,
            weights: solution.weights.map { Float($0) }, bias: solution.bias.map { Float($0) })
        let k = model.expertsPerToken
        var table = RecallTable(name: "", ranks: k, expertsPerToken: k)
        var scores = [Float](repeating: 0, count: model.experts)
        var ranking: [Int32] = []
        for sample in 0..<apart.count {
            unsafe apart.inputs.withUnsafeBufferPointer { inputs in
                unsafe scores.withUnsafeMutableBufferPointer {
                    unsafe map.logits(
                        layer: 0, input: inputs.baseAddress! + sample * model.embedding,
                        into: $0.baseAddress!)
                }
            }
            ExpertRanking.top(k, of: scores, into: &ranking)
            unsafe apart.choices.withUnsafeBufferPointer { choices in
                unsafe table.add(
                    predicted: ranking,
                    chosen: UnsafeBufferPointer(
                        rebasing: choices[(sample * k)..<((sample + 1) * k)]))
            }
        }
        return table.recall(at: k)
    }
}
