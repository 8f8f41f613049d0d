public import ExpertStreaming
public import Inference
internal import ModelFormats

/// Whether a model gains from having its experts on disk, and why: from its shape, and from a
/// recorded routing where there is one.
///
/// Streaming pays where most weights are experts, where a token uses few of them, and where the next
/// token uses many of the same. The first two follow from the file, the third only from a trace
/// ("Not All Models Suit Expert Offloading", arXiv 2505.16056, whose figures for 20 models set the
/// bounds here).
public struct StreamingSuitability: Sendable, Encodable {
    public enum Verdict: String, Sendable, Encodable {
        case well
        case partly
        case hardly
    }

    public var verdict: Verdict
    /// What speaks for and against it, a line each.
    public var reasons: [String]
    /// Bytes of experts, as a share of all weights.
    public var expertShare: Double
    /// Experts that one token uses, as a share of all.
    public var activeShare: Double
    /// Bytes that every token is multiplied with whatever it is, shared experts among them.
    public var residentBytes: Int
    /// Bytes of shared experts among these.
    public var sharedBytes: Int
    /// Bytes of one expert.
    public var expertBytes: Int
    /// Of the trace, over windows of `segment` tokens; nil without one.
    public var srp: Double?
    /// The cache from which more memory gains less than before, as a multiple of the active set; nil
    /// without a trace, and where there is no such place.
    public var knee: Double?

    /// Tokens of the windows that SRP is measured over, as in the paper's table.
    public static let segment = 16
    /// Sizes of the cache at which the knee is looked for.
    public static let multiples: [Double] = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8]
    /// The paper's best group of models has an SRP above the first, its worst one below the second.
    private static let goodSRP = 0.5
    private static let poorSRP = 0.35
    /// Below so few bytes, drives deliver a fraction of what they can.
    private static let smallRead = 256 << 10

    /// - Parameter routing: SRP and bounds of a trace of this model, over windows of `segment`.
    public init(_ model: ModelDescription, routing: RoutingStatistics? = nil) {
        let experts = (0..<model.expertLayerCount).reduce(0) { $0 + model.expertBytes(layer: $1) }
        residentBytes = model.residentTensors.reduce(0) { $0 + $1.byteCount }
        sharedBytes =
            model.roles.first { $0.role == .shared }?.tensors.reduce(0) { $0 + $1.byteCount } ?? 0
        expertShare = Double(experts) / Double(max(1, experts + residentBytes))
        activeShare = Double(model.expertsPerToken) / Double(model.expertCount)
        expertBytes = experts / max(1, model.expertLayerCount * model.expertCount)
        srp = routing?.model.srp
        knee = routing?.knee
        verdict = .well
        reasons = []

        if model.isDense {
            verdict = .hardly
            reasons.append(
                "dense: every token uses all weights, so what memory does not hold is read again for "
                    + "every token (\(ByteSize(bytes: model.activeSetBytes)) at most)")
            return
        }
        note(
            "experts are \(Self.percent(expertShare)) of the weights; "
                + "\(ByteSize(bytes: residentBytes)) stay in memory whatever the cache",
            expertShare >= 0.75 ? .well : expertShare >= 0.5 ? .partly : .hardly)
        note(
            "a token uses \(model.expertsPerToken) of \(model.expertCount) experts "
                + "(\(Self.percent(activeShare)), \(ByteSize(bytes: model.activeSetBytes))); a cache "
                + "of 2x holds \(Self.percent(min(1, 2 * activeShare))) of them",
            activeShare <= 0.15 ? .well : activeShare < 0.5 ? .partly : .hardly)
        if expertBytes < Self.smallRead {
            note(
                "an expert is \(ByteSize(bytes: expertBytes)): reads so small need a drive that is "
                    + "fast at depth", .partly)
        }
        if sharedBytes > 0 {
            reasons.append(
                "shared experts take part in every token: \(ByteSize(bytes: sharedBytes)) more in "
                    + "memory, and less to tell routed ones by (SRP of published models with them "
                    + "0.31 to 0.38, of most others 0.45 to 0.55)")
        }
        if let layer = model.expertLayers.first(where: {
            model.layers[$0].experts?.routesEarly == true
        }) {
            reasons.append(
                "its router reads what enters a layer (from layer \(layer) on): experts are known "
                    + "while attention is computed, and read meanwhile")
        }
        addRouting()
    }

    private mutating func addRouting() {
        guard let srp else {
            reasons.append(
                "how alike tokens route only a recording tells: sluice trace, then inspect --trace")
            return
        }
        note(
            "SRP \(Self.decimal(srp)): "
                + (srp >= Self.goodSRP
                    ? "tokens that follow one another use much the same experts"
                    : srp >= Self.poorSRP
                        ? "tokens that follow one another share some of their experts"
                        : "what one token uses tells little of the next"),
            srp >= Self.goodSRP ? .well : srp >= Self.poorSRP ? .partly : .hardly)
        reasons.append(
            knee.map { "knee at \(CacheSize.multiple($0)): more cache gains less than up to there" }
                ?? "no knee: hits grow with the cache all along")
    }

    /// Gives a reason, and lowers the verdict to what it says.
    private mutating func note(_ reason: String, _ says: Verdict) {
        reasons.append(reason)
        if verdict == .well || says == .hardly { verdict = says }
    }

    private static func percent(_ share: Double) -> String {
        let percent = share * 100
        return percent < 10 ? "\((percent * 10).rounded() / 10) %" : "\(Int(percent.rounded())) %"
    }

    private static func decimal(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
}
