public import Inference

/// What the experts of a model did over a text: sums, from which patterns and scores are made.
///
/// Arrays are (layers, experts), row-major.
public struct ExpertTally: Sendable {
    public let layers: Int
    public let experts: Int
    /// Tokens seen.
    public private(set) var tokens = 0
    /// How often each expert was chosen.
    public private(set) var activations: [UInt64]
    /// Sum of the gate weights with which its outputs were added.
    public private(set) var gateMass: [Double]
    /// Sum of the router's raw logit over the tokens that chose it.
    public private(set) var chosenLogits: [Double]
    /// Sum over the tokens t that chose it of
    /// g(t) * ||E(x(t))||_2 * max(1 - cos(h(t), h(t) + y(t)), 0): EASY-EP (arXiv 2504.06792). h is
    /// the residual stream before the experts' sum y is added to it, g the final gate weight.
    public private(set) var saliency: [Double]
    /// Greatest magnitude among the elements its down matrix put out.
    public private(set) var largestOutputs: [Float]

    private let expertsPerToken: Int
    private let embedding: Int
    /// (embedding) The sum of a token's experts.
    private var sum: [Double]
    /// (k) Norm of each expert's output.
    private var norms: [Double]

    public init(_ model: ModelFingerprint) {
        layers = model.layers
        experts = model.experts
        expertsPerToken = model.expertsPerToken
        embedding = model.embedding
        activations = [UInt64](repeating: 0, count: layers * experts)
        gateMass = [Double](repeating: 0, count: layers * experts)
        chosenLogits = gateMass
        saliency = gateMass
        largestOutputs = [Float](repeating: 0, count: layers * experts)
        sum = [Double](repeating: 0, count: embedding)
        norms = [Double](repeating: 0, count: expertsPerToken)
    }

    /// Adds one layer of a chunk. Every layer of a chunk is to be added once.
    public mutating func add(_ observation: LayerObservation) {
        if observation.layer == 0 { tokens += observation.tokens }
        for token in 0..<observation.tokens { add(token, of: observation) }
    }

    private mutating func add(_ token: Int, of observation: LayerObservation) {
        let first = observation.layer * experts
        let choices = token * expertsPerToken
        let count = unsafe Int(observation.rankCounts[token])
        for index in sum.indices { sum[index] = 0 }
        for rank in 0..<count {
            let place = unsafe first + Int(observation.chosen[choices + rank])
            let gate = unsafe Double(observation.gateWeights[choices + rank])
            let output =
                unsafe observation.expertOutput
                + Int(observation.outputRow[choices + rank]) * embedding
            var squares = 0.0
            var largest = largestOutputs[place]
            for index in 0..<embedding {
                let value = unsafe output[index]
                largest = max(largest, value.magnitude)
                squares += Double(value) * Double(value)
                sum[index] += gate * Double(value)
            }
            largestOutputs[place] = largest
            norms[rank] = gate * squares.squareRoot()
            activations[place] += 1
            gateMass[place] += gate
            chosenLogits[place] += unsafe Double(
                observation.routerLogits[token * experts + place - first])
        }
        let change = unsafe 1 - cosine(observation.residual + token * embedding)
        for rank in 0..<count {
            let place = unsafe first + Int(observation.chosen[choices + rank])
            saliency[place] += norms[rank] * max(change, 0)
        }
    }

    /// cos(h, h + y), with the floor under both norms that PyTorch's cosine similarity has.
    private func cosine(_ residual: UnsafePointer<Float>) -> Double {
        var (product, before, after) = (0.0, 0.0, 0.0)
        for index in 0..<embedding {
            let value = unsafe Double(residual[index])
            product += value * (value + sum[index])
            before += value * value
            after += (value + sum[index]) * (value + sum[index])
        }
        return product / (max(before.squareRoot(), 1e-8) * max(after.squareRoot(), 1e-8))
    }

    /// Names the first figure that is not finite: a damaged model computes such.
    func requireFinite() throws(ProfilingError) {
        for place in 0..<(layers * experts) {
            // A NaN among the outputs is in the saliency too, through their norm.
            let figures = [
                Float(gateMass[place]), Float(chosenLogits[place]), Float(saliency[place]),
                largestOutputs[place],
            ]
            if figures.contains(where: { !$0.isFinite }) {
                throw ProfilingError(
                    "layer \(place / experts), expert \(place % experts): its output or the router's is not "
                        + "finite on this text; the model's weights are damaged")
            }
        }
    }
}
