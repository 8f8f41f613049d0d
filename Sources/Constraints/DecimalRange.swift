/// A number as its decimal digits: exact, as it is written.
struct Decimal: Sendable {
    var isNegative: Bool
    /// Without zeros in front; `[0]` below one.
    var whole: [UInt8]
    /// Without zeros at the end.
    var fraction: [UInt8]

    var isZero: Bool { whole == [0] && fraction.isEmpty }

    static let zero = Decimal(isNegative: false, whole: [0], fraction: [])

    init(isNegative: Bool, whole: [UInt8], fraction: [UInt8]) {
        self.isNegative = isNegative
        self.whole = whole
        self.fraction = fraction
    }

    /// The number that Swift writes as `description`: the shortest that reads as the same double.
    init(_ value: Double) {
        let text = "\(value.magnitude)"
        let parts = text.split(separator: "e")
        let exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
        let point = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        var digits = point.joined().utf8.map { $0 - 0x30 }
        var place = point[0].utf8.count + exponent
        if place < 1 {
            digits = Array(repeating: 0, count: 1 - place) + digits
            place = 1
        }
        if digits.count < place {
            digits += Array(repeating: 0, count: place - digits.count)
        }
        whole = Array(digits[..<place].drop { $0 == 0 })
        if whole.isEmpty { whole = [0] }
        fraction = Array(digits[place...])
        while fraction.last == 0 { fraction.removeLast() }
        isNegative = value < 0
    }

    init(_ value: Int) {
        isNegative = value < 0
        whole = String(value.magnitude).utf8.map { $0 - 0x30 }
        fraction = []
    }

    static func isLess(_ one: Decimal, _ other: Decimal) -> Bool {
        if one.isZero, other.isZero { return false }
        let negative = one.isNegative && !one.isZero
        if negative != (other.isNegative && !other.isZero) { return negative }
        return negative ? isSmaller(other, one) : isSmaller(one, other)
    }

    private static func isSmaller(_ one: Decimal, _ other: Decimal) -> Bool {
        if one.whole.count != other.whole.count { return one.whole.count < other.whole.count }
        if one.whole != other.whole { return one.whole.lexicographicallyPrecedes(other.whole) }
        return one.fraction.lexicographicallyPrecedes(other.fraction)
    }
}

/// The numbers between two bounds, as an automaton over the digits that compares as it reads.
struct DecimalRange: Sendable {
    struct Bound: Sendable {
        var value: Decimal
        var isExclusive = false
    }

    var lower: Bound?
    var upper: Bound?
    /// Digits after the point, at most.
    var fractionDigits: Int
    /// Before it, where there is no bound.
    var wholeDigits: Int

    /// Numbers in range as JSON writes them, without exponents and without a minus before zero.
    func automaton() throws(Automaton.TooLarge) -> Automaton {
        var states = Nondeterministic()
        let start = states.add()
        // Not negative: from the lower bound or zero.
        if upper.map({ !$0.value.isNegative || $0.value.isZero }) ?? true {
            let least =
                lower.map { $0.value.isNegative ? Bound(value: .zero) : $0 } ?? Bound(value: .zero)
            try add(from: least, to: upper, after: start, into: &states)
        }
        // Negative: magnitudes from the upper bound's or from above zero, to the lower bound's.
        if lower.map({ $0.value.isNegative && !$0.value.isZero }) ?? true {
            let minus = states.add()
            states.connect(start, CodePointSet("-"), minus)
            let least =
                upper.map {
                    $0.value.isNegative && !$0.value.isZero
                        ? $0 : Bound(value: .zero, isExclusive: true)
                } ?? Bound(value: .zero, isExclusive: true)
            try add(from: least, to: lower, after: minus, into: &states)
        }
        return try Automaton(states, start: start)
    }

    private struct Place: Hashable {
        var digit: Int
        var length: Int
        var meetsLower: Bool
        var meetsUpper: Bool
        var isFraction: Bool
    }

    /// Magnitudes between two.
    private func add(
        from lower: Bound, to upper: Bound?, after start: Int, into states: inout Nondeterministic
    ) throws(Automaton.TooLarge) {
        let longest = upper?.value.whole.count ?? max(wholeDigits, lower.value.whole.count + 1)
        guard lower.value.whole.count <= longest else { return }
        guard longest <= 300 else { throw Automaton.TooLarge() }
        var numbers: [Place: Int] = [:]
        var pending: [Place] = []
        func state(_ place: Place) -> Int {
            if let number = numbers[place] { return number }
            let number = states.add()
            numbers[place] = number
            pending.append(place)
            return number
        }
        for length in lower.value.whole.count...longest {
            let first = Place(
                digit: 0, length: length, meetsLower: length == lower.value.whole.count,
                meetsUpper: length == upper?.value.whole.count, isFraction: false)
            states.step(start, state(first))
        }
        while let place = pending.popLast() {
            guard let number = numbers[place] else { continue }
            if place.isFraction || place.digit == place.length {
                let read = place.isFraction ? place.digit : 0
                if !place.isFraction || read > 0 {
                    states.isFinal[number] = isWithin(place, read, lower, upper)
                }
                if !place.isFraction {
                    guard fractionDigits > 0 else { continue }
                    var after = place
                    after.isFraction = true
                    after.digit = 0
                    after.length = 0
                    states.connect(number, CodePointSet("."), state(after))
                    continue
                }
                guard read < fractionDigits else { continue }
            }
            let low = digit(of: lower.value, at: place)
            let high = upper.map { digit(of: $0.value, at: place) } ?? 9
            let leads = !place.isFraction && place.digit == 0 && place.length > 1
            for digit: UInt8 in (leads ? 1 : 0)...9 {
                if place.meetsLower, digit < low { continue }
                if place.meetsUpper, digit > high { continue }
                var after = place
                after.digit += 1
                after.meetsLower = place.meetsLower && digit == low
                after.meetsUpper = place.meetsUpper && digit == high
                states.connect(number, CodePointSet(UInt32(digit) + 0x30), state(after))
            }
        }
    }

    private func digit(of value: Decimal, at place: Place) -> UInt8 {
        let digits = place.isFraction ? value.fraction : value.whole
        return place.digit < digits.count ? digits[place.digit] : 0
    }

    /// Whether the number may end after so many digits of its fraction.
    private func isWithin(_ place: Place, _ read: Int, _ lower: Bound, _ upper: Bound?) -> Bool {
        // A fraction has no zeros at its end, so that what is left of a bound is above zero.
        if place.meetsLower, lower.value.fraction.count > read || lower.isExclusive { return false }
        if let upper, place.meetsUpper, upper.value.fraction.count <= read, upper.isExclusive {
            return false
        }
        return true
    }

    /// Whole numbers that a divisor divides, by the remainder of the digits so far.
    static func multiples(of divisor: Int) throws(Automaton.TooLarge) -> Automaton {
        guard divisor <= Limits.automatonStates else { throw Automaton.TooLarge() }
        var states = Nondeterministic()
        let start = states.add()
        let first = states.add()
        states.connect(start, CodePointSet("-"), first)
        states.step(start, first)
        for _ in 0..<divisor { _ = states.add() }
        for remainder in 0..<divisor {
            for digit in 0...9 {
                let set = CodePointSet(UInt32(digit) + 0x30)
                let target = first + 1 + (10 * remainder + digit) % divisor
                states.connect(first + 1 + remainder, set, target)
                if remainder == 0 { states.connect(first, set, target) }
            }
        }
        states.isFinal[first + 1] = true
        return try Automaton(states, start: start)
    }
}
