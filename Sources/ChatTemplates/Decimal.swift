/// Floats as decimal digits.
enum Decimal {
    /// Python's `repr`: the shortest digits that read back as the same number, with an exponent from 1e16 and below 1e-4.
    static func repr(_ value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
        let (digits, exponent) = shortest(value.magnitude)
        let sign = value < 0 ? "-" : ""
        if exponent < -4 || exponent >= 16 {
            return sign + scientific(digits, exponent)
        }
        return sign + plain(digits, exponent, minimumFraction: 1)
    }

    /// The shortest digits, the first of them before the point, and the power of ten.
    private static func shortest(_ value: Double) -> (digits: [UInt8], exponent: Int) {
        var digits: [UInt8] = []
        var point: Int?
        var exponent = 0
        let parts = "\(value)".utf8.split(separator: UInt8(ascii: "e"))
        for byte in parts[0] {
            if byte == UInt8(ascii: ".") {
                point = digits.count
            } else {
                digits.append(byte - 0x30)
            }
        }
        if parts.count > 1 { exponent = Int(String(decoding: parts[1], as: UTF8.self)) ?? 0 }
        exponent += (point ?? digits.count) - 1
        while digits.count > 1, digits[0] == 0 {
            digits.removeFirst()
            exponent -= 1
        }
        while digits.count > 1, digits.last == 0 { digits.removeLast() }
        return (digits, exponent)
    }

    private static func text(_ digits: some Sequence<UInt8>) -> String {
        String(decoding: digits.map { $0 + 0x30 }, as: UTF8.self)
    }

    /// Digits around a point, of a number of which the first digit has the value of 10 to the `exponent`.
    private static func plain(
        _ digits: [UInt8], _ exponent: Int, minimumFraction: Int
    ) -> String {
        let zeros = [UInt8](repeating: 0, count: max(0, -exponent))
        let all = zeros + digits
        let wholeCount = max(exponent + 1, 1)
        let whole =
            Array(all.prefix(wholeCount))
            + [UInt8](repeating: 0, count: max(0, wholeCount - all.count))
        var fraction = Array(all.dropFirst(wholeCount))
        while fraction.count < minimumFraction { fraction.append(0) }
        return text(whole) + (fraction.isEmpty ? "" : "." + text(fraction))
    }

    private static func scientific(_ digits: [UInt8], _ exponent: Int, keepsPoint: Bool = false)
        -> String
    {
        let fraction = digits.count > 1 ? "." + text(digits.dropFirst()) : keepsPoint ? "." : ""
        let size = String(exponent.magnitude)
        return text(digits.prefix(1)) + fraction + "e" + (exponent < 0 ? "-" : "+")
            + (size.count < 2 ? "0" : "") + size
    }

    // MARK: A given number of digits

    /// `%.3f`: the exact value rounded half to even at a decimal place. `value` is finite; places 0 or more.
    static func fixed(_ value: Double, places: Int, keepsPoint: Bool = false) -> String {
        let (digits, exponent) = exact(value.magnitude)
        let kept = exponent + 1 + places
        let (rounded, carry) = round(digits, to: kept)
        let all = plain(rounded, exponent + carry, minimumFraction: 0)
        // Zeros up to the last place, which rounding has cut.
        let parts = all.utf8.split(separator: UInt8(ascii: "."))
        let whole = String(decoding: parts[0], as: UTF8.self)
        var fraction = parts.count > 1 ? Array(parts[1].prefix(places)) : []
        while fraction.count < places { fraction.append(0x30) }
        let sign = value.sign == .minus ? "-" : ""
        return sign + whole + (places > 0 || keepsPoint ? "." : "")
            + String(decoding: fraction, as: UTF8.self)
    }

    /// `%.3e`.
    static func exponential(_ value: Double, places: Int, keepsPoint: Bool = false) -> String {
        let (digits, exponent) = exact(value.magnitude)
        var (rounded, carry) = round(digits, to: places + 1)
        while rounded.count < places + 1 { rounded.append(0) }
        if value == 0 { carry = 0 }
        let sign = value.sign == .minus ? "-" : ""
        return sign
            + scientific(
                Array(rounded.prefix(places + 1)), exponent + carry, keepsPoint: keepsPoint)
    }

    /// `%.3g`: so many digits, without zeros at the end unless `keepsZeros`.
    static func general(_ value: Double, digits count: Int, keepsZeros: Bool) -> String {
        let count = max(count, 1)
        let (digits, exponent) = exact(value.magnitude)
        var (rounded, carry) = round(digits, to: count)
        let power = value == 0 ? 0 : exponent + carry
        while rounded.count < count { rounded.append(0) }
        rounded = Array(rounded.prefix(count))
        if !keepsZeros { while rounded.count > 1, rounded.last == 0 { rounded.removeLast() } }
        let sign = value.sign == .minus ? "-" : ""
        if power < -4 || power >= count {
            return sign + scientific(rounded, power, keepsPoint: keepsZeros)
        }
        let text = plain(rounded, power, minimumFraction: 0)
        return sign + text + (keepsZeros && !text.utf8.contains(UInt8(ascii: ".")) ? "." : "")
    }

    /// Python's `round(value, places)`.
    static func rounded(_ value: Double, places: Int) -> Double? {
        if !value.isFinite || value == 0 || places > 330 { return value }
        if places < -310 { return Double(signOf: value, magnitudeOf: 0) }
        if places >= 0 { return Double(fixed(value, places: places)) }
        let (digits, exponent) = exact(value.magnitude)
        let kept = exponent + 1 + places
        if kept < 0 { return Double(signOf: value, magnitudeOf: 0) }
        let (rounded, carry) = round(digits, to: kept)
        let text = scientific(rounded, exponent + carry)
        return Double(text).map { Double(signOf: value, magnitudeOf: $0) }
    }

    /// Digits rounded half to even to the first `count`; carry 1 if they became one more.
    private static func round(_ digits: [UInt8], to count: Int) -> (digits: [UInt8], carry: Int) {
        if count >= digits.count { return (digits, 0) }
        if count < 0 { return ([0], 0) }
        var kept = Array(digits.prefix(count))
        let next = digits[count]
        let isTie = next == 5 && digits[(count + 1)...].allSatisfy { $0 == 0 }
        guard next > 5 || next == 5 && (!isTie || (kept.last ?? 0) % 2 == 1) else {
            return (kept.isEmpty ? [0] : kept, 0)
        }
        var index = count - 1
        while index >= 0 {
            if kept[index] < 9 {
                kept[index] += 1
                return (kept, 0)
            }
            kept[index] = 0
            index -= 1
        }
        return ([1] + kept, 1)
    }

    /// All digits of a float, which are finitely many: it is a whole number times a power of 2, and so a whole number
    /// times a power of 10.
    private static func exact(_ value: Double) -> (digits: [UInt8], exponent: Int) {
        if value == 0 { return ([0], 0) }
        let significand = value.significandBitPattern
        let isNormal = value.exponentBitPattern != 0
        let mantissa = isNormal ? significand | 1 << 52 : significand
        let power = (isNormal ? Int(value.exponentBitPattern) : 1) - 1075
        // Limbs of nine digits, the lowest first.
        var limbs: [UInt32] = []
        var rest = mantissa
        while rest > 0 {
            limbs.append(UInt32(rest % 1_000_000_000))
            rest /= 1_000_000_000
        }
        for _ in 0..<power.magnitude {
            var carry: UInt64 = 0
            for index in limbs.indices {
                let product = UInt64(limbs[index]) * (power > 0 ? 2 : 5) + carry
                limbs[index] = UInt32(product % 1_000_000_000)
                carry = product / 1_000_000_000
            }
            if carry > 0 { limbs.append(UInt32(carry)) }
        }
        var digits: [UInt8] = []
        for limb in limbs.reversed() {
            let text = String(limb)
            if !digits.isEmpty { digits += [UInt8](repeating: 0, count: 9 - text.utf8.count) }
            digits += text.utf8.map { $0 - 0x30 }
        }
        let exponent = digits.count - 1 + min(power, 0)
        return (digits, exponent)
    }
}
