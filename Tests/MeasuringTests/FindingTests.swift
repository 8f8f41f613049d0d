import Testing

@testable import Measuring

@Suite struct FindingTests {
    /// A machine with nothing to fix.
    private static let healthy: HostFacts = {
        var host = HostFacts()
        host.machine = "Board"
        host.instructionSets = ["neon-dotprod", "neon", "scalar"]
        host.kernel = "6.12.25"
        host.numaNodes = 1
        host.governors = ["schedutil (cpufreq-dt)"]
        host.memoryLimitBytes = 4 << 30
        host.memoryLockLimitBytes = nil
        host.openFilesLimit = 1024
        host.swaps = [HostFacts.Swap(path: "/dev/zram0", bytes: 1 << 30)]
        host.hugePages = "madvise"
        host.tellsPressure = true
        host.groupsLimitMemory = true
        host.ringsDisabled = 0
        host.temperatureCelsius = 55
        return host
    }()

    @Test func aHealthyMachineNeedsNothing() {
        #expect(Finding.about(Self.healthy) == [])
    }

    /// One thing wrong with a machine, and a word of its remedy.
    struct Fault: Sendable {
        var weight: Finding.Weight
        var remedy: String
        var spoil: @Sendable (inout HostFacts) -> Void

        init(
            _ weight: Finding.Weight, _ remedy: String,
            _ spoil: @escaping @Sendable (inout HostFacts) -> Void
        ) {
            self.weight = weight
            self.remedy = remedy
            self.spoil = spoil
        }
    }

    static let faults = [
        Fault(.costly, "AVX2") { $0.instructionSets = ["scalar"] },
        Fault(.costly, "scaling_governor") { $0.governors = ["powersave (cpufreq-dt)"] },
        Fault(.note, "scaling_governor") { $0.governors = ["ondemand (cpufreq-dt)"] },
        Fault(.costly, "LimitMEMLOCK=infinity") { $0.memoryLockLimitBytes = 8 << 20 },
        Fault(.costly, "kernel.io_uring_disabled=0") { $0.ringsDisabled = 2 },
        Fault(.costly, "fan") { $0.temperatureCelsius = 85 },
        Fault(.costly, "swapoff /dev/mmc") {
            $0.swaps.append(.init(path: "/dev/mmcblk0p3", bytes: 1))
        },
        Fault(.costly, "echo madvise") { $0.hugePages = "never" },
        Fault(.costly, "cgroup_enable=memory") { $0.groupsLimitMemory = false },
        Fault(.note, "psi=1") { $0.tellsPressure = false },
        Fault(.note, "ulimit -n") { $0.openFilesLimit = 64 },
        Fault(.note, "numactl") { $0.numaNodes = 2 },
        Fault(.note, "newer kernel") { $0.kernel = "5.15.148-tegra" },
    ]

    @Test(arguments: faults)
    func whatIsWrongIsNamedOnce(_ fault: Fault) {
        var host = Self.healthy
        fault.spoil(&host)
        let findings = Finding.about(host)
        #expect(findings.count == 1 && findings[0].weight == fault.weight)
        #expect(findings[0].remedy.contains(fault.remedy), "\(findings)")
    }

    @Test func intelsPowersaveIsNoFault() {
        var host = Self.healthy
        host.governors = ["powersave (intel_pstate)", "powersave (amd-pstate-epp)"]
        #expect(Finding.about(host) == [])
    }

    @Test func thePisCommandLineIsNamed() {
        var host = Self.healthy
        host.machine = "Raspberry Pi 5 Model B Rev 1.0"
        host.groupsLimitMemory = false
        #expect(Finding.about(host)[0].remedy.contains("/boot/firmware/cmdline.txt"))
    }

    @Test func theWorstComesFirst() {
        var host = Self.healthy
        host.numaNodes = 2
        host.tellsPressure = false
        host.hugePages = "never"
        #expect(Finding.about(host).map(\.weight) == [.costly, .note, .note])
    }

    @Test(arguments: [
        ("6.0.9", true), ("6.1.0-13-amd64", false), ("5.15.148-tegra", true), ("10.2", false),
        ("unknown", false),
    ])
    func kernelsAreComparedAsNumbers(_ kernel: String, _ older: Bool) {
        #expect(Finding.isOlder(kernel, than: (6, 1)) == older)
    }
}
