/// How much memory the expert cache gets, as `--cache` takes it.
public enum CacheSize: Sendable, Equatable, CustomStringConvertible {
    /// "512M", "1.5G": that many bytes.
    case bytes(Int)
    /// "50%": that share of all experts; 100 and more mean all, as does the word "all".
    case percent(Double)
    /// "2x": so many times the experts that one token uses.
    case multiple(Double)
    /// "auto": all that the memory budget leaves.
    case auto

    /// Nil for text that is none of these, and for zero.
    public init?(_ text: String) {
        var text = text.lowercased()
        // "50 %" is as clear as "50%".
        if text.hasSuffix(" %") { text = text.dropLast(2) + "%" }
        if text == "auto" {
            self = .auto
        } else if text == "all" {
            self = .percent(100)
        } else if text.hasSuffix("%") {
            guard let percent = plainDecimal(text.dropLast()), percent > 0 else { return nil }
            self = .percent(percent)
        } else if text.hasSuffix("x") {
            guard let multiple = plainDecimal(text.dropLast()), multiple > 0 else { return nil }
            self = .multiple(multiple)
        } else {
            guard let size = ByteSize(text), size.bytes > 0 else { return nil }
            self = .bytes(size.bytes)
        }
    }

    /// The size in bytes, at most `needs.fullBytes`; nil for `auto`, which only the memory budget
    /// can tell.
    public func bytes(for needs: CacheNeeds) -> Int? {
        switch self {
        case .bytes(let bytes): min(bytes, needs.fullBytes)
        case .percent(let percent): Self.share(percent / 100, of: needs.fullBytes, needs)
        case .multiple(let multiple): Self.share(multiple, of: needs.activeSetBytes, needs)
        case .auto: nil
        }
    }

    private static func share(_ factor: Double, of bytes: Int, _ needs: CacheNeeds) -> Int {
        let product = (factor * Double(bytes)).rounded(.up)
        return product < Double(needs.fullBytes) ? Int(product) : needs.fullBytes
    }

    public var description: String {
        switch self {
        case .bytes(let bytes): ByteSize(bytes: bytes).description
        case .percent(let percent): "\(percent)%"
        case .multiple(let multiple): "\(multiple)x"
        case .auto: "auto"
        }
    }
}
