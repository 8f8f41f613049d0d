internal import Glibc

/// Turns a figure into a place on the drawing, and knows which figures to write beside the axis.
struct Axis {
    enum Kind { case linear, logarithmic }

    struct Tick {
        var value: Double
        var label: String
    }

    /// Figures from here on are not drawn: nothing measured comes near, and a scale over them would
    /// leave the range of a number.
    private static let largest = 1e18

    let kind: Kind
    /// What lies at `start` and at `end`; never equal.
    let low: Double
    let high: Double
    let start: Double
    let end: Double
    /// Between the ticks of a linear axis, of which `low` is a multiple; nil to choose.
    var step: Double?

    /// Over 0 and all of `values`, from one round figure to another.
    static func fromZero(_ values: [Double], start: Double, end: Double) -> Axis {
        let usable = values.filter { $0.magnitude < largest }
        let least = min(usable.min() ?? 0, 0)
        var greatest = max(usable.max() ?? 0, 0)
        if least == greatest { greatest = 1 }
        let step = roundStep(greatest - least)
        return Axis(
            kind: .linear, low: (least / step + 1e-9).rounded(.down) * step,
            high: (greatest / step - 1e-9).rounded(.up) * step, start: start, end: end, step: step)
    }

    /// Over all of `values`, which are above 0, with room at both ends.
    static func logarithmic(_ values: [Double], start: Double, end: Double) -> Axis {
        let usable = values.filter { $0 > 1 / Axis.largest && $0 < Axis.largest }
        let least = usable.min() ?? 1
        let greatest = usable.max() ?? 1
        // At least a factor of 1.5 in all, so that equal figures stand in the middle.
        let slack = max(1.04, 1.5 / (greatest / least).squareRoot())
        return Axis(
            kind: .logarithmic, low: least / slack, high: greatest * slack, start: start, end: end)
    }

    /// Where `value` lies; a figure outside is put on the nearer end.
    func place(_ value: Double) -> Double {
        let share: Double
        switch kind {
        case .linear: share = (value - low) / (high - low)
        case .logarithmic: share = value <= 0 ? 0 : log(value / low) / log(high / low)
        }
        return start + (end - start) * min(max(share.isFinite ? share : 0, 0), 1)
    }

    /// Round figures along the axis: four to seven on a linear one, 1-2-5 on a logarithmic one.
    var ticks: [Tick] {
        switch kind {
        case .linear:
            let step = step ?? Axis.roundStep(high - low)
            let first = (low / step).rounded()
            let count = min(max(Int(((high - low) / step).rounded()), 1), 10)
            return (0...count).map {
                let value = (first + Double($0)) * step
                return Tick(value: value, label: Axis.label(value, step: step))
            }
        case .logarithmic:
            let decades = Int(max(log10(low), -300).rounded(.down))...Int(log10(high).rounded(.up))
            let factors: [Double] = decades.count > 4 ? [1] : [1, 2, 5]
            return decades.flatMap { decade in factors.map { $0 * pow(10, Double(decade)) } }
                .filter { $0 >= low && $0 <= high }
                .map { Tick(value: $0, label: Axis.label($0, step: $0)) }
        }
    }

    /// What the labels take beside a vertical axis, `suffix` behind each.
    func labelWidth(suffix: String = "") -> Double {
        Double(ticks.map(\.label.count).max() ?? 0) * Drawing.letterWidth
            + Double(suffix.count) * Drawing.letterWidth
    }

    /// 1, 2 or 5 times a power of ten, of which three to seven make `length`.
    static func roundStep(_ length: Double) -> Double {
        let power = pow(10, log10(max(length, 1e-300) / 4).rounded(.down))
        let rest = length / 4 / power
        return power * (rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10)
    }

    private static func label(_ value: Double, step: Double) -> String {
        guard value != 0 else { return "0" }
        let decimals = min(max(Int(-log10(step).rounded(.down)), 0), 6)
        return Figure.fixed(value, decimals)
    }
}
