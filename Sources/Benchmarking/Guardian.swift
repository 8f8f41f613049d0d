import CHost
import Glibc

/// A second process, in a session of its own, that outlives a killed harness just long enough to
/// kill what it started, to remove its control groups and to put changed settings back.
///
/// The two are joined by a socket. Before the harness does a thing it says how to undo it, and waits
/// until the guard has said "ok": see `GuardDuties`. When the socket closes the guard does what is
/// left to do: nothing after an orderly end. If the guard is killed too, the groups are found by the
/// next harness, which removes them when it begins.
public final class Guardian {
    let places: ControlGroupPlaces
    private var duties: GuardDuties
    private var channel: Int32
    private var unread: [UInt8] = []
    /// 0 for a guard that is no child.
    private let process: Int32

    /// Starts the guard and removes what harnesses left that were killed together with theirs.
    ///
    /// - Parameters:
    ///   - executable: path of a program, "/proc/self/exe" for this one.
    ///   - arguments: its arguments without its name; with them it must call `serve(descriptor: 0)`.
    /// - Throws: if the program cannot be started or does not answer as a guard.
    public convenience init(executable: String, arguments: [String]) throws(BenchmarkingError) {
        var ends: (Int32, Int32) = (-1, -1)
        let error = unsafe withUnsafeMutablePointer(to: &ends) {
            unsafe $0.withMemoryRebound(to: Int32.self, capacity: 2) {
                unsafe host_make_channel($0)
            }
        }
        guard error == 0 else {
            throw BenchmarkingError(
                "the guard of the benchmark cannot be reached: \(SystemError(number: error).text)")
        }
        let process = unsafe withCStrings([executable] + arguments) {
            unsafe host_start_guard(executable, $0, ends.1)
        }
        // Now that the guard alone has this end, its end is seen at ours.
        Glibc.close(ends.1)
        guard process > 0 else {
            Glibc.close(ends.0)
            throw BenchmarkingError(
                "\(executable): cannot be started to guard the benchmark: "
                    + SystemError(number: -process).text)
        }
        try self.init(channel: ends.0, process: process, places: .ofThisMachine())
    }

    /// - Parameter channel: one end of a socket, owned from now on, at whose other end a guard serves.
    init(
        channel: Int32, process: Int32 = 0, places: ControlGroupPlaces
    ) throws(BenchmarkingError) {
        self.channel = channel
        self.process = process
        self.places = places
        duties = GuardDuties(places: places)
        let greeting = nextLine()
        guard greeting == Self.greeting else {
            if process > 0 { kill(process, SIGKILL) }
            close()
            throw BenchmarkingError(
                "the guard of the benchmark does not answer; it must run 'sluice bench guard'")
        }
        for group in places.staleGroups() {
            do { try ControlGroup.remove(group, folders: places.folders, withinSeconds: 5) } catch {
                Self.complain([error.description])
            }
        }
    }

    deinit { close() }

    /// Writes a value into a file of settings, such as a disk's read_ahead_kb. The old one comes back
    /// with `restoreSettings`, `close` or `deinit`, and also if this process is killed.
    ///
    /// - Parameter path: full path of a file of one line, which reads as it is written.
    public func setting(_ path: String, to value: String) throws(BenchmarkingError) {
        guard let old = SystemFile.line(path) else {
            throw BenchmarkingError("\(path): cannot be read; is there such a setting?")
        }
        guard old != value else { return }
        let wasChanged = duties.duties.contains { $0.name == path }
        try register(.setting(path, old: old))
        do {
            try SystemFile.write(value, to: path)
        } catch {
            if !wasChanged { forget(path) }
            throw BenchmarkingError(
                "\(path): cannot be set to '\(value)': \(error.text); run as root")
        }
    }

    /// Puts all settings back.
    public func restoreSettings() {
        let names = duties.duties.compactMap { duty -> String? in
            if case .setting(let path, _) = duty { path } else { nil }
        }
        Self.complain(duties.restoreSettings())
        for name in names { try? tell("forget\t\(name)") }
    }

    /// Undoes all that is not yet undone, and ends the guard. Further calls do nothing.
    public func close() {
        guard channel >= 0 else { return }
        let names = duties.duties.map(\.name)
        Self.complain(duties.discharge())
        for name in names { try? tell("forget\t\(name)") }
        Glibc.close(channel)
        channel = -1
        if process > 0 {
            var end = host_end()
            _ = unsafe host_end_of_child(process, 1, &end)
        }
    }

    // What a measured process needs.

    func register(_ duty: GuardDuties.Duty) throws(BenchmarkingError) {
        if let refusal = duties.take(duty.line) { throw BenchmarkingError(refusal) }
        try tell(duty.line)
    }

    /// To be called when that has been undone.
    func forget(_ name: String) {
        duties.forget(name)
        // A guard that is gone knows nothing to forget.
        try? tell("forget\t\(name)")
    }

    /// Makes the groups that limits need; the guard knows of each before it is there.
    func makeGroups(_ limits: Limits) throws(BenchmarkingError) -> [ControlGroup] {
        var groups: [ControlGroup] = []
        do throws(BenchmarkingError) {
            for plan in try ControlGroup.plans(limits, places: places) {
                try enable(plan.controllersToEnable, in: plan.place)
                try register(.group(plan.path))
                do throws(BenchmarkingError) {
                    groups.append(try ControlGroup(making: plan, folders: places.folders))
                } catch {
                    // What could not be removed again is tried once more at the end.
                    if !SystemFile.exists(plan.path) { forget(plan.path) }
                    throw error
                }
            }
        } catch {
            try? remove(groups)
            throw error
        }
        return groups
    }

    /// Kills what is in groups, and removes them.
    func remove(_ groups: [ControlGroup]) throws(BenchmarkingError) {
        var first: BenchmarkingError?
        for group in groups {
            do throws(BenchmarkingError) {
                try group.remove()
                forget(group.path)
            } catch { first = first ?? error }
        }
        if let first { throw first }
    }

    /// Lets groups in a place of version 2 be limited, as long as this guardian lives.
    private func enable(
        _ controllers: [String], in place: ControlGroupPlaces.Place
    ) throws(BenchmarkingError) {
        guard !controllers.isEmpty else { return }
        if place.isOwn { try takeShelter(in: place.folder) }
        let file = "\(place.folder)/cgroup.subtree_control"
        try register(.setting(file, old: controllers.map { "-\($0)" }.joined(separator: " ")))
        do {
            try SystemFile.write(controllers.map { "+\($0)" }.joined(separator: " "), to: file)
        } catch {
            forget(file)
            throw BenchmarkingError(
                "\(file): the kernel refused \(controllers.joined(separator: " and ")): "
                    + "\(error.text); \(ControlGroupPlaces.remedy)")
        }
    }

    /// Moves this process and its guard out of a group and one down, where they are in nobody's way.
    private func takeShelter(in folder: String) throws(BenchmarkingError) {
        let shelter = "\(folder)/\(ControlGroupPlaces.prefix)\(getpid())-harness"
        guard !SystemFile.exists(shelter) else { return }
        try register(.shelter(shelter))
        if let error = places.folders.make(shelter) {
            forget(shelter)
            throw BenchmarkingError("\(shelter): the control group cannot be made: \(error.text)")
        }
        for process in ControlGroup.processes(in: folder) {
            do {
                try SystemFile.write("\(process)", to: "\(shelter)/cgroup.procs")
            } catch {
                // It may have ended.
                if error.number == ESRCH { continue }
                throw BenchmarkingError(
                    "\(shelter): process \(process) cannot be moved into it: \(error.text)")
            }
        }
    }

    // The socket.

    static let greeting = "ready"
    static let agreement = "ok"

    private func tell(_ line: String) throws(BenchmarkingError) {
        guard !line.contains("\n") else {
            throw BenchmarkingError("'\(line)': a path with a line end cannot be guarded")
        }
        let bytes = Array("\(line)\n".utf8)
        guard channel >= 0, unsafe host_send(channel, bytes, bytes.count) == bytes.count,
            let answer = nextLine()
        else {
            throw BenchmarkingError(
                "the guard of the benchmark has ended: nothing would clean up if this process were "
                    + "killed; start again")
        }
        guard answer == Self.agreement else {
            throw BenchmarkingError("the guard of the benchmark refuses: \(answer)")
        }
    }

    /// The guard's next line; nil if it has ended, or has said nothing for half a minute.
    private func nextLine() -> String? {
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: unread[..<end], as: UTF8.self)
                unread.removeSubrange(...end)
                return line
            }
            var waiting = pollfd(fd: channel, events: Int16(POLLIN), revents: 0)
            let ready = unsafe poll(&waiting, 1, 30_000)
            if ready < 0 && errno == EINTR { continue }
            guard ready > 0, let bytes = Self.read(channel), !bytes.isEmpty else { return nil }
            unread += bytes
        }
    }

    /// What can be read, after waiting for it; empty at the end, nil on an error.
    fileprivate static func read(_ descriptor: Int32) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe Glibc.read(descriptor, &buffer, buffer.count)
            if count >= 0 { return Array(buffer[..<count]) }
            if errno != EINTR { return nil }
        }
    }

    fileprivate static func complain(_ complaints: [String]) {
        for complaint in complaints {
            let bytes = Array("sluice: bench: \(complaint)\n".utf8)
            _ = unsafe Glibc.write(2, bytes, bytes.count)
        }
    }

    // The guard's side.

    /// The body of the guard: takes lines until its harness ends, then does what that left undone.
    ///
    /// Ends the process: with status 0, or with 1 if something is left behind, which it names on the
    /// standard error output.
    public static func serve(descriptor: Int32) -> Never {
        for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
        let complaints = serve(descriptor: descriptor, places: .ofThisMachine())
        complain(complaints)
        exit(complaints.isEmpty ? 0 : 1)
    }

    static func serve(descriptor: Int32, places: ControlGroupPlaces) -> [String] {
        var duties = GuardDuties(places: places)
        var unread: [UInt8] = []
        answer(greeting, on: descriptor)
        while let bytes = read(descriptor), !bytes.isEmpty {
            unread += bytes
            while let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: unread[..<end], as: UTF8.self)
                unread.removeSubrange(...end)
                answer(duties.take(line) ?? agreement, on: descriptor)
            }
        }
        return duties.discharge()
    }

    private static func answer(_ line: String, on descriptor: Int32) {
        let bytes = Array("\(line)\n".utf8)
        _ = unsafe host_send(descriptor, bytes, bytes.count)
    }
}

/// Calls `body` with strings as C wants them, and NULL behind the last.
func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    let pointers = unsafe strings.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    return unsafe pointers.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
}
