import CHost
import Glibc

/// Where on this machine control groups can be made, and of what version, by what they limit.
///
/// Version 1 has a tree for each controller, version 2 has one for all; some machines have both. In
/// version 2 a group that holds processes cannot have limited groups below it, except the root of
/// all. Whoever is not root works below the group it was started in, which must have been given to
/// it, and moves itself one group down to make that empty.
struct ControlGroupPlaces: Sendable {
    enum Controller: String, Sendable {
        case memory
        case disk = "io"

        fileprivate var firstVersionName: String { self == .memory ? "memory" : "blkio" }
        /// A file that is there where the controller can do what we want of it.
        fileprivate var firstVersionFile: String {
            self == .memory ? "memory.limit_in_bytes" : "blkio.throttle.read_bps_device"
        }
    }

    struct Place: Equatable, Sendable {
        /// 1 or 2.
        var version: Int
        /// The folder that new groups are made in.
        var folder: String
        /// That this process is in that group itself and must leave it before a group below it can
        /// be limited.
        var isOwn = false
    }

    /// How folders of groups are made and removed; a test has other ways.
    struct Folders: Sendable {
        var make: @Sendable (String) -> SystemError?
        var remove: @Sendable (String) -> SystemError?

        static let ofKernel = Folders(
            make: { unsafe mkdir($0, 0o755) == 0 ? nil : .last },
            remove: { unsafe rmdir($0) == 0 ? nil : .last })
    }

    /// With it begins the name of every group of ours; the process id of the harness follows.
    static let prefix = "sluice-bench-"
    static let remedy =
        "run as root, or under: systemd-run --user --scope -p Delegate=yes COMMAND"

    private struct Tree: Sendable {
        var version: Int
        var folder: String
        var controllers: [String]
    }

    let folders: Folders
    private let trees: [Tree]
    /// Path of this process in the tree of version 2: "/user.slice/...".
    private let ownGroup: String?

    /// As the kernel tells now.
    static func ofThisMachine() -> ControlGroupPlaces {
        ControlGroupPlaces(
            mounts: (try? SystemFile.read("/proc/self/mounts")) ?? "",
            groups: (try? SystemFile.read("/proc/self/cgroup")) ?? "")
    }

    /// - Parameters:
    ///   - mounts: text of /proc/self/mounts.
    ///   - groups: text of /proc/self/cgroup.
    init(mounts: String, groups: String, folders: Folders = .ofKernel) {
        self.folders = folders
        var trees: [Tree] = []
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ").map(String.init)
            guard fields.count > 3, fields[2] == "cgroup" || fields[2] == "cgroup2" else {
                continue
            }
            let version = fields[2] == "cgroup" ? 1 : 2
            let controllers =
                version == 1
                ? fields[3].split(separator: ",").map(String.init)
                : (SystemFile.line("\(fields[1])/cgroup.controllers") ?? "").words
            trees.append(Tree(version: version, folder: fields[1], controllers: controllers))
        }
        self.trees = trees
        var own: String?
        for line in groups.split(separator: "\n") where line.hasPrefix("0::/") {
            var parts = line.dropFirst(3).split(separator: "/")
            // We may have moved one down already.
            if parts.last?.hasPrefix(Self.prefix) == true { parts.removeLast() }
            own = parts.contains("..") ? nil : parts.map { "/\($0)" }.joined()
        }
        ownGroup = own
    }

    /// Where a controller's groups are to be made.
    func place(for controller: Controller) throws(BenchmarkingError) -> Place {
        let subject = controller == .memory ? "memory" : "the disk"
        var refusals: [String] = []
        for tree in trees where tree.version == 1 {
            guard tree.controllers.contains(controller.firstVersionName),
                SystemFile.exists("\(tree.folder)/\(controller.firstVersionFile)")
            else { continue }
            if let refusal = refusal(to: tree.folder) {
                refusals.append(refusal)
            } else {
                return Place(version: 1, folder: tree.folder)
            }
        }
        for tree in trees where tree.version == 2 {
            // Only the root of all has no type.
            let isRoot = !SystemFile.exists("\(tree.folder)/cgroup.type")
            var candidates = isRoot ? [Place(version: 2, folder: tree.folder)] : []
            if let ownGroup, !(isRoot && ownGroup.isEmpty) {
                candidates.append(Place(version: 2, folder: tree.folder + ownGroup, isOwn: true))
            }
            for candidate in candidates {
                let offered = SystemFile.line("\(candidate.folder)/cgroup.controllers") ?? ""
                guard offered.words.contains(controller.rawValue) else {
                    refusals.append(
                        "\(candidate.folder) has no controller '\(controller.rawValue)'")
                    continue
                }
                if let refusal = refusal(to: candidate.folder)
                    ?? refusal(to: "\(candidate.folder)/cgroup.subtree_control")
                    ?? (candidate.isOwn ? self.refusalToLeave(candidate.folder) : nil)
                {
                    refusals.append(refusal)
                } else {
                    return candidate
                }
            }
        }
        let reasons =
            refusals.isEmpty
            ? "no control group controller '\(controller.firstVersionName)' or "
                + "'\(controller.rawValue)' is mounted"
            : refusals.joined(separator: "; ")
        throw BenchmarkingError("\(subject) cannot be limited here: \(reasons); \(Self.remedy)")
    }

    private func refusal(to path: String) -> String? {
        do {
            try SystemFile.requireWritable(path)
            return nil
        } catch { return "\(path): \(error.text)" }
    }

    /// Our own group can be emptied only if nobody else is in it.
    private func refusalToLeave(_ folder: String) -> String? {
        for process in ControlGroup.processes(in: folder) where process != getpid() {
            let status = (try? SystemFile.read("/proc/\(process)/status")) ?? ""
            if !status.contains("\nPPid:\t\(getpid())\n") {
                return "\(folder) holds process \(process), which is not ours"
            }
        }
        return nil
    }

    /// All folders in which groups of ours may lie.
    private var parents: [String] {
        var parents = trees.map(\.folder)
        if let ownGroup, !ownGroup.isEmpty {
            parents += trees.filter { $0.version == 2 }.map { $0.folder + ownGroup }
        }
        return parents
    }

    /// Whether a path is that of a group of ours: nothing else is ever killed or removed.
    func owns(_ path: String) -> Bool {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        return parts.dropFirst().allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            && parts.last?.hasPrefix(Self.prefix) == true
            && trees.contains { path.hasPrefix("\($0.folder)/") }
    }

    /// Groups of harnesses that no longer live: they were killed together with their guards.
    func staleGroups() -> [String] {
        var stale: [String] = []
        for parent in Set(parents).sorted() {
            for name in SystemFile.names(in: parent) where name.hasPrefix(Self.prefix) {
                guard let owner = name.dropFirst(Self.prefix.count).split(separator: "-").first,
                    let process = Int32(owner), process > 0
                else { continue }
                let path = "\(parent)/\(name)"
                // Processes that read as 0 are in another container, and so is their harness.
                let holds = ((try? SystemFile.read("\(path)/cgroup.procs")) ?? "").words
                if kill(process, 0) != 0, errno == ESRCH, !holds.contains("0") {
                    stale.append(path)
                }
            }
        }
        return stale
    }
}
