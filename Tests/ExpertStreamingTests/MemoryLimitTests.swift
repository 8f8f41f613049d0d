import Glibc
import Testing

@testable import ExpertStreaming

private let meminfo = """
    MemTotal:       16384000 kB
    MemFree:          100000 kB
    MemAvailable:   12288000 kB
    """

private let v2Mounts = """
    22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
    30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate
    """

private let v1Mounts = """
    35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
    36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
    """

private func limit(
    _ cgroups: String, _ mounts: String, _ files: [String: String], meminfo: String = meminfo
) -> MemoryLimit? {
    MemoryLimit.smallest(meminfo: meminfo, cgroups: cgroups, mounts: mounts) { files[$0] }
}

@Suite struct MemoryLimitTests {

    @Test func withoutGroupsItIsWhatIsAvailableLessAMargin() {
        let found = limit("", "", [:])
        #expect(found?.bytes == 12_288_000 * 1024 - 16_384_000 * 1024 / 16)
        #expect(found?.explanation.contains("of the machine's 15.62 GiB are available") == true)
    }

    @Test func theMarginIsBounded() {
        let board = limit("", "", [:], meminfo: "MemTotal: 524288 kB\nMemAvailable: 262144 kB\n")
        #expect(board?.bytes == (256 - 64) << 20)
        let server = limit("", "", [:], meminfo: "MemTotal: 1073741824 kB\n")
        #expect(server?.bytes == 1023 << 30)
    }

    @Test func theSmallestLimitOfAllAncestorsHolds() {
        let files = [
            "/sys/fs/cgroup/system.slice/sluice.service/memory.max": "3221225472\n",
            "/sys/fs/cgroup/system.slice/sluice.service/memory.high": "max\n",
            "/sys/fs/cgroup/system.slice/memory.max": "2147483648\n",
            "/sys/fs/cgroup/memory.max": "max\n",
        ]
        let found = limit("0::/system.slice/sluice.service\n", v2Mounts, files)
        #expect(found?.bytes == 2 << 30)
        #expect(found?.explanation == "memory.max of control group /system.slice is 2.00 GiB")
    }

    @Test func theSoftLimitCountsToo() {
        let files = [
            "/sys/fs/cgroup/a/memory.max": "3221225472\n",
            "/sys/fs/cgroup/a/memory.high": "1073741824\n",
        ]
        #expect(limit("0::/a", v2Mounts, files)?.bytes == 1 << 30)
    }

    @Test func firstGenerationHierarchiesAreRead() {
        let files = [
            "/sys/fs/cgroup/memory/box/run/memory.limit_in_bytes": "9223372036854771712\n",
            "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1073741824\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        ]
        let groups = "9:name=systemd:/\n4:memory:/box/run\n1:cpu,cpuacct:/other\n0::/\n"
        let found = limit(groups, v1Mounts, files)
        #expect(found?.bytes == 1 << 30)
        #expect(found?.explanation == "memory.limit_in_bytes of control group /box is 1.00 GiB")
    }

    @Test func unlimitedGroupsLimitNothing() {
        let files = [
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "/sys/fs/cgroup/unified/memory.max": "max\n",
        ]
        let found = limit("4:memory:/\n0::/\n", v1Mounts, files)
        #expect(found?.explanation.contains("machine") == true)
    }

    @Test func aContainersBindMountIsUnderstood() {
        // Without a cgroup namespace: the process sees the host's path, and only its own part is
        // mounted.
        let mounts = "50 40 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"
        let files = [
            "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "2000000000\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
        ]
        #expect(limit("4:memory:/docker/abc/inner", mounts, files)?.bytes == 1_000_000_000)
        #expect(
            limit("4:memory:/docker/abc", mounts, files)?.explanation.contains("control group / is")
                == true)
    }

    @Test(arguments: ["0::/../../elsewhere", "0::/..", "0::/"])
    func insideANamespaceTheMountPointIsAsked(cgroup: String) {
        let mounts = "30 22 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
        let files = [
            "/sys/fs/cgroup/memory.max": "1000000000\n", "/sys/fs/memory.max": "1\n",
            "/sys/memory.max": "1\n",
        ]
        #expect(limit(cgroup, mounts, files)?.bytes == 1_000_000_000)
    }

    @Test func escapedMountPointsAndPathsWithColonsAreRead() {
        let mounts = "30 22 0:26 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw"
        let files = ["/mnt/my groups/a:b/memory.max": "1000000000\n"]
        #expect(limit("0::/a:b", mounts, files)?.bytes == 1_000_000_000)
    }

    @Test(arguments: [
        "", "garbage", "0:", "::", "0::\n", "4:memory\n", "x\ny\nz",
        "0::/" + String(repeating: "a/", count: 1000),
    ])
    func malformedTextsLimitNothing(text: String) {
        #expect(limit(text, text, [:], meminfo: text) == nil)
        #expect(limit(text, v2Mounts, ["/sys/fs/cgroup/memory.max": "-5\n"], meminfo: text) == nil)
        #expect(limit("0::/", "1 2 3 - cgroup2\n" + text, [:]) == limit("", "", [:]))
    }

    @Test func thisMachineHasALimit() throws {
        let found = MemoryLimit.available()
        #expect(found.bytes > 16 << 20)
        #expect(!found.explanation.isEmpty)
    }

    @Test func thePeakIsThatOfTheInnermostGroup() {
        let files = [
            "/sys/fs/cgroup/memory/box/memory.max_usage_in_bytes": "123\n",
            "/sys/fs/cgroup/memory/memory.max_usage_in_bytes": "456\n",
        ]
        let peak = ProcessMemory.groupFigure(
            ["memory.peak", "memory.max_usage_in_bytes"], cgroups: "4:memory:/box/run\n",
            mounts: v1Mounts
        ) { files[$0] }
        #expect(peak == 123)
    }

    @Test func thisProcessHasAPeak() throws {
        let peak = try #require(ProcessMemory.peak())
        #expect(peak.residentBytes > 1 << 20)
        #expect(peak.groupBytes ?? .max > 1 << 20)
    }

    /// It grows and shrinks with a mapping, as a peak would not.
    @Test func whatIsHeldNowFollowsWhatIsTaken() throws {
        let bytes = 128 << 20
        // Other tests take and give back meanwhile.
        for _ in 0..<20 {
            let before = try #require(ProcessMemory.current()).residentBytes
            let memory = unsafe mmap(
                nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
            unsafe memset(memory, 1, bytes)
            let with = try #require(ProcessMemory.current()).residentBytes
            unsafe munmap(memory, bytes)
            let after = try #require(ProcessMemory.current()).residentBytes
            if with > before + bytes / 2, after < with - bytes / 2 { return }
        }
        Issue.record("what is held does not follow what is taken")
    }

    @Test func majorFaultsAreTheTwelfthFieldWhateverTheProgramIsCalled() {
        let rest = "S 1 2 3 0 -1 4194304 500 0 42 7 1 2"
        for name in ["sluice", "a b", "x) R 9 9", ""] {
            #expect(ProcessMemory.majorFaults(stat: "77 (\(name)) \(rest)\n") == 42)
        }
        #expect(ProcessMemory.majorFaults(stat: "77 (sluice) S 1 2 3") == nil)
        #expect(ProcessMemory.majorFaults(stat: "77 sluice \(rest)") == nil)
        #expect(ProcessMemory.majorFaults(stat: "") == nil)
        #expect(ProcessMemory.majorFaults(stat: "77 (x) S 1 2 3 0 -1 4 5 0 -3 7") == nil)
    }
}
