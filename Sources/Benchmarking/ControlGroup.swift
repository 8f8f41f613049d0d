import CHost
import Glibc

/// A control group that limits one measured process and all that it starts.
struct ControlGroup: Sendable {
    /// A group to be made.
    struct Plan: Sendable {
        var place: ControlGroupPlaces.Place
        var path: String
        var memoryBytes: Int?
        /// Of the disk "259:0".
        var disk: (number: String, bytesPerSecond: Int)?

        /// What version 2 must be told before groups in this place can be limited.
        var controllersToEnable: [String] {
            let wanted = (memoryBytes == nil ? [] : ["memory"]) + (disk == nil ? [] : ["io"])
            let have = SystemFile.line("\(place.folder)/cgroup.subtree_control") ?? ""
            return place.version == 1 ? [] : wanted.filter { !have.words.contains($0) }
        }
    }

    /// The groups that limits need: one, or two where each controller has a tree of its own.
    static func plans(
        _ limits: Limits, places: ControlGroupPlaces
    ) throws(BenchmarkingError) -> [Plan] {
        let name = "\(ControlGroupPlaces.prefix)\(getpid())-\(host_nanoseconds())"
        var plans: [Plan] = []
        if let bytes = limits.memoryBytes {
            // Less than this and not even the program's own pages fit.
            guard bytes >= 1 << 20 else {
                throw BenchmarkingError("memory limit of \(bytes) bytes: must be at least 1 MiB")
            }
            let place = try places.place(for: .memory)
            let path = "\(place.folder)/\(name)"
            plans.append(Plan(place: place, path: path, memoryBytes: bytes))
        }
        if let rate = limits.diskBytesPerSecond {
            guard rate >= 1, rate <= 1e15 else {
                throw BenchmarkingError("disk limit of \(rate) bytes/s: must be from 1 to 1e15")
            }
            guard let device = BlockDevice(holding: limits.diskPath) else {
                throw BenchmarkingError(
                    "\(limits.diskPath): is on no block device whose speed can be limited (tmpfs, "
                        + "overlay, network?); put it on a local disk")
            }
            let place = try places.place(for: .disk)
            let disk = (device.number, Int(rate))
            if place.version == 2, plans.first?.place == place {
                plans[0].disk = disk
            } else {
                plans.append(Plan(place: place, path: "\(place.folder)/\(name)", disk: disk))
            }
        }
        return plans
    }

    let path: String
    private let version: Int
    private let memoryLimitBytes: Int?
    private let folders: ControlGroupPlaces.Folders
    /// What the files of the limits held when they were set.
    private var limits: [(file: String, text: String)] = []

    /// Makes the group and sets its limits; on an error nothing is left of it.
    init(making plan: Plan, folders: ControlGroupPlaces.Folders) throws(BenchmarkingError) {
        path = plan.path
        version = plan.place.version
        memoryLimitBytes = plan.memoryBytes
        self.folders = folders
        if let error = folders.make(plan.path) {
            throw BenchmarkingError(
                "\(plan.path): the control group cannot be made: \(error.text); "
                    + ControlGroupPlaces.remedy)
        }
        do throws(BenchmarkingError) {
            if let bytes = plan.memoryBytes { try limitMemory(bytes) }
            if let disk = plan.disk { try limitDisk(disk.number, disk.bytesPerSecond) }
        } catch {
            try? remove()
            throw error
        }
    }

    private mutating func limitMemory(_ bytes: Int) throws(BenchmarkingError) {
        let file = version == 1 ? "memory.limit_in_bytes" : "memory.max"
        try set(file, "\(bytes)")
        // Rounded down to whole pages.
        let set = SystemFile.line("\(path)/\(file)") ?? ""
        guard let now = Int(set), now <= bytes, now > bytes - (1 << 16) else {
            throw BenchmarkingError(
                "\(path)/\(file): the kernel made \(set) of a limit of \(bytes) bytes")
        }
        // No swap: memory and swap together, or swap alone, or at least no wish to swap.
        let swap =
            version == 1
            ? [("memory.memsw.limit_in_bytes", "\(bytes)"), ("memory.swappiness", "0")]
            : [("memory.swap.max", "0")]
        if let (file, value) = swap.first(where: { SystemFile.exists("\(path)/\($0.0)") }) {
            try self.set(file, value)
        }
        limits.append((file, set))
    }

    private mutating func limitDisk(_ number: String, _ rate: Int) throws(BenchmarkingError) {
        let file = version == 1 ? "blkio.throttle.read_bps_device" : "io.max"
        try set(file, version == 1 ? "\(number) \(rate)" : "\(number) rbps=\(rate)")
        let set = SystemFile.line("\(path)/\(file)") ?? ""
        let words = set.words
        guard words.first == number,
            words.contains(version == 1 ? "\(rate)" : "rbps=\(rate)")
        else {
            throw BenchmarkingError(
                "\(path)/\(file): the kernel made '\(set)' of \(rate) bytes/s of disk \(number)")
        }
        limits.append((file, set))
    }

    private func set(_ file: String, _ value: String) throws(BenchmarkingError) {
        do {
            try SystemFile.write(value, to: "\(path)/\(file)")
        } catch {
            throw BenchmarkingError(
                "\(path)/\(file): the kernel refused the limit '\(value)': \(error.text)")
        }
    }

    /// Fails if somebody else has changed or taken away a limit meanwhile.
    func requireLimits() throws(BenchmarkingError) {
        for (file, text) in limits {
            let now = SystemFile.line("\(path)/\(file)")
            guard now == text else {
                throw BenchmarkingError(
                    "\(path)/\(file): was '\(text)' and became '\(now ?? "nothing")' during the "
                        + "run, which therefore does not count; see that no other program manages "
                        + "this group, then measure again")
            }
        }
    }

    /// An open cgroup.procs: who writes 0 to it is in the group.
    func openForEntry() throws(BenchmarkingError) -> Int32 {
        let descriptor = unsafe open("\(path)/cgroup.procs", O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw BenchmarkingError("\(path)/cgroup.procs: \(SystemError.last.text)")
        }
        return descriptor
    }

    // Figures, of a group that limits memory; nil where the kernel does not tell.

    /// The most that the group ever held, page cache included.
    var peakBytes: Int? {
        guard memoryLimitBytes != nil else { return nil }
        let file = version == 1 ? "memory.max_usage_in_bytes" : "memory.peak"
        return SystemFile.line("\(path)/\(file)").flatMap { Int($0) }
    }

    /// Times that memory was asked for and had to be freed first; nil also where the kernel does not
    /// count them.
    var limitHits: Int? {
        guard memoryLimitBytes != nil else { return nil }
        guard version == 1 else { return value(of: "max", in: "memory.events") }
        // With no swap the limit on both is met first, and is then the one that counts.
        let hits = ["memory.failcnt", "memory.memsw.failcnt"].reduce(0) { sum, file in
            sum + (SystemFile.line("\(path)/\(file)").flatMap { Int($0) } ?? 0)
        }
        if hits > 0 { return hits }
        // Some kernels (6.18) have the files and never count: then only a peak well below tells.
        let limit = memoryLimitBytes ?? 0
        return (peakBytes ?? .max) < limit - limit / 64 ? 0 : nil
    }

    /// Processes that the kernel killed for want of memory.
    var memoryKills: Int? {
        guard memoryLimitBytes != nil else { return nil }
        return value(of: "oom_kill", in: version == 1 ? "memory.oom_control" : "memory.events")
    }

    private func value(of key: String, in file: String) -> Int? {
        let text = (try? SystemFile.read("\(path)/\(file)")) ?? ""
        for line in text.split(separator: "\n") where line.hasPrefix("\(key) ") {
            return Int(line.dropFirst(key.count + 1))
        }
        return nil
    }

    // The end of a group.

    /// Kills what is in the group and removes it.
    func remove() throws(BenchmarkingError) { try Self.remove(path, folders: folders) }

    /// As `remove`, of any group; one that is already gone is no error.
    static func remove(
        _ path: String, folders: ControlGroupPlaces.Folders, withinSeconds time: Double = 20
    ) throws(BenchmarkingError) {
        let deadline = host_nanoseconds() + UInt64(time * 1e9)
        var refusal: SystemError
        repeat {
            killAll(in: path)
            // Pages that version 1 still charges to it would outlive the group.
            try? SystemFile.write("1", to: "\(path)/memory.force_empty")
            guard let error = folders.remove(path), error.number != ENOENT else { return }
            refusal = error
            usleep(10_000)
            // Only a group that is in use may be free in a moment.
        } while refusal.number == EBUSY && host_nanoseconds() < deadline
        throw BenchmarkingError(
            "\(path): the control group is left behind: \(refusal.text); "
                + "end the processes in its cgroup.procs, then remove it with rmdir")
    }

    /// Kills every process in a group. Some may have started others meanwhile: ask again.
    static func killAll(in path: String) {
        let processes = processes(in: path)
        guard !processes.isEmpty else { return }
        // A process that waits for a throttled disk ends only when its reads have: let them go.
        for (file, free) in [("blkio.throttle.read_bps_device", "0"), ("io.max", "rbps=max")] {
            for line in ((try? SystemFile.read("\(path)/\(file)")) ?? "").split(separator: "\n") {
                guard let number = line.split(separator: " ").first else { continue }
                try? SystemFile.write("\(number) \(free)", to: "\(path)/\(file)")
            }
        }
        if (try? SystemFile.write("1", to: "\(path)/cgroup.kill")) != nil { return }
        for process in processes where process != getpid() { kill(process, SIGKILL) }
    }

    /// Processes in a group. One that this process may not see reads as 0, and is left out: to kill
    /// 0 is to kill oneself.
    static func processes(in path: String) -> [Int32] {
        let text = (try? SystemFile.read("\(path)/cgroup.procs")) ?? ""
        return text.split(separator: "\n").compactMap { Int32($0) }.filter { $0 > 1 }
    }
}
