import CHost
import Testing

@testable import Measuring

@Suite struct HostFactsTests {
    @Test func thisMachineTells() {
        let host = HostFacts()
        #expect(host.processors >= 1 && host.computeThreads >= 1)
        #expect(host.computeThreads <= host.processors)
        #expect(host.instructionSets.last == "scalar")
        #expect(host.memoryTotalBytes >= host.memoryAvailableBytes)
        #expect(host.memoryAvailableBytes > 0 && host.numaNodes >= 1)
        #expect(host.kernel != "unknown" && host.pageBytes >= 4096)
    }

    @Test func aBoardIsRead() throws {
        let system = try FakeSystem([
            "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "/proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 5\n",
            "/proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-2712\n",
            "/proc/sys/kernel/io_uring_disabled": "2\n",
            "/proc/meminfo": "MemTotal:  8256000 kB\nMemFree: 1 kB\nMemAvailable:  7000000 kB\n",
            "/proc/swaps": "Filename\t\tType\tSize\tUsed\tPriority\n/var/swap  file 524272 0 -2\n",
            "/proc/self/limits": "Limit  Soft Hard Units\nMax open files    1024  4096  files\n",
            "/proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t90\t0\n",
            "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
            "/sys/devices/system/node/online": "0-1,4\n",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "cpufreq-dt\n",
            "/sys/class/thermal/thermal_zone0/temp": "61500\n",
            "/sys/class/thermal/thermal_zone1/temp": "84300\n",
        ])
        let host = HostFacts(files: system.files)
        #expect(host.machine == "Raspberry Pi 5 Model B Rev 1.0")
        #expect(host.processor == "Raspberry Pi 5")
        #expect(host.kernel == "6.12.25+rpt-rpi-2712" && host.ringsDisabled == 2)
        #expect(host.memoryTotalBytes == 8_256_000 << 10)
        #expect(host.memoryAvailableBytes == 7_000_000 << 10)
        #expect(host.swaps == [HostFacts.Swap(path: "/var/swap", bytes: 524_272 << 10)])
        #expect(host.openFilesLimit == 1024 && host.hugePages == "never" && host.numaNodes == 3)
        #expect(!host.groupsLimitMemory && !host.tellsPressure)
        #expect(host.temperatureCelsius == 84.3)
        // Only processor 0 tells, if this process may use it at all.
        #expect(host.governors.isEmpty || host.governors == ["ondemand (cpufreq-dt)"])
    }

    @Test func aMachineThatTellsNothingIsNoError() throws {
        let host = HostFacts(files: try FakeSystem([:]).files)
        #expect(host.machine == nil && host.processor == nil && host.swaps.isEmpty)
        #expect(host.kernel == "unknown" && host.numaNodes == 1 && host.hugePages == nil)
        #expect(host.governors.isEmpty && host.temperatureCelsius == nil)
    }

    @Test(arguments: [
        ("cpuset cpu io memory pids", "", true), ("cpu io", "memory\t7\t90\t1", true),
        ("", "memory\t0\t90\t1", false), ("cpu io", "", false),
    ])
    func groupsOfBothGenerationsCount(_ v2: String, _ v1: String, _ limits: Bool) throws {
        let system = try FakeSystem([
            "/sys/fs/cgroup/cgroup.controllers": v2 + "\n", "/proc/cgroups": "#name\n\(v1)\n",
        ])
        #expect(HostFacts(files: system.files).groupsLimitMemory == limits)
    }

    /// What may be locked is asked of the kernel; whether that binds stands in a text.
    @Test func aCapabilityLiftsTheLimitOfLockedMemory() throws {
        func limit(_ capabilities: String) throws -> Int? {
            let system = try FakeSystem([
                "/proc/self/status": "Name:\tx\nCapEff:\t\(capabilities)\n"
            ])
            return HostFacts(files: system.files).memoryLockLimitBytes
        }
        let stated = host_memory_lock_limit()
        #expect(try limit("0000000000004000") == nil)
        #expect(
            try limit("ffffffffffffbfff") == (stated == .max ? nil : Int(clamping: stated)))
    }

    @Test func damagedTextsAreNoError() {
        #expect(HostFacts.count(ofList: "x,3-1,9-99999999,,5") == 1)
        #expect(HostFacts.swaps("Filename\n/dev/x partition\n/dev/y file many 0 1\n").isEmpty)
        #expect(HostFacts.swaps("").isEmpty)
    }
}
