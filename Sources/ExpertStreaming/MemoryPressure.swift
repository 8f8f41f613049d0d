private import CHost

/// Whether this machine, or a control group that we are in, runs short of memory.
///
/// Three things are watched, whichever of them the kernel offers:
///   - pressure-stall information, of the machine and of our group: the share of time in which
///     tasks waited for memory. As a trigger, which costs one `poll`, where the kernel grants it;
///     else the average over ten seconds is read.
///   - how near the memory of our group, and of every group above it, is to its limit, and whether
///     the kernel had to enforce it (memory.events). Page cache does not count: it can be dropped.
///   - where there is no pressure-stall information, what the machine has available.
///
/// Limits are read anew every time, because they can be changed while we run. `check` allocates
/// nothing and reads files at most once a second, so it can be called for every token.
public struct MemoryPressure: ~Copyable {

    public enum Level: Sendable, Equatable {
        case calm
        /// Memory should be given back.
        case pressed
    }

    /// The files of one control group; -1 for those that are not there.
    struct Group: BitwiseCopyable {
        var usage: Int32
        var limit: Int32
        /// memory.high, below which v2 can limit, too.
        var highLimit: Int32
        var statistics: Int32
        var events: Int32
        /// Times the kernel enforced a limit, when it was read last; -1 before.
        var enforced: Int = -1
    }

    /// Triggers the kernel has granted, and pressure files it has not granted one for.
    private var triggers: FlatArray<Int32>
    private var averages: FlatArray<Int32>
    private var groups: FlatArray<Group>
    private let triggerCount: Int
    private let averageCount: Int
    private let groupCount: Int
    /// /proc/meminfo; -1 where pressure files say more.
    private let machine: Int32
    private var buffer: FlatArray<UInt8>
    private var level = Level.calm
    private var nextReading: UInt64 = 0

    /// Tasks waiting 15 % of the time. Windows of whole multiples of 2 s need no privilege.
    static let trigger = "some 300000 2000000"
    static let pressedAverage = 15.0
    private static let secondsBetweenReadings: UInt64 = 1
    private static let bufferBytes = 16 << 10
    /// Ancestors that are watched at most, nearest first.
    private static let largestGroupCount = 16

    /// Watches this machine and the groups of this process.
    public init() {
        let directories = MemoryLimit.groupDirectories(
            cgroups: SmallFile.read("/proc/self/cgroup") ?? "",
            mounts: SmallFile.read("/proc/self/mountinfo", limit: 1 << 20) ?? ""
        ).map(\.path)
        self.init(
            groups: directories,
            pressureFiles: ["/proc/pressure/memory"]
                + directories.prefix(1).map { $0 + "/memory.pressure" },
            asksForTriggers: true, meminfo: "/proc/meminfo")
    }

    /// Watches these directories and files; any of them may be missing.
    init(
        groups directories: [String], pressureFiles: [String], asksForTriggers: Bool,
        meminfo: String
    ) {
        var granted: [Int32] = []
        var refused: [Int32] = []
        for path in pressureFiles {
            let descriptor =
                asksForTriggers ? unsafe host_open_trigger(path, Self.trigger) : -1
            if descriptor >= 0 {
                granted.append(descriptor)
            } else if let file = Self.open(path) {
                refused.append(file)
            }
        }
        var watched: [Group] = []
        for directory in directories.prefix(Self.largestGroupCount) {
            func file(_ names: String...) -> Int32 {
                for name in names {
                    if let descriptor = Self.open(directory + "/" + name) { return descriptor }
                }
                return -1
            }
            watched.append(
                Group(
                    usage: file("memory.current", "memory.usage_in_bytes"),
                    limit: file("memory.max", "memory.limit_in_bytes"),
                    highLimit: file("memory.high"), statistics: file("memory.stat"),
                    events: file("memory.events")))
        }
        machine = granted.isEmpty && refused.isEmpty ? Self.open(meminfo) ?? -1 : -1
        triggerCount = granted.count
        averageCount = refused.count
        groupCount = watched.count
        triggers = Self.flat(granted, blank: -1)
        averages = Self.flat(refused, blank: -1)
        groups = Self.flat(
            watched,
            blank: Group(usage: -1, limit: -1, highLimit: -1, statistics: -1, events: -1))
        buffer = FlatArray(repeating: 0, count: Self.bufferBytes)
    }

    deinit {
        for index in 0..<triggerCount { Self.close(triggers[index]) }
        for index in 0..<averageCount { Self.close(averages[index]) }
        for index in 0..<groupCount {
            let group = groups[index]
            Self.close(group.usage)
            Self.close(group.limit)
            Self.close(group.highLimit)
            Self.close(group.statistics)
            Self.close(group.events)
        }
        Self.close(machine)
    }

    /// The level now, at most a second old.
    public mutating func check() -> Level { check(now: host_nanoseconds()) }

    /// - Parameter now: nanoseconds of a clock that never goes back.
    mutating func check(now: UInt64) -> Level {
        var fired = false
        for index in 0..<triggerCount where triggers[index] >= 0 {
            let answer = host_trigger_fired(triggers[index])
            if answer > 0 { fired = true }
            if answer < 0 {
                Self.close(triggers[index])
                triggers[index] = -1
            }
        }
        if fired {
            level = .pressed
            nextReading = now + Self.secondsBetweenReadings * 1_000_000_000
        } else if now >= nextReading {
            level = readsPressure() ? .pressed : .calm
            nextReading = now + Self.secondsBetweenReadings * 1_000_000_000
        }
        return level
    }

    private mutating func readsPressure() -> Bool {
        var pressed = false
        for index in 0..<averageCount {
            let average = unsafe Self.someAverage(text(averages[index]))
            if let average, average >= Self.pressedAverage { pressed = true }
        }
        if machine >= 0 {
            let text = unsafe text(machine)
            if let total = unsafe Self.figure("MemTotal:", in: text),
                let available = unsafe Self.figure("MemAvailable:", in: text)
            {
                // In kibibytes.
                if available < max(total / 32, 32 << 10) { pressed = true }
            }
        }
        // All are read, so that every count of events is up to date.
        for index in 0..<groupCount where isPressed(group: index) { pressed = true }
        return pressed
    }

    private mutating func isPressed(group index: Int) -> Bool {
        var group = groups[index]
        var grew = false
        if let enforced = enforcedLimits(group.events) {
            grew = group.enforced >= 0 && enforced > group.enforced
            group.enforced = enforced
            groups[index] = group
        }
        guard let usage = number(group.usage) else { return false }
        let limit = min(number(group.limit) ?? .max, number(group.highLimit) ?? .max)
        guard limit < 1 << 60 else { return false }
        return Self.isPressed(
            usage: usage, droppable: droppable(group.statistics), limit: limit, enforced: grew)
    }

    /// Less than a 64th of the limit is left, or less than an eighth and the kernel had to enforce
    /// it since the last reading.
    static func isPressed(usage: Int, droppable: Int, limit: Int, enforced: Bool) -> Bool {
        let left = limit - max(0, usage - min(usage, droppable))
        return left < limit / 64 || (enforced && left < limit / 8)
    }

    private mutating func number(_ file: Int32) -> Int? {
        unsafe Self.number(text(file))
    }

    private mutating func enforcedLimits(_ file: Int32) -> Int? {
        let text = unsafe text(file)
        guard let high = unsafe Self.figure("high", in: text),
            let most = unsafe Self.figure("max", in: text)
        else { return nil }
        let (sum, overflow) = high.addingReportingOverflow(most)
        return overflow ? nil : sum
    }

    private mutating func droppable(_ file: Int32) -> Int {
        let text = unsafe text(file)
        // v1 counts a group without those below it, and with them under "total_".
        let inactive =
            unsafe Self.figure("total_inactive_file", in: text)
            ?? Self.figure("inactive_file", in: text) ?? 0
        let active =
            unsafe Self.figure("total_active_file", in: text)
            ?? Self.figure("active_file", in: text) ?? 0
        let (sum, overflow) = inactive.addingReportingOverflow(active)
        return overflow ? 0 : sum
    }

    /// A file's text, empty if it cannot be read. Valid until the next.
    private mutating func text(_ file: Int32) -> UnsafeBufferPointer<UInt8> {
        let length =
            file < 0 ? 0 : unsafe max(0, Int(host_read(file, buffer.address, Self.bufferBytes, 0)))
        return unsafe UnsafeBufferPointer(start: buffer.address, count: length)
    }

    // MARK: Texts

    /// The number behind `name` at the start of a line; nil if there is none.
    static func figure(_ name: StaticString, in text: UnsafeBufferPointer<UInt8>) -> Int? {
        var start = 0
        while start < text.count {
            var end = start
            while unsafe end < text.count && text[end] != UInt8(ascii: "\n") { end += 1 }
            let line = unsafe UnsafeBufferPointer(rebasing: text[start..<end])
            if unsafe line.count > name.utf8CodeUnitCount
                && line[name.utf8CodeUnitCount] == UInt8(ascii: " ")
                && begins(line, with: name)
            {
                return unsafe number(
                    UnsafeBufferPointer(rebasing: line[name.utf8CodeUnitCount...]))
            }
            start = end + 1
        }
        return nil
    }

    /// Digits behind any spaces; nil for "max" and for what does not fit.
    static func number(_ text: UnsafeBufferPointer<UInt8>) -> Int? {
        var index = 0
        while unsafe index < text.count && text[index] == UInt8(ascii: " ") { index += 1 }
        let first = index
        var value = 0
        while index < text.count {
            let digit = unsafe Int(text[index]) - 48
            guard digit >= 0, digit <= 9 else { break }
            let (tens, tooLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow) = tens.addingReportingOverflow(digit)
            if tooLarge || overflow { return nil }
            value = sum
            index += 1
        }
        return index == first ? nil : value
    }

    /// The percentage of "some avg10=12.34 ..."; nil for another text.
    static func someAverage(_ text: UnsafeBufferPointer<UInt8>) -> Double? {
        let name: StaticString = "some avg10="
        guard unsafe text.count > name.utf8CodeUnitCount && begins(text, with: name),
            let whole = unsafe number(
                UnsafeBufferPointer(rebasing: text[name.utf8CodeUnitCount...])), whole <= 100
        else { return nil }
        return Double(whole)
    }

    private static func begins(
        _ text: UnsafeBufferPointer<UInt8>, with name: StaticString
    ) -> Bool {
        guard text.count >= name.utf8CodeUnitCount else { return false }
        for index in 0..<name.utf8CodeUnitCount
        where unsafe text[index] != name.utf8Start[index] {
            return false
        }
        return true
    }

    // MARK: Files

    private static func open(_ path: String) -> Int32? {
        let descriptor = unsafe host_open_file(path, 0)
        return descriptor < 0 ? nil : descriptor
    }

    private static func close(_ descriptor: Int32) {
        if descriptor >= 0 { host_close_file(descriptor) }
    }

    private static func flat<Element: BitwiseCopyable>(
        _ elements: [Element], blank: Element
    ) -> FlatArray<Element> {
        var flat = FlatArray(repeating: blank, count: max(1, elements.count))
        for (index, element) in elements.enumerated() { flat[index] = element }
        return flat
    }
}
