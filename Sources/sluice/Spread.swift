import Benchmarking

extension Spread {
    /// "12.3 (11.9-12.8)".
    func text(_ decimals: Int) -> String {
        "\(fixed(median, decimals)) (\(fixed(least, decimals))-\(fixed(greatest, decimals)))"
    }
}
