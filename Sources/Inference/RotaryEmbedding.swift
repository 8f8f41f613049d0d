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

    public enum Scaling: Sendable, Equatable {
        case none
        /// Every angle divided by `factor`.
        case linear(factor: Double)
        /// Low frequencies divided by `factor`, high ones kept, a ramp between; queries and keys
        /// scaled.
        case yarn(factor: Double, trainedContext: Int)
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
        case .yarn(let factor, let trainedContext):
            // Pairs that turn more than 32 times over the trained context keep their angle, those
            // that turn less than once are interpolated (beta_fast = 32, beta_slow = 1 in the
            // paper).
            func pairTurning(_ turns: Double) -> Double {
                Double(dimensionCount) * log(Double(trainedContext) / (turns * 2 * Double.pi))
                    / (2 * log(base))
            }
            let low = max(0, pairTurning(32).rounded(.down))
            let high = min(Double(dimensionCount - 1), pairTurning(1).rounded(.up))
            for pair in 0..<pairs {
                let position = (Double(pair) - low) / max(0.001, high - low)
                let keep = 1 - min(1, max(0, position))
                angles[pair] = angles[pair] / factor * (1 - keep) + angles[pair] * keep
            }
            return (angles, 1 + 0.1 * log(factor))
        }
    }
}
