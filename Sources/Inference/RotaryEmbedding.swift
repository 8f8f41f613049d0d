import Glibc

/// Rotary position embedding (RoFormer, arXiv 2104.09864, section 3.2.2) with the stretched
/// variants that GGUF files may ask for: linear interpolation (arXiv 2306.15595) and YaRN (arXiv
/// 2309.00071, section 3).
public struct RotaryEmbedding: Sendable, Equatable {
    /// Elements of a head that are turned; even, at most the head size. The rest pass through.
    public var dimensionCount: Int
    /// Base of the geometric series of angles.
    public var base: Double
    /// How positions beyond the trained context are squeezed.
    public var scaling: Scaling
    /// Whether the ends of YaRN's ramp are pairs, as in the paper's code; if not, they lie between.
    public var roundsRamp = true

    public enum Scaling: Sendable, Equatable {
        case none
        /// Every angle divided by `factor`.
        case linear(factor: Double)
        /// Low frequencies divided by a factor, high ones kept, a ramp between.
        case yarn(YaRN)
        /// Every pair has a divisor of its own, from one table for contexts up to the trained one and
        /// from another for longer ones (LongRoPE, arXiv 2402.13753, section 3.2); `magnitude` is the
        /// factor on cosine and sine.
        case long(magnitude: Double, trainedContext: Int)
    }

    public struct YaRN: Sendable, Equatable {
        public var factor: Double
        public var trainedContext: Int
        /// The factor on cosine and sine.
        public var magnitude: Double
        /// Pairs that turn more often than this over the trained context keep their angle (beta_fast
        /// of the paper's code), those that turn less than the other are interpolated (beta_slow).
        public var fastTurns = 32.0
        public var slowTurns = 1.0

        /// With the paper's magnitude, 1 + 0.1 ln(factor).
        public init(factor: Double, trainedContext: Int) {
            self.factor = factor
            self.trainedContext = trainedContext
            magnitude = 1 + 0.1 * log(factor)
        }
    }

    public init(dimensionCount: Int, base: Double, scaling: Scaling) {
        self.dimensionCount = dimensionCount
        self.base = base
        self.scaling = scaling
    }

    /// Angle per position of each pair, and the factor on cosine and sine.
    ///
    /// `divisors` divides each pair's angle (the optional tensor `rope_freqs.weight`); empty means
    /// ones.
    func angles(divisors: [Float]) -> (perPosition: [Double], magnitude: Double) {
        let pairs = dimensionCount / 2
        var angles = (0..<pairs).map { pair in
            pow(base, -2 * Double(pair) / Double(dimensionCount))
                / (divisors.isEmpty ? 1 : Double(divisors[pair]))
        }
        switch scaling {
        case .none:
            return (angles, 1)
        case .linear(let factor):
            for pair in 0..<pairs { angles[pair] /= factor }
            return (angles, 1)
        case .long(let magnitude, _):
            return (angles, magnitude)
        case .yarn(let yarn):
            func pairTurning(_ turns: Double) -> Double {
                Double(dimensionCount) * log(Double(yarn.trainedContext) / (turns * 2 * Double.pi))
                    / (2 * log(base))
            }
            var (low, high) = (pairTurning(yarn.fastTurns), pairTurning(yarn.slowTurns))
            if roundsRamp { (low, high) = (low.rounded(.down), high.rounded(.up)) }
            low = max(0, low)
            high = min(Double(dimensionCount - 1), high)
            for pair in 0..<pairs {
                let position = (Double(pair) - low) / max(0.001, high - low)
                let keep = 1 - min(1, max(0, position))
                angles[pair] = angles[pair] / yarn.factor * (1 - keep) + angles[pair] * keep
            }
            return (angles, yarn.magnitude)
        }
    }
}
