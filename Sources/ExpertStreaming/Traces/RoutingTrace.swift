/// What a trace says of the model it was recorded from.
public struct TraceShape: Sendable, Equatable {
    /// The model's name; empty where nobody said.
    public var model = ""
    public var architecture = ""
    /// Layers that have experts.
    public var layerCount: Int
    public var expertsPerLayer: Int
    /// Experts that compute for one token in one layer: top-k.
    public var expertsPerToken: Int
    /// Bytes of one expert by layer, and by plane where experts are cut into planes; empty where the
    /// trace does not say.
    public var planeBytes: [[Int]] = []

    public init(layerCount: Int, expertsPerLayer: Int, expertsPerToken: Int) {
        self.layerCount = layerCount
        self.expertsPerLayer = expertsPerLayer
        self.expertsPerToken = expertsPerToken
    }

    /// Bytes of one expert by layer, all planes together; nil where the trace does not say.
    public var expertBytes: [Int]? {
        planeBytes.isEmpty ? nil : planeBytes.map { $0.reduce(0, +) }
    }

    /// Planes per expert; 1 where experts are not cut, or the trace does not say.
    var planeCount: Int { planeBytes.first?.count ?? 1 }

    /// What is wrong with the figures, if anything; names the field.
    var problem: String? {
        if layerCount < 1 || layerCount > 1 << 16 { return "layers: \(layerCount)" }
        if expertsPerLayer < 1 || expertsPerLayer >= Int(RoutingTrace.absent) {
            return "experts: \(expertsPerLayer)"
        }
        if layerCount * expertsPerLayer > 1 << 24 {
            return "experts: \(expertsPerLayer) in each of \(layerCount) layers"
        }
        if expertsPerToken < 1 || expertsPerToken > min(expertsPerLayer, 1024) {
            return "experts per token: \(expertsPerToken) of \(expertsPerLayer)"
        }
        guard !planeBytes.isEmpty else { return nil }
        guard planeBytes.count == layerCount, (1...4).contains(planeCount) else {
            return "bytes per expert: \(planeBytes.count) layers of \(planeCount) planes"
        }
        for (layer, planes) in planeBytes.enumerated() {
            let fits = planes.allSatisfy { (0...ExpertLayout.largestExpertBytes).contains($0) }
            if planes.count != planeCount || !fits || planes.allSatisfy({ $0 == 0 }) {
                return "bytes per expert of layer \(layer): \(planes)"
            }
        }
        return nil
    }
}

/// Which experts a model's routers chose, token by token: what decides how well any cache does.
public struct RoutingTrace: Sendable {

    /// How a token was computed.
    public enum Phase: UInt8, Sendable {
        /// With others of a prompt, expert by expert.
        case prefill = 0
        /// Alone.
        case decode = 1
    }

    /// Stands where a layer's choice was not recorded.
    public static let absent = UInt16.max

    /// Largest trace held in memory, in choices (tokens x layers x k): 3 GiB with weights.
    static let largestChoiceCount = 1 << 29

    public private(set) var shape: TraceShape
    /// A token whose number differs from that of the one before begins a sequence.
    public private(set) var sequences: [UInt32] = []
    public private(set) var phases: [Phase] = []
    /// The model's ids; -1 where not recorded.
    public private(set) var tokenIDs: [Int32] = []
    /// By rank, as far as the recording knew it: (tokens, layers, k).
    public private(set) var choices: [UInt16] = []
    /// The weights that the experts' outputs were added with: (tokens, layers, k), or empty.
    public private(set) var gateWeights: [Float] = []

    public var tokenCount: Int { phases.count }
    public var hasGateWeights: Bool { !gateWeights.isEmpty }
    /// Tokens computed alone.
    public var decodedTokenCount: Int { phases.count { $0 == .decode } }
    /// Choices of one token.
    var choicesPerToken: Int { shape.layerCount * shape.expertsPerToken }

    public init(shape: TraceShape) throws(TraceError) {
        if let problem = shape.problem {
            throw TraceError(.malformed, "no model routes like this: \(problem)")
        }
        self.shape = shape
    }

    /// The experts one token used in one layer, by rank; empty if that was not recorded.
    public func experts(token: Int, layer: Int) -> ArraySlice<UInt16> {
        let first = (token * shape.layerCount + layer) * shape.expertsPerToken
        let chosen = choices[first..<first + shape.expertsPerToken]
        return chosen.prefix { $0 != Self.absent }
    }

    /// Adds a token.
    ///
    /// - Parameters:
    ///   - experts: (layers, k), distinct within a layer; `absent` fills what was not recorded, from
    ///     some rank on.
    ///   - weights: (layers, k), or empty if no token has any.
    /// - Returns: What is wrong with it, in which case nothing is added; nil if nothing is.
    mutating func append(
        sequence: UInt32, phase: Phase, tokenID: Int32, experts: ArraySlice<UInt16>,
        weights: ArraySlice<Float>
    ) -> String? {
        precondition(experts.count == choicesPerToken, "a token with another number of choices")
        precondition(weights.isEmpty || weights.count == experts.count)
        precondition(tokenCount == 0 || weights.isEmpty == gateWeights.isEmpty)
        let width = shape.expertsPerToken
        for layer in 0..<shape.layerCount {
            let first = experts.startIndex + layer * width
            for rank in 0..<width {
                let expert = experts[first + rank]
                if expert == Self.absent {
                    let rest = experts[(first + rank)..<(first + width)]
                    if rest.allSatisfy({ $0 == Self.absent }) { break }
                    return "layer \(layer), rank \(rank): no expert, but a later rank has one"
                }
                if Int(expert) >= shape.expertsPerLayer {
                    return "layer \(layer), rank \(rank): expert \(expert) of "
                        + "\(shape.expertsPerLayer)"
                }
                if experts[first..<first + rank].contains(expert) {
                    return "layer \(layer), rank \(rank): expert \(expert) for the second time"
                }
            }
        }
        if choices.count + experts.count > Self.largestChoiceCount {
            return "more than \(Self.largestChoiceCount) choices; split the trace"
        }
        sequences.append(sequence)
        phases.append(phase)
        tokenIDs.append(tokenID)
        choices.append(contentsOf: experts)
        gateWeights.append(contentsOf: weights)
        return nil
    }

    /// Makes every expert of every layer that large.
    mutating func setExpertBytes(_ bytes: Int) {
        shape.planeBytes = [[Int]](repeating: [bytes], count: shape.layerCount)
    }

    /// Whether a token begins a sequence.
    public func beginsSequence(token: Int) -> Bool {
        token == 0 || sequences[token] != sequences[token - 1]
    }

    /// Share of the experts of a decoded token that the token before it used in the same layer,
    /// 0 ... 1; tokens that begin a sequence are left out.
    public var previousTokenOverlap: Double {
        var shared = 0
        var all = 0
        for token in 0..<tokenCount where phases[token] == .decode && !beginsSequence(token: token)
        {
            for layer in 0..<shape.layerCount {
                let before = experts(token: token - 1, layer: layer)
                let now = experts(token: token, layer: layer)
                shared += now.count { before.contains($0) }
                all += now.count
            }
        }
        return all == 0 ? 0 : Double(shared) / Double(all)
    }
}
