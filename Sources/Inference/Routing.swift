internal import CKernels

/// How a router's logits become the experts of a token, and the weights that their outputs are added
/// with. Families differ in this data only; their definitions are those of transformers' routers.
///
/// A choice takes these steps:
///
///     logits -> gating -> p                    (experts)
///     p + correction bias -> the scores that experts are ranked by
///     scores -> the `groupsUsed` best groups -> the k best experts there, ties to the lower index
///     topP: only the first of those, as many as hold this probability
///     weights: p of the chosen, divided by their sum if `normalises`, times `scale`
public struct Routing: Sendable, Equatable {
    /// What becomes of the logits.
    public enum Gating: Sendable, Equatable {
        /// p is the softmax over all experts.
        case softmax
        /// p is 1 / (1 + exp(-logit)).
        case sigmoid
        /// Experts are ranked by their logits; p is the softmax over the chosen. The same as
        /// `softmax` with `normalises`, but for how close to 0 a probability may come.
        case softmaxOfChosen
        /// The k best are taken one by one. The weight of each is its share of the softmax over those
        /// not taken yet whose logits s are no further below its own, m, than
        /// (m - s) / max(|s|, m) <= 2 x `jitter` (SparseMixer-v2, arXiv 2409.12136, in evaluation).
        case sparseMixer(jitter: Float)
        /// No router: expert 0, with weight 1.
        case always
    }

    /// What groups of experts are ranked by.
    public enum GroupScore: Sendable, Equatable {
        /// The best expert's score (DeepSeek-V2, arXiv 2405.04434, section 2.2.2).
        case maximum
        /// The sum of the two best (DeepSeek-V3, arXiv 2412.19437, section 2.1.2).
        case sumOfTwoLargest
    }

    public var gating = Gating.softmax
    /// Whether the weights are divided by their sum. `softmaxOfChosen` does so anyway, `sparseMixer`
    /// never.
    public var normalises = true
    /// Added to that sum: 1e-20 in DeepSeek-V3 and GLM-4.5, 1e-6 in LFM2.
    public var normEpsilon: Float = 0
    /// The least to divide by: 1e-12 in ERNIE 4.5.
    public var normFloor: Float = 0
    /// Multiplies the weights, last.
    public var scale: Float = 1
    /// Groups of as many experts each, which follow one another.
    public var groupCount = 1
    /// Groups that a token's experts may be of.
    public var groupsUsed = 1
    public var groupScore = GroupScore.maximum
    /// Fewest experts that together have this probability are computed, the one that reaches it
    /// included, and at most k (dynamic routing of "Harder Tasks Need More Experts", arXiv
    /// 2403.07652); nil for k always. The probability is p as the softmax over all experts, and for
    /// `sigmoid`, whose p have no total, the share among the k best. `normalises` divides by the sum
    /// of those computed; a model trained with the rule has it off.
    public var topP: Float?

    public static let largestGroupCount = 64

    public init() {}

    /// What keeps it from being a rule for `experts`, k of which are computed for a token: the value
    /// that is wrong, and what would do; nil if it is one.
    public func problem(experts: Int, perToken k: Int) -> String? {
        guard k >= 1, k <= experts else { return "\(k) of \(experts) experts cannot be chosen" }
        switch gating {
        case .always where experts > 1: return "\(experts) experts need a router"
        case .sparseMixer(let jitter) where !jitter.isFinite || jitter < 0:
            return "a jitter of \(jitter) is not a number from 0 on"
        case .sparseMixer where k != 2:
            return "\(k) experts per token; the sparse mixer chooses 2"
        default: break
        }
        guard groupCount >= 1, groupCount <= Routing.largestGroupCount,
            experts.isMultiple(of: groupCount)
        else {
            return "\(groupCount) groups do not divide \(experts) experts, or are more than "
                + "\(Routing.largestGroupCount)"
        }
        guard groupsUsed >= 1, groupsUsed <= groupCount else {
            return "\(groupsUsed) groups used are not between 1 and \(groupCount)"
        }
        let size = experts / groupCount
        if groupsUsed < groupCount {
            guard size > 1 || groupScore == .maximum else {
                return "groups of one expert have no two that they could be ranked by"
            }
            guard k <= groupsUsed * size else {
                return "\(k) experts per token, but the groups used have \(groupsUsed * size)"
            }
        }
        guard scale.isFinite else { return "a scale of \(scale) is not a number" }
        guard normEpsilon.isFinite, normEpsilon >= 0, normFloor.isFinite, normFloor >= 0 else {
            return "\(normEpsilon) or \(normFloor) under a sum is not a number from 0 on"
        }
        if let topP, !(topP > 0 && topP <= 1) { return "top-p \(topP) is not above 0, up to 1" }
        return nil
    }
}
