/// How much memory this process may use: the smallest of what the machine has and what its control
/// groups allow.
///
/// A limit on any ancestor binds as much as one on our own group, and inside a container or a
/// systemd unit the machine's total says nothing. Both generations of cgroups are read (v2:
/// memory.max and memory.high; v1: memory.limit_in_bytes), wherever they are mounted and from
/// inside a cgroup namespace too.
public struct MemoryLimit: Sendable, Equatable {
    public var bytes: Int
    /// Where the figure comes from: "memory.max of /system.slice/sluice.service is 2.00 GiB".
    public var explanation: String

    /// The limit on this machine, now.
    public static func available() -> MemoryLimit {
        let limit = smallest(
            meminfo: SmallFile.read("/proc/meminfo") ?? "",
            cgroups: SmallFile.read("/proc/self/cgroup") ?? "",
            mounts: SmallFile.read("/proc/self/mountinfo", limit: 1 << 20) ?? "",
            read: { SmallFile.read($0, limit: 4096) })
        return limit ?? MemoryLimit(bytes: 1 << 30, explanation: "no /proc: 1.00 GiB assumed")
    }

    /// The smallest limit that these texts state; nil if they state none.
    ///
    /// - Parameters:
    ///   - meminfo: /proc/meminfo.
    ///   - cgroups: /proc/self/cgroup.
    ///   - mounts: /proc/self/mountinfo.
    ///   - read: the text of a file, nil if it is not there.
    static func smallest(
        meminfo: String, cgroups: String, mounts: String, read: (String) -> String?
    ) -> MemoryLimit? {
        var limits: [MemoryLimit] = []
        if let physical = physical(meminfo: meminfo) { limits.append(physical) }
        for directory in groupDirectories(cgroups: cgroups, mounts: mounts) {
            for name in ["memory.max", "memory.high", "memory.limit_in_bytes"] {
                guard let text = read(directory.path + "/" + name), let bytes = limit(text) else {
                    continue
                }
                limits.append(
                    MemoryLimit(
                        bytes: bytes,
                        explanation: "\(name) of control group \(directory.group) is "
                            + ByteSize(bytes: bytes).description))
            }
        }
        return limits.min { $0.bytes < $1.bytes }
    }

    // MARK: The machine

    /// What the machine has available, less a margin for everything else that runs on it: a
    /// sixteenth of its memory, at least 64 MiB and at most 1 GiB.
    ///
    /// Available, not total: memory that others hold cannot be had without swapping them out.
    private static func physical(meminfo: String) -> MemoryLimit? {
        guard let total = kibibytes("MemTotal", in: meminfo) else { return nil }
        let available = min(total, kibibytes("MemAvailable", in: meminfo) ?? total)
        let margin = min(max(total / 16, 64 << 20), 1 << 30)
        return MemoryLimit(
            bytes: max(0, available - margin),
            explanation:
                "\(ByteSize(bytes: available)) of the machine's \(ByteSize(bytes: total)) are "
                + "available, less \(ByteSize(bytes: margin)) for the rest of the system")
    }

    /// A "Name:   123 kB" line, in bytes.
    static func kibibytes(_ name: String, in text: String) -> Int? {
        for line in text.split(separator: "\n") where line.hasPrefix(name + ":") {
            let words = line.dropFirst(name.count + 1).split { $0 == " " || $0 == "\t" }
            guard words.count == 2, words[1] == "kB", let value = plainInteger(words[0]) else {
                return nil
            }
            let (bytes, overflow) = value.multipliedReportingOverflow(by: 1024)
            return overflow ? nil : bytes
        }
        return nil
    }

    // MARK: Control groups

    /// A directory that may hold limits, and the group's name for people.
    struct GroupDirectory: Equatable {
        var path: String
        var group: String
    }

    /// The directories of our group and all its ancestors, of both generations.
    static func groupDirectories(cgroups: String, mounts: String) -> [GroupDirectory] {
        var directories: [GroupDirectory] = []
        for line in cgroups.split(separator: "\n") {
            // "0::/path" for v2, "4:memory:/path" for v1; the path may hold colons.
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let unified = fields[0] == "0" && fields[1].isEmpty
            guard unified || fields[1].split(separator: ",").contains("memory") else { continue }
            for mount in cgroupMounts(mounts) where mount.unified == unified {
                directories += ancestors(of: String(fields[2]), in: mount)
            }
        }
        return directories
    }

    /// A mounted hierarchy that can hold memory limits.
    private struct Mount {
        /// The group that is mounted; "/" or, in a container, perhaps an inner one.
        var root: String
        var point: String
        var unified: Bool
    }

    private static func cgroupMounts(_ mounts: String) -> [Mount] {
        mounts.split(separator: "\n").compactMap { line in
            // id parent major:minor root point options [fields] - type source super-options
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 3 else {
                return nil
            }
            let unified = fields[dash + 1] == "cgroup2"
            let memory =
                fields[dash + 1] == "cgroup"
                && fields[dash + 3].split(separator: ",").contains("memory")
            guard unified || memory else { return nil }
            return Mount(root: unescaped(fields[3]), point: unescaped(fields[4]), unified: unified)
        }
    }

    /// Our group's directory and those above it, down to the mount point.
    private static func ancestors(of group: String, in mount: Mount) -> [GroupDirectory] {
        var names = group.split(separator: "/").map(String.init)
        let rootNames = mount.root.split(separator: "/").map(String.init)
        // Seen from inside a container, the group or the mount's root may lie outside of what we
        // can see ("/.."): then only the mount point itself can be read.
        if names.contains("..") || rootNames.contains("..") || !names.starts(with: rootNames) {
            names = rootNames
        }
        names.removeFirst(min(rootNames.count, names.count))
        return (0...names.count).reversed().map { depth in
            let relative = names[..<depth].map { "/" + $0 }.joined()
            return GroupDirectory(
                path: (mount.point == "/" ? "" : mount.point) + relative,
                group: relative.isEmpty ? "/" : relative)
        }
    }

    /// A limit file's figure; nil for "max" and for v1's way of saying it (a number near 2^63).
    private static func limit(_ text: String) -> Int? {
        let digits = text.prefix { $0 != "\n" }
        guard let bytes = plainInteger(digits), bytes < 1 << 60 else { return nil }
        return bytes
    }

    /// Undoes mountinfo's octal escapes: "\040" is a space.
    private static func unescaped(_ text: Substring) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "\\"), index + 3 < bytes.count,
                let code = UInt8(
                    String(decoding: bytes[index + 1...index + 3], as: UTF8.self), radix: 8)
            {
                result.append(code)
                index += 4
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
