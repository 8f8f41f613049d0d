/// How much memory this process has taken, and how often it had to wait for a page of it, as the
/// kernel counts it.
public struct ProcessMemory: Sendable, Equatable {
    /// Resident set, in bytes.
    public var residentBytes: Int
    /// Figure of our control group, in bytes, with the page cache it filled; nil if there is none
    /// that can be read. Counts every process of the group.
    public var groupBytes: Int?
    /// Page faults that had to read from a disk: under pressure code, and memory if there is swap.
    public var majorFaults: Int

    /// The peaks so far; nil without /proc.
    public static func peak() -> ProcessMemory? {
        read("VmHWM", ofGroup: ["memory.peak", "memory.max_usage_in_bytes"])
    }

    /// The figures of this moment; nil without /proc.
    public static func current() -> ProcessMemory? {
        read("VmRSS", ofGroup: ["memory.current", "memory.usage_in_bytes"])
    }

    private static func read(_ name: String, ofGroup names: [String]) -> ProcessMemory? {
        guard let status = SmallFile.read("/proc/self/status"),
            let resident = MemoryLimit.kibibytes(name, in: status),
            let faults = majorFaults(stat: SmallFile.read("/proc/self/stat") ?? "")
        else { return nil }
        return ProcessMemory(
            residentBytes: resident,
            groupBytes: groupFigure(
                names, cgroups: SmallFile.read("/proc/self/cgroup") ?? "",
                mounts: SmallFile.read("/proc/self/mountinfo", limit: 1 << 20) ?? "",
                read: { SmallFile.read($0, limit: 4096) }),
            majorFaults: faults)
    }

    /// The twelfth field of /proc/self/stat. The second is the program's name in parentheses, which
    /// may hold anything.
    static func majorFaults(stat: String) -> Int? {
        guard let end = stat.utf8.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = stat[stat.utf8.index(after: end)...].split(separator: " ")
        return fields.count > 9 ? plainInteger(fields[9]) : nil
    }

    /// The figure of the innermost group that has a file of one of these names.
    static func groupFigure(
        _ names: [String], cgroups: String, mounts: String, read: (String) -> String?
    ) -> Int? {
        for directory in MemoryLimit.groupDirectories(cgroups: cgroups, mounts: mounts) {
            for name in names {
                guard let text = read(directory.path + "/" + name) else { continue }
                if let bytes = plainInteger(text.prefix { $0 != "\n" }) { return bytes }
            }
        }
        return nil
    }
}
