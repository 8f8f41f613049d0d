/// A number of bytes as people write it: "3G", "512M", "1.5GiB", "4096".
///
/// Suffixes are powers of 1024: K, M, G, T, each also as KB or KiB, in either case. Fractions need
/// a suffix.
public struct ByteSize: Sendable, Hashable, CustomStringConvertible {
    public var bytes: Int

    public init(bytes: Int) {
        self.bytes = bytes
    }

    /// Nil for anything that is not a size: a sign, a space, an unknown suffix, or more than fits
    /// 63 bits.
    public init?(_ text: String) {
        var digits = text[...]
        var suffix = ""
        while let last = digits.last, last.isASCII, last.isLetter {
            suffix = last.uppercased() + suffix
            digits.removeLast()
        }
        let shift: Int
        switch suffix {
        case "", "B": shift = 0
        case "K", "KB", "KIB": shift = 10
        case "M", "MB", "MIB": shift = 20
        case "G", "GB", "GIB": shift = 30
        case "T", "TB", "TIB": shift = 40
        default: return nil
        }
        if let whole = plainInteger(digits) {
            let (bytes, overflow) = whole.multipliedReportingOverflow(by: 1 << shift)
            if overflow { return nil }
            self.bytes = bytes
            return
        }
        guard shift > 0, let number = plainDecimal(digits) else { return nil }
        let bytes = number * Double(1 << shift)
        guard bytes < 0x1p62 else { return nil }
        self.bytes = Int(bytes)
    }

    /// In whole mebibytes, rounded up, as `--memory` and `--cache` take it: what would do.
    public var enoughMegabytes: String { "\((bytes + (1 << 20) - 1) >> 20)M" }

    /// In the largest unit that leaves at least 1, with two decimals: "1.50 GiB", "512 B".
    public var description: String {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        let magnitude = bytes.magnitude
        let sign = bytes < 0 ? "-" : ""
        if magnitude < 1024 { return "\(sign)\(magnitude) B" }
        var unit = 0
        while unit < units.count - 1, magnitude >> UInt(10 * (unit + 2)) > 0 { unit += 1 }
        let shift = UInt(10 * (unit + 1))
        // Hundredths, rounded down: a size that does not fit must not look as if it did.
        let whole = magnitude >> shift
        let rest = magnitude & ((1 << shift) - 1)
        let hundredths = ((rest >> (shift - 10)) * 100) >> 10
        return "\(sign)\(whole).\(hundredths < 10 ? "0" : "")\(hundredths) \(units[unit])"
    }
}

/// Digits only, as an integer.
func plainInteger(_ text: Substring) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
    return Int(text)
}

/// Digits with at most one point that has digits on both sides; no sign, exponent, "nan" or "inf".
func plainDecimal(_ text: Substring) -> Double? {
    let halves = text.split(separator: ".", omittingEmptySubsequences: false)
    guard halves.count <= 2, halves.allSatisfy({ !$0.isEmpty }),
        halves.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } })
    else { return nil }
    guard let number = Double(text), number.isFinite else { return nil }
    return number
}
