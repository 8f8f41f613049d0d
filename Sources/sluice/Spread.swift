/// Median with least and greatest.
struct Spread: Encodable {
    var median: Double
    var least: Double
    var greatest: Double

    init(_ values: [Double]) {
        let sorted = values.sorted()
        median = (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
        least = sorted[0]
        greatest = sorted[sorted.count - 1]
    }

    func text(_ decimals: Int) -> String {
        "\(fixed(median, decimals)) (\(fixed(least, decimals))-\(fixed(greatest, decimals)))"
    }
}
