internal import Glibc

/// A moment in local time, as Python's `datetime.now()` has it, for `strftime_now`.
@safe struct LocalTime {
    private let fields: tm
    private let microsecond: Int

    /// Nil for a time that the C library has no calendar for.
    init?(secondsSince1970 seconds: Double) {
        guard let whole = time_t(exactly: seconds.rounded(.down)) else { return nil }
        var time = whole
        var fields = unsafe tm()
        guard unsafe localtime_r(&time, &fields) != nil else { return nil }
        unsafe self.fields = fields
        microsecond = min(Int((seconds - seconds.rounded(.down)) * 1_000_000), 999_999)
    }

    /// The C library's `strftime`, with what Python adds: `%f` is microseconds, and `%z` and `%Z` of a time without
    /// a zone are empty. Nil for a format that makes more than a few thousand bytes.
    func formatted(_ format: String) -> String? {
        guard format.utf8.count <= 1024 else { return nil }
        var text: [UInt8] = []
        var isConversion = false
        for byte in format.utf8 {
            if !isConversion {
                if byte == 0 { return nil }
                isConversion = byte == UInt8(ascii: "%")
                if !isConversion { text.append(byte) }
                continue
            }
            isConversion = false
            switch byte {
            case UInt8(ascii: "f"):
                let digits = String(microsecond)
                text += String(repeating: "0", count: 6 - digits.count).utf8
                text += digits.utf8
            case UInt8(ascii: "z"), UInt8(ascii: "Z"): break
            default: text += [UInt8(ascii: "%"), byte]
            }
        }
        if isConversion { text.append(UInt8(ascii: "%")) }
        if text.isEmpty { return "" }
        // A result of nothing and one that does not fit look the same, so there is always one character more.
        text += [UInt8(ascii: "."), 0]
        var buffer = [CChar](repeating: 0, count: 16384)
        var fields = unsafe fields
        let count = unsafe text.withUnsafeBytes { bytes in
            unsafe strftime(
                &buffer, buffer.count, bytes.baseAddress!.assumingMemoryBound(to: CChar.self),
                &fields)
        }
        guard count > 0 else { return nil }
        return String(
            decoding: buffer.prefix(count - 1).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
