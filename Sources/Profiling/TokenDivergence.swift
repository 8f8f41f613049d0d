import Glibc

/// How one token's logits predict the next token, and how far they are from the exact ones. Natural
/// logarithms, computed in double precision.
struct TokenDivergence: Equatable {
    /// -log of the share given to the token that follows.
    let negativeLogLikelihood: Double
    /// That of the exact logits.
    let exactNegativeLogLikelihood: Double
    /// KL(exact || these) over the vocabulary; 0 for equal logits.
    let divergence: Double
    /// Whether both find the same token likeliest.
    let agrees: Bool

    init(exact: UnsafeBufferPointer<Float>, logits: UnsafeBufferPointer<Float>, next: Int32) {
        let (logExact, likeliest) = unsafe TokenDivergence.logSum(exact)
        let (logOther, other) = unsafe TokenDivergence.logSum(logits)
        unsafe negativeLogLikelihood = logOther - Double(logits[Int(next)])
        unsafe exactNegativeLogLikelihood = logExact - Double(exact[Int(next)])
        var sum = 0.0
        for index in exact.indices {
            let log = unsafe Double(exact[index]) - logExact
            sum += unsafe exp(log) * (log - (Double(logits[index]) - logOther))
        }
        // Rounding may leave a little less than nothing; a NaN stays.
        divergence = sum < 0 ? 0 : sum
        agrees = likeliest == other
    }

    /// log(sum of exp), and the index of the greatest, ties to the lower one.
    private static func logSum(_ logits: UnsafeBufferPointer<Float>) -> (Double, Int) {
        var greatest = 0
        for index in logits.indices where unsafe logits[index] > logits[greatest] {
            greatest = index
        }
        let top = unsafe Double(logits[greatest])
        var sum = 0.0
        for index in logits.indices { sum += unsafe exp(Double(logits[index]) - top) }
        return (top + log(sum), greatest)
    }
}
