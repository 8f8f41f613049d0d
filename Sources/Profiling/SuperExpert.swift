/// Experts without which a model collapses: few, early, with outputs far larger than all others'.
///
/// They are kept at full width, and exempt from every approximation. The criterion names at least
/// one in nearly every model, also where none stands out: the figure says how much it does.
public struct SuperExpert: Sendable, Hashable, Codable {
    /// Among the layers with experts, from 0.
    public let layer: Int
    public let expert: Int
    /// Greatest magnitude it put out on the calibration text.
    public let largestOutput: Float

    private enum CodingKeys: String, CodingKey {
        case layer, expert
        case largestOutput = "largest_output"
    }

    /// Finds them by the criterion of arXiv 2507.23279, as published in code: among layers below
    /// round(0.75 * layers), those whose largest output exceeds both the 99.5th percentile and
    /// floor(the greatest / 10). Percentile and greatest are over the experts of those layers that
    /// were used at all; the percentile interpolates linearly.
    ///
    /// - Parameter largestOutputs: (layers, experts), magnitudes; 0 means never used.
    /// - Returns: The largest output first, ties by layer and expert.
    public static func detect(in largestOutputs: [[Float]]) -> [SuperExpert] {
        // Python's round, which the criterion is written with, takes halves to the even neighbour.
        let included = Int((0.75 * Double(largestOutputs.count)).rounded(.toNearestOrEven))
        let used = largestOutputs.prefix(included).enumerated().flatMap { layer, outputs in
            outputs.enumerated().filter { $0.element > 0 }.map { expert, output in
                SuperExpert(layer: layer, expert: expert, largestOutput: output)
            }
        }
        let sorted = used.map { Double($0.largestOutput) }.sorted()
        guard let greatest = sorted.last else { return [] }
        let threshold = max(percentile(99.5, of: sorted), (greatest / 10).rounded(.down))
        return used.filter { Double($0.largestOutput) > threshold }
            .sorted {
                ($1.largestOutput, $0.layer, $0.expert) < ($0.largestOutput, $1.layer, $1.expert)
            }
    }

    private static func percentile(_ percent: Double, of sorted: [Double]) -> Double {
        let position = percent / 100 * Double(sorted.count - 1)
        let below = Int(position)
        let above = min(below + 1, sorted.count - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (position - Double(below))
    }
}
