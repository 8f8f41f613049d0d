import CHost

/// A bar on stderr while something long runs; silent where stderr is not a terminal.
struct ProgressBar {
    private let label: String
    private let showsTimeLeft: Bool
    private let visible = Console.errorIsTerminal
    private var shown = -1
    /// When the first share was shown, in nanoseconds, and that share: what an earlier run had done
    /// says nothing about the speed of this one.
    private var start: (nanoseconds: UInt64, share: Double)?

    init(_ label: String, showsTimeLeft: Bool = false) {
        self.label = label
        self.showsTimeLeft = showsTimeLeft
    }

    /// Redraws when the share, 0 ... 1, has moved by a hundredth.
    mutating func show(_ share: Double) {
        let share = max(0, min(1, share))
        let percent = Int(share * 100)
        guard visible, percent != shown else { return }
        shown = percent
        let filled = percent * 30 / 100
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        Console.errorPart("\r\u{1B}[2K\(label) [\(bar)] \(percent) %\(timeLeft(share))")
    }

    private mutating func timeLeft(_ share: Double) -> String {
        guard showsTimeLeft else { return "" }
        let now = host_nanoseconds()
        guard let start else {
            start = (now, share)
            return ""
        }
        guard share > start.share else { return "" }
        let elapsed = Double(now - start.nanoseconds) / 1e9
        let left = Int(elapsed / (share - start.share) * (1 - share))
        guard left >= 60 else { return ", \(left) s left" }
        return left >= 3600
            ? ", \(left / 3600) h \(left % 3600 / 60) min left" : ", \(left / 60) min left"
    }

    /// Erases the bar.
    func end() {
        if visible, shown >= 0 { Console.errorPart("\r\u{1B}[2K") }
    }
}
