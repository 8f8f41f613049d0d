import CHost
import Glibc

/// What must be undone when a harness ends, in whatever way: known to the harness and, one step
/// ahead of what it does, to its guard.
///
/// Each duty is one line, its fields separated by tabs:
///
///     group PATH               kill what is in this control group, and remove it
///     process ID START         kill this process group, if its leader still is the one that started then
///     setting PATH VALUE       write this value, the old one, into this file
///     shelter PATH             move the processes of this control group one up, and remove it
///     forget PATH or ID        that has been done
struct GuardDuties {
    enum Duty: Equatable {
        case group(String)
        case process(Int32, start: String)
        case setting(String, old: String)
        case shelter(String)

        var line: String {
            switch self {
            case .group(let path): "group\t\(path)"
            case .process(let id, let start): "process\t\(id)\t\(start)"
            case .setting(let path, let old): "setting\t\(path)\t\(old)"
            case .shelter(let path): "shelter\t\(path)"
            }
        }

        /// What `forget` names it by.
        var name: String {
            switch self {
            case .group(let path), .setting(let path, _), .shelter(let path): path
            case .process(let id, _): "\(id)"
            }
        }
    }

    private(set) var duties: [Duty] = []
    let places: ControlGroupPlaces

    init(places: ControlGroupPlaces) { self.places = places }

    /// Takes a line; returns why not, if it is none that may be obeyed.
    mutating func take(_ line: String) -> String? {
        let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        switch (fields[0], fields.count) {
        case ("group", 2), ("shelter", 2):
            guard places.owns(fields[1]) else {
                return "\(fields[1]) is no control group of a benchmark"
            }
            duties.append(fields[0] == "group" ? .group(fields[1]) : .shelter(fields[1]))
        case ("process", 3):
            guard let id = Int32(fields[1]), id > 1 else { return "\(fields[1]) is no process" }
            duties.append(.process(id, start: fields[2]))
        case ("setting", 3):
            guard fields[1].hasPrefix("/") else { return "\(fields[1]) is no full path" }
            // The first value is the one to come back to.
            if !duties.contains(where: { $0.name == fields[1] }) {
                duties.append(.setting(fields[1], old: fields[2]))
            }
        case ("forget", 2):
            duties.removeAll { $0.name == fields[1] }
        default:
            return "'\(line)' is not understood"
        }
        return nil
    }

    mutating func forget(_ name: String) { duties.removeAll { $0.name == name } }

    /// Does and forgets all of it: first kills, so that nothing is held, then removes groups, then
    /// puts settings back, the last first. Returns a line for each thing that could not be done.
    mutating func discharge() -> [String] {
        for case .group(let path) in duties { ControlGroup.killAll(in: path) }
        for case .process(let id, let start) in duties {
            // An id is not given away while anything is left of its process group; but then it is.
            let now = Self.startTime(of: id)
            if now == nil || now == start { kill(-id, SIGKILL) }
        }
        var complaints: [String] = []
        for case .group(let path) in duties {
            do { try ControlGroup.remove(path, folders: places.folders) } catch {
                complaints.append(error.description)
            }
        }
        complaints += restoreSettings()
        for case .shelter(let path) in duties {
            if let complaint = leave(path) { complaints.append(complaint) }
        }
        duties = []
        return complaints
    }

    /// Does and forgets what regards settings.
    mutating func restoreSettings() -> [String] {
        var complaints: [String] = []
        for case .setting(let path, let old) in duties.reversed() {
            do { try SystemFile.write(old, to: path) } catch {
                // Somebody else needs these controllers by now.
                if error.number == EBUSY, path.hasSuffix("/cgroup.subtree_control") { continue }
                complaints.append("\(path): '\(old)' cannot be put back: \(error.text)")
            }
        }
        duties.removeAll { if case .setting = $0 { true } else { false } }
        return complaints
    }

    private func leave(_ shelter: String) -> String? {
        let parent = shelter[..<(shelter.lastIndex(of: "/") ?? shelter.startIndex)]
        for process in ControlGroup.processes(in: shelter) {
            try? SystemFile.write("\(process)", to: "\(parent)/cgroup.procs")
        }
        guard let error = places.folders.remove(shelter), error.number != ENOENT else { return nil }
        return "\(shelter): the control group is left behind: \(error.text)"
    }

    /// When a process started, in the kernel's ticks: with its id it names one process for good.
    static func startTime(of process: Int32) -> String? {
        guard let text = try? SystemFile.read("/proc/\(process)/stat"),
            // The name may hold blanks and brackets; the third field follows its last bracket.
            let end = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: end)...].words
        return fields.count > 19 ? fields[19] : nil
    }
}
