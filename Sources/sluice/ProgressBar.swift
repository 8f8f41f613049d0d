/// A bar on stderr while something long runs; silent where stderr is not a terminal.
struct ProgressBar {
    private let label: String
    private let visible = Console.errorIsTerminal
    private var shown = -1

    init(_ label: String) { self.label = label }

    /// Redraws when the share, 0 ... 1, has moved by a hundredth.
    mutating func show(_ share: Double) {
        let percent = Int(max(0, min(1, share)) * 100)
        guard visible, percent != shown else { return }
        shown = percent
        let filled = percent * 30 / 100
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        Console.errorPart("\r\(label) [\(bar)] \(percent) %")
    }

    /// Erases the bar.
    func end() {
        if visible, shown >= 0 { Console.errorPart("\r\u{1B}[2K") }
    }
}
