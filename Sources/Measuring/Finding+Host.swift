internal import ExpertStreaming

extension Finding {
    private static let hottestCelsius = 80.0
    /// Below it a service with a few clients runs out of descriptors.
    private static let fewestOpenFiles = 256

    /// What is to be said of a machine, the worst first.
    public static func about(_ host: HostFacts) -> [Finding] {
        let isPi = host.machine?.hasPrefix("Raspberry Pi") ?? false
        let commandLine = isPi ? "/boot/firmware/cmdline.txt" : "the kernel's command line"
        var findings: [Finding] = []
        if host.instructionSets == ["scalar"] {
            findings.append(
                Finding(
                    .costly, "there are no kernels for this processor but the portable ones",
                    cost: "about a tenth of the speed",
                    remedy: "use a processor with AVX2, or a 64-bit ARM one"))
        }
        findings += clocks(host)
        if let limit = host.memoryLockLimitBytes, limit < host.memoryLimitBytes {
            findings.append(
                Finding(
                    .costly, "only \(ByteSize(bytes: limit)) of memory may be locked",
                    cost:
                        "a larger expert cache is not registered with the kernel: more work per read",
                    remedy: "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"))
        }
        if let ringsDisabled = host.ringsDisabled, ringsDisabled > 0 {
            findings.append(
                Finding(
                    .costly, "kernel.io_uring_disabled is \(ringsDisabled)",
                    cost: "experts are read by threads: more processor time per read",
                    remedy: "sysctl -w kernel.io_uring_disabled=0"))
        }
        if let hottest = host.temperatureCelsius, hottest >= hottestCelsius {
            findings.append(
                Finding(
                    .costly, "the processor has \(Int(hottest)) °C",
                    cost: "its clock is lowered, or will be under load",
                    remedy: "cool it, with a fan on boards"))
        }
        for swap in host.swaps where !swap.path.contains("zram") {
            findings.append(
                Finding(
                    .costly,
                    "\(ByteSize(bytes: swap.bytes)) of swap on \(swap.path)",
                    cost: "under pressure weights go there, and every token waits for them",
                    remedy: "swapoff \(swap.path); the service needs no change (MemorySwapMax=0)"))
        }
        if host.hugePages == "never" {
            findings.append(
                Finding(
                    .costly, "transparent huge pages are off",
                    cost: "some percent of decode speed, for looking up pages",
                    remedy: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"))
        }
        if !host.groupsLimitMemory {
            findings.append(
                Finding(
                    .costly, "control groups cannot limit memory here",
                    cost: "MemoryMax= of the unit has no effect",
                    remedy: "add cgroup_enable=memory to \(commandLine) and restart"))
        }
        if !host.tellsPressure {
            findings.append(
                Finding(
                    .note, "the kernel does not tell memory pressure (/proc/pressure/memory)",
                    cost: "the cache shrinks later when others need memory",
                    remedy: "add psi=1 to \(commandLine) and restart"))
        }
        if let limit = host.openFilesLimit, limit < fewestOpenFiles {
            findings.append(
                Finding(
                    .note, "a process may open \(limit) files",
                    cost: "a service refuses clients beyond that", remedy: "ulimit -n 4096"))
        }
        if host.numaNodes > 1 {
            findings.append(
                Finding(
                    .note, "there are \(host.numaNodes) NUMA nodes",
                    cost: "compute threads stay on one of them, and so does the cache",
                    remedy: "numactl --cpunodebind chooses another one"))
        }
        if isOlder(host.kernel, than: (6, 1)) {
            findings.append(
                Finding(
                    .note, "Linux \(host.kernel) is older than 6.1",
                    cost: "completed reads interrupt the arithmetic",
                    remedy: "use a newer kernel where the board has one"))
        }
        return findings.sorted { $0.weight.rank < $1.weight.rank }
    }

    /// Clock rates that do not rise with the work.
    private static func clocks(_ host: HostFacts) -> [Finding] {
        // These drivers' powersave is what elsewhere is called schedutil.
        let dynamic = ["intel_pstate", "amd-pstate-epp", "amd-pstate"]
        return host.governors.compactMap { governor in
            let name = governor.split(separator: " ").first ?? ""
            let command =
                "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
            if name == "powersave", !dynamic.contains(where: { governor.hasSuffix("(\($0))") }) {
                return Finding(
                    .costly, "the clock governor is \(governor)",
                    cost: "the processor stays at its lowest clock", remedy: command)
            }
            if name == "ondemand" || name == "conservative" {
                return Finding(
                    .note, "the clock governor is \(governor)",
                    cost: "while a token waits for the disk the clock falls", remedy: command)
            }
            return nil
        }
    }

    static func isOlder(_ kernel: String, than version: (major: Int, minor: Int)) -> Bool {
        let numbers = kernel.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        guard numbers.count == 2 else { return false }
        return (numbers[0], numbers[1]) < (version.major, version.minor)
    }
}

extension Finding.Weight {
    var rank: Int {
        switch self {
        case .blocking: 0
        case .costly: 1
        case .note: 2
        }
    }
}
