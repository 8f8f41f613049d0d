internal import CKernels
public import ModelFormats
public import Quantization

/// A kernel as it is measured: which weights it multiplies, or what it does in attention.
public enum MeasuredKernel: Sendable, Equatable {
    /// Weights in the format of their file.
    case format(BlockFormat)
    /// Weights cut into planes, multiplied with the first `used` of them.
    case planes(NestedFormat, used: Int)
    /// Half-precision keys times a query, and the weighted sum of values.
    case scores, mix

    /// Formats with a dot product of their own, and their number in the table of kernels.
    static let formats: [(format: BlockFormat, index: Int)] = [
        (.f32, Int(SLUICE_F32)), (.f16, Int(SLUICE_F16)), (.bf16, Int(SLUICE_BF16)),
        (.q4_0, Int(SLUICE_Q4_0)), (.q8_0, Int(SLUICE_Q8_0)), (.mxfp4, Int(SLUICE_MXFP4)),
        (.q4_K, Int(SLUICE_Q4_K)), (.q5_K, Int(SLUICE_Q5_K)), (.q6_K, Int(SLUICE_Q6_K)),
        (.iq4_xs, Int(SLUICE_IQ4_XS)),
    ]

    /// All that is measured: every format, those that can be cut with planes of two bits (and Q4_K
    /// with other ones, too) at full width and as the first two bits alone, and attention.
    public static let all: [MeasuredKernel] = {
        var kernels = formats.map { MeasuredKernel.format($0.format) }
        for (format, cuts) in [
            (BlockFormat.q4_K, ["2+2", "2+1+1"]), (.q4_0, ["2+2"]), (.q5_K, ["2+2"]),
            (.q6_K, ["2+2", "2+4"]), (.q8_0, ["2+2", "4+4"]),
        ] {
            for (number, cut) in cuts.enumerated() {
                let nested = PlaneWidths(cut).flatMap { NestedFormat(format: format, widths: $0) }!
                kernels.append(.planes(nested, used: nested.bits.count))
                if number == 0 { kernels.append(.planes(nested, used: 1)) }
            }
        }
        return kernels + [.scores, .mix]
    }()

    /// As in "Q4_K", "Q4_K 2+2" (planes, all of them), "Q4_K 2 of 2+2".
    public var name: String {
        switch self {
        case .format(let format): return format.name
        case .planes(let nested, let used):
            let text = { (bits: ArraySlice<Int>) in bits.map(String.init).joined(separator: "+") }
            let whole = text(nested.bits[...])
            return used == nested.bits.count
                ? "\(nested.format.name) \(whole)"
                : "\(nested.format.name) \(text(nested.bits[..<used])) of \(whole)"
        case .scores: return "scores F16"
        case .mix: return "mix F16"
        }
    }

    /// What several kernels share: their format's name, or "attention".
    public var family: String {
        switch self {
        case .format(let format): format.name
        case .planes(let nested, _): nested.format.name
        case .scores, .mix: "attention"
        }
    }

    /// Whether it multiplies matrices, with several tokens at once where there are several.
    public var multipliesMatrices: Bool { family != "attention" }

    /// Whether there is one: of other formats rows are decoded first.
    public var isComputed: Bool {
        switch self {
        case .format(let format): MeasuredKernel.formats.contains { $0.format == format }
        case .planes(let nested, _):
            [.q4_0, .q8_0, .q4_K, .q5_K, .q6_K].contains(nested.format)
        case .scores, .mix: true
        }
    }

    /// Bytes that are read of a matrix, whole rows of it.
    public func bytes(rows: Int, columns: Int) -> Int {
        MeasuredMatrix(self, rows: rows, columns: columns).bytes(of: 0..<rows)
    }

    /// The format of the weights; attention's keys and values are not any.
    private var weights: BlockFormat? {
        switch self {
        case .format(let format): format
        case .planes(let nested, _): nested.format
        case .scores, .mix: nil
        }
    }

    /// Elements that share a scale, of weights and activations; 1 for floats.
    var blockElements: Int { weights?.elementsPerBlock ?? 1 }

    /// The number of the weights' format in the table of kernels.
    var tableIndex: Int { MeasuredKernel.formats.first { $0.format == weights }!.index }
}

/// Where the weights lie that a kernel is measured on.
public enum MeasuredPlace: String, CaseIterable, Sendable {
    /// In the caches of each thread's core: 128 KiB, again and again.
    case cache
    /// In memory, in order: more than any cache holds, each byte once.
    case memory
    /// In memory, expert after expert (gate and up 768 x 2048, down 2048 x 768) from all over, each
    /// thread its rows of each matrix.
    case experts
}
