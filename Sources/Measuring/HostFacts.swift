internal import CHost
internal import ExpertStreaming
internal import Inference

/// What a machine says about itself, as far as it decides how fast experts are streamed.
public struct HostFacts: Sendable, Equatable, Encodable {
    /// A place where memory is swapped to.
    public struct Swap: Sendable, Equatable, Encodable {
        public var path: String
        public var bytes: Int
    }

    /// The board's or the computer's name, where the firmware gives one.
    public var machine: String?
    public var processor: String?
    /// Processors that this process may use.
    public var processors: Int
    /// Those that are worth a compute thread by default.
    public var computeThreads: Int
    /// Best first, as `SLUICE_ISA` names them.
    public var instructionSets: [String]
    public var kernel: String
    public var pageBytes: Int
    public var numaNodes: Int
    /// How clock rates are chosen, each way once, with the driver's name: "schedutil (cpufreq-dt)".
    public var governors: [String]
    public var memoryTotalBytes: Int
    public var memoryAvailableBytes: Int
    /// What this process may use, and why.
    public var memoryLimitBytes: Int
    public var memoryLimitReason: String
    /// RLIMIT_MEMLOCK in bytes; nil for no limit, or where this process need not keep to it.
    public var memoryLockLimitBytes: Int?
    /// Soft limit of open files; nil for no limit.
    public var openFilesLimit: Int?
    public var swaps: [Swap]
    /// Transparent huge pages: always, madvise or never; nil where the kernel has none.
    public var hugePages: String?
    /// Whether the kernel tells how long tasks wait for memory (/proc/pressure/memory).
    public var tellsPressure: Bool
    /// Whether control groups can limit memory (MemoryMax= of a unit).
    public var groupsLimitMemory: Bool
    /// kernel.io_uring_disabled; nil for kernels before 6.6.
    public var ringsDisabled: Int?
    /// Of the hottest zone.
    public var temperatureCelsius: Double?

    /// The facts of this machine and process, now.
    public init() { self.init(files: SystemFiles()) }

    init(files: SystemFiles) {
        let processors = Processors.ofThisProcess()
        let limit = MemoryLimit.available()
        let lockLimit = host_memory_lock_limit()
        machine =
            files.line("/proc/device-tree/model") ?? files.line("/sys/class/dmi/id/product_name")
        processor =
            files.value("model name", in: "/proc/cpuinfo")
            ?? files.value("Model", in: "/proc/cpuinfo")
        self.processors = processors.ordered.count
        computeThreads = processors.recommended
        instructionSets = InstructionSet.available
        kernel = files.line("/proc/sys/kernel/osrelease") ?? "unknown"
        pageBytes = host_page_bytes()
        numaNodes = HostFacts.count(ofList: files.line("/sys/devices/system/node/online") ?? "0")
        governors = HostFacts.governors(of: processors.ordered, files)
        memoryTotalBytes = HostFacts.kibibytes("MemTotal", files)
        memoryAvailableBytes = HostFacts.kibibytes("MemAvailable", files)
        memoryLimitBytes = limit.bytes
        memoryLimitReason = limit.explanation
        memoryLockLimitBytes =
            lockLimit == .max || HostFacts.locksWithoutLimit(files) ? nil : Int(clamping: lockLimit)
        openFilesLimit = files.value("Max open files", in: "/proc/self/limits").flatMap {
            Int($0.split(separator: " ").first ?? "")
        }
        swaps = HostFacts.swaps(files.text("/proc/swaps") ?? "")
        hugePages = files.chosen("/sys/kernel/mm/transparent_hugepage/enabled")
        tellsPressure = files.text("/proc/pressure/memory")?.hasPrefix("some") ?? false
        groupsLimitMemory = HostFacts.groupsLimitMemory(files)
        ringsDisabled = files.number("/proc/sys/kernel/io_uring_disabled")
        temperatureCelsius = (0..<16).compactMap {
            files.number("/sys/class/thermal/thermal_zone\($0)/temp").map { Double($0) / 1000 }
        }.max()
    }

    /// Whether this process has CAP_IPC_LOCK, capability 14, as root does.
    private static func locksWithoutLimit(_ files: SystemFiles) -> Bool {
        let effective = files.value("CapEff", in: "/proc/self/status").flatMap {
            UInt64($0, radix: 16)
        }
        return (effective ?? 0) >> 14 & 1 == 1
    }

    private static func kibibytes(_ name: String, _ files: SystemFiles) -> Int {
        let words = files.value(name, in: "/proc/meminfo")?.split(separator: " ") ?? []
        return (words.first.flatMap { Int($0) } ?? 0) << 10
    }

    private static func governors(of processors: [Int32], _ files: SystemFiles) -> [String] {
        var found: [String] = []
        for cpu in processors {
            let folder = "/sys/devices/system/cpu/cpu\(cpu)/cpufreq"
            guard let governor = files.line("\(folder)/scaling_governor") else { continue }
            let driver = files.line("\(folder)/scaling_driver").map { " (\($0))" } ?? ""
            if !found.contains(governor + driver) { found.append(governor + driver) }
        }
        return found
    }

    /// How many numbers a list such as "0-3,8" names.
    static func count(ofList list: String) -> Int {
        list.split(separator: ",").reduce(0) { sum, part in
            let ends = part.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, last >= first, last < 1 << 16 else {
                return sum
            }
            return sum + last - first + 1
        }
    }

    /// /proc/swaps: a heading, then path, type, size in KiB, used, priority.
    static func swaps(_ text: String) -> [Swap] {
        text.split(separator: "\n").dropFirst().compactMap { line in
            let words = line.split { $0 == " " || $0 == "\t" }
            guard words.count >= 3, let kibibytes = Int(words[2]), kibibytes < 1 << 50 else {
                return nil
            }
            return Swap(path: String(words[0]), bytes: kibibytes << 10)
        }
    }

    /// Under v2 the controllers are named at the root; under v1 a table says which are enabled.
    private static func groupsLimitMemory(_ files: SystemFiles) -> Bool {
        if let controllers = files.line("/sys/fs/cgroup/cgroup.controllers") {
            if controllers.split(separator: " ").contains("memory") { return true }
        }
        let words = files.value("memory", in: "/proc/cgroups")?.split { $0 == " " || $0 == "\t" }
        // Hierarchy, groups, enabled. Hierarchy 0 is v2, whose controllers stand above.
        guard let words, words.count >= 3, words[2] == "1" else { return false }
        return words[0] != "0"
    }
}
