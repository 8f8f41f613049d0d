import Glibc
import Synchronization

@testable import Benchmarking

/// Control groups of plain files: the kernel's part, as far as the code can see it.
final class FakeControlGroups: Sendable {
    let folder = Folder()
    private let version: Int
    private let log = Mutex<[String]>([])
    private let refusals = Mutex<Int>(0)

    /// - Parameters:
    ///   - version: 1: trees `memory` and `blkio`; 2: one tree, `all`.
    ///   - ownGroup: path of this process in the tree of version 2, which is not the root of all then.
    init(version: Int, ownGroup: String? = nil) {
        self.version = version
        if version == 1 {
            for name in ["memory", "blkio"] { fill(name) }
        } else {
            fill("all")
            folder.write("all/cgroup.controllers", "cpu io memory pids")
            folder.write("all/cgroup.subtree_control", "cpu")
            if let ownGroup {
                folder.write("all/cgroup.type", "domain")
                fill("all/\(ownGroup)")
                folder.write("all/\(ownGroup)/cgroup.controllers", "io memory")
                folder.write("all/\(ownGroup)/cgroup.subtree_control", "")
                folder.write("all/\(ownGroup)/cgroup.procs", "\(getpid())\n")
            }
        }
    }

    /// What was made and removed, in order: "+NAME", "-NAME".
    var history: [String] { log.withLock { $0 } }

    /// Removing a group is refused so many times.
    func refuseToRemove(times: Int) { refusals.withLock { $0 = times } }

    func places(ownGroup: String = "") -> ControlGroupPlaces {
        let mounts =
            version == 1
            ? ["memory", "blkio"].map { "cgroup \(folder.path)/\($0) cgroup rw,relatime,\($0) 0 0" }
            : ["cgroup2 \(folder.path)/all cgroup2 rw 0 0"]
        return ControlGroupPlaces(
            mounts: "proc /proc proc rw 0 0\n" + mounts.joined(separator: "\n") + "\n",
            groups: "3:memory:/\n0::/\(ownGroup)\n",
            folders: ControlGroupPlaces.Folders(
                make: { path in
                    let name = path.dropFirst(self.folder.path.count + 1)
                    self.log.withLock { $0.append("+\(name)") }
                    self.fill(String(name))
                    return nil
                },
                remove: { path in
                    guard SystemFile.exists(path) else { return SystemError(number: ENOENT) }
                    let isRefused = self.refusals.withLock { left in
                        left -= 1
                        return left >= 0
                    }
                    if isRefused { return SystemError(number: EBUSY) }
                    let name = path.dropFirst(self.folder.path.count + 1)
                    self.log.withLock { $0.append("-\(name)") }
                    Folder.removeAll(path)
                    return nil
                }))
    }

    /// The files that the kernel puts into a new group.
    private func fill(_ name: String) {
        folder.make(name)
        var files = ["cgroup.procs": ""]
        if version == 1 && name.hasPrefix("memory") {
            files["memory.limit_in_bytes"] = "9223372036854771712\n"
            files["memory.memsw.limit_in_bytes"] = "9223372036854771712\n"
            files["memory.max_usage_in_bytes"] = "4096\n"
            files["memory.failcnt"] = "3\n"
            files["memory.memsw.failcnt"] = "4\n"
            files["memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"
            files["memory.force_empty"] = ""
        } else if version == 1 {
            files["blkio.throttle.read_bps_device"] = ""
        } else if name != "all" {
            files["memory.max"] = "max\n"
            files["memory.swap.max"] = "max\n"
            files["memory.peak"] = "8192\n"
            files["memory.events"] = "low 0\nhigh 0\nmax 5\noom 2\noom_kill 0\n"
            files["io.max"] = ""
        }
        for (file, text) in files { folder.write("\(name)/\(file)", text) }
    }
}
