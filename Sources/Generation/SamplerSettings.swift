/// How the next token is drawn from the logits.
///
/// The chain runs in llama.cpp's order: bias, penalties, top-k, typical-p, top-p, min-p, temperature,
/// draw. Every step from top-k on only removes candidates, so the order matters for typical-p and
/// top-p (they see the distribution at temperature 1).
public struct SamplerSettings: Sendable, Equatable {
    /// 0 takes the likeliest token (ties to the lower id); otherwise logits are divided by it. 0
    /// ... 100.
    public var temperature: Float = 0.8
    /// Keeps the k likeliest tokens; 0 keeps all.
    public var topK = 40
    /// Keeps the tokens whose surprise, -log of their probability, is nearest to what it is on
    /// average, until their probabilities add up to more than p (locally typical sampling, arXiv
    /// 2202.00666). 0 ... 1; 1 is off.
    public var typicalP: Float = 1
    /// Keeps the likeliest tokens whose probabilities add up to p (nucleus, arXiv 1904.09751). 0
    /// ... 1.
    public var topP: Float = 0.95
    /// Drops tokens less likely than p times the likeliest (arXiv 2407.01082). 0 ... 1.
    public var minP: Float = 0.05
    /// Divides positive and multiplies negative logits of recent tokens (CTRL, arXiv 1909.05858,
    /// 4.1). 1 is off.
    public var repetitionPenalty: Float = 1
    /// Subtracted from the logit of every token seen recently. 0 is off.
    public var presencePenalty: Float = 0
    /// Subtracted once per recent occurrence. 0 is off.
    public var frequencyPenalty: Float = 0
    /// Added to the logits of these tokens, whatever came before. -100 ... 100.
    public var logitBias: [Int32: Float] = [:]
    /// How many tokens back, prompt included, the penalties look.
    public var penaltyWindow = 64
    /// The same seed, model and settings give the same text.
    public var seed: UInt64 = 0

    public init() {}

    /// Why a setting is out of range, naming it; nil if all are usable.
    public var problem: String? {
        let bounded: [(String, Float, ClosedRange<Float>)] = [
            ("temperature", temperature, 0...100),
            ("typical-p", typicalP, 0...1),
            ("top-p", topP, 0...1),
            ("min-p", minP, 0...1),
            ("repetition penalty", repetitionPenalty, 0.01...100),
            ("presence penalty", presencePenalty, -100...100),
            ("frequency penalty", frequencyPenalty, -100...100),
        ]
        for (name, value, range) in bounded where !range.contains(value) {
            return "\(name) \(value) is not between \(range.lowerBound) and \(range.upperBound)"
        }
        for (id, bias) in logitBias where !(-100...100).contains(bias) {
            return "bias \(bias) of token \(id) is not between -100 and 100"
        }
        if topK < 0 { return "top-k \(topK) is negative" }
        if !(0...1_048_576).contains(penaltyWindow) {
            return "penalty window \(penaltyWindow) is not between 0 and 1048576"
        }
        return nil
    }

    /// Whether any logit is changed before candidates are chosen.
    var changesLogits: Bool { usesPenalties || !logitBias.isEmpty }

    var usesPenalties: Bool {
        penaltyWindow > 0
            && (repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0)
    }
}
