import Glibc

/// Lines of standard input, from a terminal or not, with signals between them.
///
/// A terminal keeps its own editing of lines, one at a time and of at most 4095 bytes. What is changed
/// while this is in use: it marks what is pasted, and does not print control characters as `^C` (nor
/// those marks).
final class ChatInput {
    enum Event {
        case line(String)
        case end
        case signal(Int32)
    }

    let isTerminal = isatty(0) == 1
    private let signals: Signals
    private var bytes: [UInt8] = []
    private var hasEnded = false
    private var settings: termios?

    init(_ signals: Signals) {
        self.signals = signals
        guard isTerminal else { return }
        var settings = termios()
        guard unsafe tcgetattr(0, &settings) == 0 else { return }
        self.settings = settings
        settings.c_lflag &= ~tcflag_t(ECHOCTL)
        _ = unsafe tcsetattr(0, TCSADRAIN, &settings)
        Console.errorPart("\u{1B}[?2004h")
    }

    /// Gives the terminal back as it was.
    deinit {
        guard var settings else { return }
        Console.errorPart("\u{1B}[?2004l")
        _ = unsafe tcsetattr(0, TCSADRAIN, &settings)
    }

    /// The next line without its end, or a signal if one comes first. Bytes that are no UTF-8 become
    /// replacement characters.
    func next() throws -> Event {
        while true {
            if let end = bytes.firstIndex(of: 0x0A) {
                let line = bytes[..<end]
                bytes.removeFirst(end + 1)
                return .line(
                    String(decoding: line.last == 0x0D ? line.dropLast() : line, as: UTF8.self))
            }
            if hasEnded {
                defer { bytes = [] }
                return bytes.isEmpty ? .end : .line(String(decoding: bytes, as: UTF8.self))
            }
            if case .signal(let number) = signals.wait(for: 0) { return .signal(number) }
            try read()
        }
    }

    /// Waits until `descriptor` can be read, or a signal comes.
    func wait(for descriptor: Int32) -> Signals.Event { signals.wait(for: descriptor) }

    /// Longest line taken: far beyond any context.
    private static let limitBytes = 64 << 20

    private func read() throws {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe chunk.withUnsafeMutableBytes { buffer in
            unsafe Glibc.read(0, buffer.baseAddress!, buffer.count)
        }
        if count < 0 {
            if errno == EINTR || errno == EAGAIN { return }
            throw InputError(
                "standard input: cannot be read: \(Console.reason())", code: Failure.noInput)
        }
        hasEnded = count == 0
        bytes.append(contentsOf: chunk[..<count])
        guard bytes.count <= Self.limitBytes else {
            throw InputError(
                "standard input: a line longer than \(Self.limitBytes >> 20) MiB; give less text",
                code: Failure.badData)
        }
    }
}
