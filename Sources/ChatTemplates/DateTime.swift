internal import Glibc

/// Dates and times as people write them (ISO 8601).
public enum DateTime {
    /// Seconds since 1970 of `2024-07-26`, `2024-07-26T18:30`, `2024-07-26 18:30:05.25`, with `Z` or an offset such as
    /// `+02:00` behind the time or, without one, in local time. Nil for anything else.
    public static func secondsSince1970(_ text: String) -> Double? {
        var rest = text[...]
        func number(_ digits: Int, _ range: ClosedRange<Int>) -> Int? {
            let part = rest.prefix(digits)
            guard part.utf8.count == digits, part.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let value = Int(part), range.contains(value)
            else { return nil }
            rest = rest.dropFirst(digits)
            return value
        }
        func take(_ characters: String) -> Character? {
            guard let first = rest.first, characters.contains(first) else { return nil }
            return rest.removeFirst()
        }
        guard let year = number(4, 1...9999), take("-") != nil, let month = number(2, 1...12),
            take("-") != nil, let day = number(2, 1...31)
        else { return nil }
        var (hour, minute, second, fraction) = (0, 0, 0, 0.0)
        var offset: Int?
        if take("Tt ") != nil {
            guard let hours = number(2, 0...23), take(":") != nil, let minutes = number(2, 0...59)
            else { return nil }
            (hour, minute) = (hours, minutes)
            if take(":") != nil {
                guard let seconds = number(2, 0...59) else { return nil }
                second = seconds
                if take(".") != nil {
                    let digits = rest.prefix { $0.isASCII && $0.isNumber }
                    guard !digits.isEmpty, let value = Double("0." + digits) else { return nil }
                    fraction = value
                    rest = rest.dropFirst(digits.count)
                }
            }
            if take("Zz") != nil {
                offset = 0
            } else if let sign = take("+-") {
                guard let hours = number(2, 0...23) else { return nil }
                _ = take(":")
                guard let minutes = rest.isEmpty ? 0 : number(2, 0...59) else { return nil }
                offset = (sign == "-" ? -60 : 60) * (hours * 60 + minutes)
            }
        }
        guard rest.isEmpty else { return nil }
        var fields = unsafe tm()
        unsafe fields.tm_year = Int32(year - 1900)
        unsafe fields.tm_mon = Int32(month - 1)
        unsafe fields.tm_mday = Int32(day)
        unsafe fields.tm_hour = Int32(hour)
        unsafe fields.tm_min = Int32(minute)
        unsafe fields.tm_sec = Int32(second)
        unsafe fields.tm_isdst = offset == nil ? -1 : 0
        let whole = offset == nil ? unsafe mktime(&fields) : unsafe timegm(&fields)
        // A day that its month does not have comes out as one of the next.
        guard unsafe fields.tm_mday == Int32(day) else { return nil }
        return Double(whole - (offset ?? 0)) + fraction
    }
}
