import CAllocationCounter
import Glibc
import Testing

@testable import ExpertStreaming

@Suite struct MemoryPressureTests {
    /// A directory of small files that goes away with its owner.
    final class Directory {
        let path: String

        init() {
            var template = Array("/tmp/sluice-pressure-XXXXXX".utf8CString)
            _ = unsafe mkdtemp(&template)
            path = String(
                decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }

        /// Rewrites in place, as the kernel's files change under their readers.
        func write(_ name: String, _ text: String) throws {
            let file = try unsafe #require(unsafe fopen("\(path)/\(name)", "w"))
            unsafe fputs(text, file)
            unsafe fclose(file)
        }

        deinit {
            for name in [
                "memory.current", "memory.max", "memory.high", "memory.stat", "memory.events",
                "memory.usage_in_bytes", "memory.limit_in_bytes", "pressure", "meminfo",
            ] {
                unsafe unlink("\(path)/\(name)")
            }
            unsafe rmdir(path)
        }
    }

    private static let second: UInt64 = 1_000_000_000

    private static func figure(_ name: StaticString, _ text: String) -> Int? {
        unsafe Array(text.utf8).withUnsafeBufferPointer {
            unsafe MemoryPressure.figure(name, in: $0)
        }
    }

    private static func average(_ text: String) -> Double? {
        unsafe Array(text.utf8).withUnsafeBufferPointer { unsafe MemoryPressure.someAverage($0) }
    }

    // MARK: Texts

    @Test func figuresAreFoundByTheirWholeName() {
        let events = "low 1\nhigh 22\nmax 3\noom 4\noom_kill 5\n"
        #expect(Self.figure("high", events) == 22)
        #expect(Self.figure("max", events) == 3)
        #expect(Self.figure("oom", events) == 4)
        #expect(Self.figure("hig", events) == nil)
        #expect(Self.figure("oom_kill", events) == 5)
        #expect(Self.figure("MemTotal:", "MemTotal:       16 kB\nMemFree: 9 kB\n") == 16)
        #expect(Self.figure("MemFree:", "MemTotal:       16 kB\nMemFree: 9 kB") == 9)
    }

    @Test func hostileTextsHaveNoFigures() {
        for text in [
            "", "\n", "high", "high ", "high max\n", "high -1\n", "high99999999999999999999 1",
            "high 99999999999999999999\n", "\u{0}high 1", "xhigh 1\n high 1",
        ] {
            #expect(Self.figure("high", text) == nil, "\(text)")
        }
    }

    @Test func theAverageIsThatOfSomeTasks() {
        let text = "some avg10=37.95 avg60=1.00 avg300=0.10 total=5\nfull avg10=99.00 avg60=0.0\n"
        #expect(Self.average(text) == 37)
        #expect(Self.average("some avg10=0.00 avg60=0.00") == 0)
        #expect(Self.average("some avg10=100.00") == 100)
        for text in ["", "some", "some avg10=", "some avg10=x", "some avg10=101", "full avg10=5"] {
            #expect(Self.average(text) == nil, "\(text)")
        }
    }

    @Test func whatCanBeDroppedDoesNotPress() {
        func pressed(_ usage: Int, _ droppable: Int, _ enforced: Bool) -> Bool {
            MemoryPressure.isPressed(
                usage: usage, droppable: droppable, limit: 6400, enforced: enforced)
        }
        #expect(!pressed(6300, 0, false) && pressed(6301, 0, false))
        #expect(!pressed(6400, 100, false) && pressed(6400, 99, false))
        #expect(!pressed(5600, 0, true) && pressed(5601, 0, true))
        #expect(!pressed(0, 9999, true))
        #expect(pressed(.max, 0, false))
    }

    // MARK: Groups

    @Test func aGroupAtItsLimitPressesUntilItsMemoryIsGivenBack() throws {
        for (usage, limit) in [
            ("memory.current", "memory.max"), ("memory.current", "memory.high"),
            ("memory.usage_in_bytes", "memory.limit_in_bytes"),
        ] {
            let (inner, outer) = (Directory(), Directory())
            try inner.write(usage, "100\n")
            try inner.write(limit, limit == "memory.limit_in_bytes" ? "9223372036854771712" : "max")
            try outer.write(usage, "5000\n")
            try outer.write(limit, "6400\n")
            try outer.write("memory.stat", "anon 5\ninactive_file 40\nactive_file 60\n")
            var pressure = MemoryPressure(
                groups: [inner.path, outer.path, "/not/there"], pressureFiles: ["/not/there"],
                asksForTriggers: true, meminfo: "/not/there")
            #expect(pressure.check(now: Self.second) == .calm)
            try outer.write(usage, "6500\n")
            // Files are read once a second.
            #expect(pressure.check(now: Self.second * 3 / 2) == .calm)
            #expect(pressure.check(now: Self.second * 2) == .pressed, "\(limit)")
            try outer.write(usage, "6000\n")
            #expect(pressure.check(now: Self.second * 5 / 2) == .pressed)
            #expect(pressure.check(now: Self.second * 3) == .calm)
            // A limit lowered under us is seen as well.
            try outer.write(limit, "5950\n")
            #expect(pressure.check(now: Self.second * 4) == .pressed)
        }
    }

    @Test func anEnforcedLimitPressesOnceForEachTime() throws {
        let group = Directory()
        try group.write("memory.current", "6000\n")
        try group.write("memory.max", "6400\n")
        try group.write("memory.events", "low 0\nhigh 7\nmax 2\noom 0\n")
        var pressure = MemoryPressure(
            groups: [group.path], pressureFiles: [], asksForTriggers: false, meminfo: "/not/there")
        // What happened before we watched is not ours to answer for.
        #expect(pressure.check(now: Self.second) == .calm)
        try group.write("memory.events", "low 0\nhigh 8\nmax 2\noom 0\n")
        #expect(pressure.check(now: Self.second * 2) == .pressed)
        #expect(pressure.check(now: Self.second * 3) == .calm)
        try group.write("memory.events", "low 0\nhigh 8\nmax 3\noom 0\n")
        #expect(pressure.check(now: Self.second * 4) == .pressed)
        // Page cache alone may have met the limit.
        try group.write("memory.stat", "total_inactive_file 3000\ninactive_file 1\n")
        try group.write("memory.events", "low 0\nhigh 8\nmax 9\noom 0\n")
        var again = MemoryPressure(
            groups: [group.path], pressureFiles: [], asksForTriggers: false, meminfo: "/not/there")
        #expect(again.check(now: Self.second) == .calm)
        try group.write("memory.events", "low 0\nhigh 8\nmax 11\noom 0\n")
        #expect(again.check(now: Self.second * 2) == .calm)
    }

    @Test func garbageAndMissingFilesAreCalm() throws {
        let group = Directory()
        try group.write("memory.current", "rubbish\n")
        try group.write("memory.max", "-5\n")
        try group.write("memory.events", String(repeating: "x", count: 100_000))
        try group.write("pressure", "some avg10=")
        try group.write("meminfo", "MemTotal: 0 kB\n")
        var pressure = MemoryPressure(
            groups: [group.path, ""], pressureFiles: ["\(group.path)/pressure"],
            asksForTriggers: false, meminfo: "\(group.path)/meminfo")
        #expect(pressure.check(now: 0) == .calm)
        var none = MemoryPressure(
            groups: [], pressureFiles: [], asksForTriggers: false, meminfo: "/not/there")
        #expect(none.check(now: 0) == .calm)
    }

    // MARK: The machine

    @Test func tasksThatWaitPress() throws {
        let machine = Directory()
        try machine.write("pressure", "some avg10=14.99 avg60=90.00 avg300=0.00 total=1\n")
        // Where there are pressure files, what is available does not matter.
        try machine.write("meminfo", "MemTotal: 1000000 kB\nMemAvailable: 1 kB\n")
        var pressure = MemoryPressure(
            groups: [], pressureFiles: ["\(machine.path)/pressure"], asksForTriggers: false,
            meminfo: "\(machine.path)/meminfo")
        #expect(pressure.check(now: Self.second) == .calm)
        try machine.write("pressure", "some avg10=15.00 avg60=0.00 avg300=0.00 total=1\n")
        #expect(pressure.check(now: Self.second * 2) == .pressed)
    }

    @Test func withoutPressureFilesWhatIsAvailableDecides() throws {
        let machine = Directory()
        try machine.write("meminfo", "MemTotal: 3200000 kB\nMemAvailable: 100000 kB\n")
        var pressure = MemoryPressure(
            groups: [], pressureFiles: ["/not/there"], asksForTriggers: true,
            meminfo: "\(machine.path)/meminfo")
        #expect(pressure.check(now: Self.second) == .calm)
        try machine.write("meminfo", "MemTotal: 3200000 kB\nMemAvailable: 99999 kB\n")
        #expect(pressure.check(now: Self.second * 2) == .pressed)
    }

    /// Whatever this machine offers, asking it works, costs no memory and leaves nothing open.
    @Test func thisMachineCanBeAsked() async {
        await #expect(processExitsWith: .success) {
            /// Open files of the kernel's about memory; the test runner has others.
            func watched() -> Int {
                (0..<256).count { descriptor in
                    var target = [CChar](repeating: 0, count: 4096)
                    let length = unsafe readlink(
                        "/proc/self/fd/\(descriptor)", &target, target.count)
                    guard length > 0 else { return false }
                    let path = String(
                        decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
                    return path.contains("/memory.") || path.hasPrefix("/proc/pressure")
                        || path == "/proc/meminfo"
                }
            }
            for _ in 0..<3 {
                var pressure = MemoryPressure()
                for second in 0..<5 {
                    _ = pressure.check(now: UInt64(second) * 1_000_000_000)
                }
                let count = watched()
                _ = pressure.check(now: 5_000_000_000)
                precondition(count > 0, "nothing is watched")
            }
            precondition(watched() == 0, "descriptors stay open")
        }
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func askingAllocatesNothing() {
        var pressure = MemoryPressure()
        var before = allocations_of_this_thread()
        for second in 0..<20 {
            if second == 2 { before = allocations_of_this_thread() }
            _ = pressure.check(now: UInt64(second) * 1_000_000_000)
        }
        #expect(allocations_of_this_thread() == before)
    }
}
