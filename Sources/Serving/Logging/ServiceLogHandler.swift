import CHost
import Glibc
public import Logging
import Synchronization

/// Where a service's log goes: to journald with its fields, if that is what listens to this process,
/// else to standard error.
///
/// journald's native protocol is one datagram per entry with lines `NAME=value`, or, for values of
/// several lines, the name, a newline, 64 bits of length in little-endian, and the value. Metadata
/// become fields: `request-id` is SLUICE_REQUEST_ID.
public struct ServiceLogHandler: LogHandler {
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    private let output: LogOutput

    init(_ output: LogOutput) { self.output = output }

    /// One level for all loggers of a service, which a reload may change.
    public var logLevel: Logger.Level {
        get { output.level }
        set { output.level = newValue }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var fields = metadata
        if let provided = metadataProvider?.get() { fields.merge(provided) { $1 } }
        if let own = event.metadata { fields.merge(own) { $1 } }
        output.write(
            level: event.level, message: "\(event.message)",
            fields: fields.map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 },
            code: (event.file, event.function, event.line))
    }
}

/// The place log entries are written to.
final class LogOutput: Sendable {
    /// How entries look.
    enum Form: Sendable, Equatable {
        /// Datagrams to the socket at this path.
        case journal(String)
        /// Lines with syslog's number in front, which journald understands on a unit's stderr.
        case numbered
        /// Lines for people.
        case plain
    }

    let form: Form
    private let descriptor: Int32
    private let levelNumber: Atomic<Int>

    /// - Parameters:
    ///   - level: Entries below it are dropped.
    ///   - descriptor: Of standard error; another one in tests.
    init(form: Form, level: Logger.Level, descriptor: Int32 = 2) {
        self.form = form
        levelNumber = Atomic(LogOutput.number(of: level))
        if case .journal = form {
            self.descriptor = host_datagram_socket()
        } else {
            self.descriptor = descriptor
        }
    }

    var level: Logger.Level {
        get { Logger.Level.allCases[levelNumber.load(ordering: .relaxed)] }
        set { levelNumber.store(LogOutput.number(of: newValue), ordering: .relaxed) }
    }

    private static func number(of level: Logger.Level) -> Int {
        Logger.Level.allCases.firstIndex(of: level) ?? 0
    }

    /// What this process should use. JOURNAL_STREAM holds device and inode of the stream that
    /// journald gave it as stderr (systemd.exec(5)); somebody who redirects stderr gets text there.
    static func form(environment: (String) -> String?) -> Form {
        guard let stream = environment("JOURNAL_STREAM") else { return .plain }
        var status = stat()
        guard unsafe fstat(2, &status) == 0, stream == "\(status.st_dev):\(status.st_ino)" else {
            return .plain
        }
        let path = "/run/systemd/journal/socket"
        return unsafe access(path, W_OK) == 0 ? .journal(path) : .numbered
    }

    func write(
        level: Logger.Level, message: String, fields: [(name: String, value: String)],
        code: (file: String, function: String, line: UInt)
    ) {
        let priority = LogOutput.priority(of: level)
        switch form {
        case .journal(let path):
            let entry = LogOutput.journalEntry(
                priority: priority, message: message, fields: fields, code: code)
            // An entry that journald does not take is lost: there is no other place for it.
            _ = unsafe entry.withUnsafeBytes {
                unsafe host_send_datagram(descriptor, path, $0.baseAddress, $0.count)
            }
        case .numbered, .plain:
            var line = form == .numbered ? "<\(priority)>" : "sluice: "
            if form == .plain, priority <= 4 { line += "\(level): " }
            line += message
            for (name, value) in fields { line += " \(name)=\(LogOutput.oneLine(value))" }
            let bytes = Array((LogOutput.oneLine(line) + "\n").utf8)
            _ = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
        }
    }

    /// A value as it may stand in a line: a newline in it must not begin an entry of its own.
    private static func oneLine(_ text: String) -> String {
        var line = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            line.append(scalar.value < 0x20 || scalar.value == 0x7F ? " " : scalar)
        }
        return String(line)
    }

    static func journalEntry(
        priority: Int, message: String, fields: [(name: String, value: String)],
        code: (file: String, function: String, line: UInt)
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        func add(_ name: String, _ value: String) {
            bytes.append(contentsOf: name.utf8)
            if value.utf8.contains(UInt8(ascii: "\n")) {
                bytes.append(UInt8(ascii: "\n"))
                let count = UInt64(value.utf8.count)
                for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: count >> (8 * shift))) }
            } else {
                bytes.append(UInt8(ascii: "="))
            }
            bytes.append(contentsOf: value.utf8)
            bytes.append(UInt8(ascii: "\n"))
        }
        add("MESSAGE", message)
        add("PRIORITY", "\(priority)")
        add("SYSLOG_IDENTIFIER", "sluice")
        add("CODE_FILE", code.file)
        add("CODE_FUNC", code.function)
        add("CODE_LINE", "\(code.line)")
        for (name, value) in fields { add(fieldName(name), value) }
        return bytes
    }

    /// `prompt-tokens` is SLUICE_PROMPT_TOKENS: journald takes capitals, digits and underscores.
    private static func fieldName(_ name: String) -> String {
        "SLUICE_"
            + String(
                name.uppercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
    }

    /// syslog's numbers (RFC 5424, section 6.2.1).
    private static func priority(of level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
