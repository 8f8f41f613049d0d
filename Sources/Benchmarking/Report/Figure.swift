internal import Glibc

/// Numbers as the report writes them: three significant digits, thousands parted, the unit behind;
/// a dash for what was not measured.
enum Figure {
    static let missing = "\u{2013}"

    /// "1,235", "98.7", "0.123"; as many decimals as three significant digits need, three at most.
    static func number(_ value: Double?) -> String {
        guard let value, value.isFinite else { return missing }
        let magnitude = value.magnitude
        let decimals = magnitude >= 99.95 ? 0 : magnitude >= 9.995 ? 1 : magnitude >= 0.9995 ? 2 : 3
        return value == 0 ? "0" : fixed(value, decimals)
    }

    /// With so many decimals, thousands parted by commas.
    static func fixed(_ value: Double, _ decimals: Int) -> String {
        let scale = pow(10, Double(decimals))
        guard value.isFinite, (value * scale).magnitude < 1e15 else { return "\(value)" }
        let rounded = Int((value * scale).rounded())
        let divisor = Int(scale)
        var words = count(rounded.magnitude / UInt(divisor))
        if decimals > 0 {
            let fraction = "\(rounded.magnitude % UInt(divisor))"
            words += "." + String(repeating: "0", count: decimals - fraction.utf8.count) + fraction
        }
        return rounded < 0 ? "-" + words : words
    }

    static func count(_ value: some BinaryInteger) -> String {
        let digits = Array("\(value.magnitude)")
        var words = value < 0 ? "-" : ""
        for (place, digit) in digits.enumerated() {
            if place > 0, (digits.count - place) % 3 == 0 { words += "," }
            words.append(digit)
        }
        return words
    }

    /// A share of 1 in percent.
    static func percent(_ share: Double?) -> String {
        guard let share, share.isFinite else { return missing }
        let value = share * 100
        return fixed(value, value.magnitude >= 99.95 || value == 0 ? 0 : 1) + " %"
    }

    static func milliseconds(_ seconds: Double?) -> String { number(seconds.map { $0 * 1e3 }) }
    static func megabytes(_ bytes: Double?) -> String { number(bytes.map { $0 / 1e6 }) }

    /// A limit or a memory: "3 GiB" where it is one, else in decimal units.
    static func memory(_ bytes: Int?) -> String {
        guard let bytes else { return missing }
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20)]
        where bytes > 0 && bytes & ((1 << shift) - 1) == 0 {
            return "\(count(bytes >> shift)) \(unit)"
        }
        return size(Double(bytes))
    }

    /// In decimal units: "16.4 GB", "512 B".
    static func size(_ bytes: Double?) -> String {
        guard let bytes, bytes.isFinite else { return missing }
        for (unit, scale) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)]
        where bytes.magnitude >= scale {
            return "\(number(bytes / scale)) \(unit)"
        }
        return "\(count(Int(bytes))) B"
    }

    static func rate(_ bytesPerSecond: Double?) -> String {
        guard let bytesPerSecond, bytesPerSecond.isFinite else { return missing }
        return size(bytesPerSecond) + "/s"
    }

    /// "8.48", and behind it the least and the greatest where there are several.
    static func range(_ spread: Spread?, _ words: (Double?) -> String = number) -> String? {
        guard let spread, spread.least != spread.greatest else { return nil }
        return "\(words(spread.least))\u{2013}\(words(spread.greatest))"
    }

    /// A multiple of the experts that one token uses: "1.5×".
    static func multiple(_ value: Double) -> String {
        guard value.isFinite else { return missing }
        let tenths = (value * 10).rounded() / 10
        return fixed(tenths, tenths == tenths.rounded() ? 0 : 1) + "\u{d7}"
    }
}
