import CHost
import Glibc

/// One process that is measured: in fresh control groups from before its first instruction on, and
/// gone, with all that it started, when the measurement ends, in whatever way.
public struct MeasuredProcess {
    public struct Outcome: Sendable, Equatable {
        /// Its exit code, or 128 + the signal that ended it.
        public var status: Int32
        public var output: [UInt8]
        /// The last 64 KiB of its error output.
        public var errors: [UInt8]
        /// The most that its group held, page cache included; nil without a memory limit, or where
        /// the kernel does not tell (version 2 before Linux 5.19).
        public var groupPeakBytes: Int?
        /// Times that the memory limit stood in the way; nil without one, or where the kernel does
        /// not count them.
        public var limitHits: Int?
        /// Of it and of those it started and waited for.
        public var majorFaults: Int
        /// Its own largest resident size; at least that of the harness when it started it, which
        /// the kernel counts with it.
        public var peakMemoryBytes: Int
        /// That the kernel killed it, or one that it started, because of the memory limit.
        public var wasKilledForMemory: Bool
    }

    /// More output is an error: nobody who measures prints that much.
    static let outputLimitBytes = 16 << 20
    static let keptErrorBytes = 64 << 10

    /// Starts a program, waits for its end, and removes everything that is left of it.
    ///
    /// To be called on a thread that lives as long as the call: the process is killed with it.
    ///
    /// - Parameters:
    ///   - arguments: the program, with its path or a name to be found in PATH, and its arguments.
    ///   - environment: what differs from this process's own environment.
    ///   - limits: nil for none; then a process that it started and that left its process group
    ///     would not be found at the end.
    ///   - timeoutSeconds: after which it is killed.
    /// - Throws: if it cannot be limited or started, prints too much or takes too long, and if
    ///   something was left behind. A program that fails is an outcome.
    public static func run(
        _ arguments: [String], environment: [String: String] = [:], limits: Limits?,
        guardian: Guardian, timeoutSeconds: Double
    ) throws(BenchmarkingError) -> Outcome {
        guard let name = arguments.first, let path = find(name) else {
            throw BenchmarkingError("\(arguments.first ?? "''"): no such program, also not in PATH")
        }
        var groups: [ControlGroup] = []
        if let limits { groups = try guardian.makeGroups(limits) }
        do throws(BenchmarkingError) {
            let outcome = try run(
                path, arguments, environment, groups, guardian, timeoutSeconds: timeoutSeconds)
            try guardian.remove(groups)
            return outcome
        } catch {
            try? guardian.remove(groups)
            throw error
        }
    }

    private static func run(
        _ path: String, _ arguments: [String], _ environment: [String: String],
        _ groups: [ControlGroup], _ guardian: Guardian, timeoutSeconds: Double
    ) throws(BenchmarkingError) -> Outcome {
        var output = try Pipe()
        var errors = try Pipe()
        let child = try start(
            path, arguments, environment, groups, output: output.entry, errors: errors.entry)
        output.closeEntry()
        errors.closeEntry()
        var end = host_end()
        var hasEnded = false
        // Whatever happens from here on, the process is killed and waited for.
        func finish() {
            for group in groups { ControlGroup.killAll(in: group.path) }
            // Its own id stays taken until it has been waited for, its group's until that is empty.
            kill(-child, SIGKILL)
            if !hasEnded { hasEnded = unsafe host_end_of_child(child, 1, &end) != 0 }
            guardian.forget("\(child)")
        }
        do throws(BenchmarkingError) {
            try guardian.register(
                .process(child, start: GuardDuties.startTime(of: child) ?? "?"))
            let time = timeoutSeconds > 0 ? min(timeoutSeconds, 1e9) : 0
            let deadline = host_nanoseconds() + UInt64(time * 1e9)
            while !hasEnded {
                wait(for: output.exit, errors.exit)
                output.drain()
                errors.drain(keepingLast: keptErrorBytes)
                guard output.bytes.count <= outputLimitBytes else {
                    throw BenchmarkingError(
                        "\(path): printed more than \(outputLimitBytes >> 20) MiB and was killed; "
                            + "its output must be a measurement")
                }
                hasEnded = unsafe host_end_of_child(child, 0, &end) != 0
                guard hasEnded || host_nanoseconds() < deadline else {
                    throw BenchmarkingError(
                        "\(path): still ran after \(timeoutSeconds) s and was killed; its last "
                            + "words: '\(lastLine(errors.bytes))'; allow it more time or fewer tokens"
                    )
                }
            }
            // Before the end, which lifts them.
            for group in groups { try group.requireLimits() }
        } catch {
            finish()
            throw error
        }
        finish()
        output.drain()
        errors.drain(keepingLast: keptErrorBytes)
        let memory = groups.first { $0.memoryKills != nil || $0.peakBytes != nil }
        return Outcome(
            status: end.status, output: output.bytes, errors: errors.bytes,
            groupPeakBytes: memory?.peakBytes, limitHits: memory?.limitHits,
            majorFaults: Int(end.major_faults), peakMemoryBytes: Int(end.peak_bytes),
            wasKilledForMemory: (memory?.memoryKills ?? 0) > 0)
    }

    private static func start(
        _ path: String, _ arguments: [String], _ environment: [String: String],
        _ groups: [ControlGroup], output: Int32, errors: Int32
    ) throws(BenchmarkingError) -> Int32 {
        var entries: [Int32] = []
        defer { for entry in entries { close(entry) } }
        for group in groups { entries.append(try group.openForEntry()) }
        var refused: Int32 = -1
        let child = unsafe withCStrings(arguments) { arguments in
            unsafe withCStrings(variables(environment)) { variables in
                unsafe host_start_measured(
                    path, arguments, variables, entries, UInt32(entries.count), output,
                    errors, &refused)
            }
        }
        guard child > 0 else {
            let reason = SystemError(number: -child).text
            throw BenchmarkingError(
                refused >= 0
                    ? "\(groups[Int(refused)].path)/cgroup.procs: a new process cannot enter it: "
                        + reason
                    : "\(path): cannot be started: \(reason)")
        }
        return child
    }

    /// Until one of the two pipes has something, or for a moment: the process may end while another
    /// one holds them.
    private static func wait(for output: Int32, _ errors: Int32) {
        var waiting = [
            pollfd(fd: output, events: Int16(POLLIN), revents: 0),
            pollfd(fd: errors, events: Int16(POLLIN), revents: 0),
        ]
        _ = unsafe poll(&waiting, 2, 20)
    }

    private static func lastLine(_ bytes: [UInt8]) -> String {
        let lines = bytes.split(separator: UInt8(ascii: "\n"))
        return String(decoding: (lines.last ?? []).prefix(200), as: UTF8.self)
    }

    /// This process's environment with changes.
    private static func variables(_ changes: [String: String]) -> [String] {
        var all: [String] = []
        guard var next = unsafe host_environment() else { return [] }
        while let variable = unsafe next.pointee {
            let text = unsafe String(cString: variable)
            let name = String(text.prefix { $0 != "=" })
            if changes[name] == nil { all.append(text) }
            unsafe next += 1
        }
        return all + changes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    }

    /// A program as a shell finds it.
    static func find(_ name: String) -> String? {
        if name.contains("/") { return name }
        let folders = unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? "/usr/bin:/bin"
        guard !name.isEmpty else { return nil }
        for folder in folders.split(separator: ":") {
            if unsafe access("\(folder)/\(name)", X_OK) == 0 { return "\(folder)/\(name)" }
        }
        return nil
    }
}

/// What a process writes, read as it comes.
private struct Pipe: ~Copyable {
    /// Where it is read; -1 once nobody can write any more.
    private(set) var exit: Int32
    /// For the process; -1 once that has it.
    private(set) var entry: Int32
    private(set) var bytes: [UInt8] = []

    init() throws(BenchmarkingError) {
        var ends: (Int32, Int32) = (-1, -1)
        let error = unsafe withUnsafeMutablePointer(to: &ends) {
            unsafe $0.withMemoryRebound(to: Int32.self, capacity: 2) { unsafe host_make_pipe($0) }
        }
        guard error == 0 else {
            throw BenchmarkingError(
                "a measured process cannot be listened to: \(SystemError(number: error).text)")
        }
        self.init(ends)
    }

    private init(_ ends: (Int32, Int32)) { (exit, entry) = ends }

    deinit {
        if exit >= 0 { close(exit) }
        if entry >= 0 { close(entry) }
    }

    mutating func closeEntry() {
        close(entry)
        entry = -1
    }

    /// Takes what is there. What comes faster than it is taken waits for the next call.
    mutating func drain(keepingLast kept: Int = .max) {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        for _ in 0..<64 where exit >= 0 {
            let count = unsafe read(exit, &buffer, buffer.count)
            if count > 0 {
                bytes += buffer[..<count]
                if bytes.count > kept { bytes.removeFirst(bytes.count - kept) }
            } else if count == 0 {
                close(exit)
                exit = -1
            } else if errno != EINTR {
                return
            }
        }
    }
}
