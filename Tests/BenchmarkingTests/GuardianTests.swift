import CHost
import Glibc
import Synchronization
import Testing

@testable import Benchmarking

/// A guard on a thread of this process, and what it complains of at its end.
final class GuardThread: Sendable {
    let channel: Int32
    private let descriptor: Int32
    private let places: ControlGroupPlaces
    private let complaints = Mutex<[String]?>(nil)

    init(_ places: ControlGroupPlaces) {
        self.places = places
        var ends: (Int32, Int32) = (-1, -1)
        let error = unsafe withUnsafeMutablePointer(to: &ends) {
            unsafe $0.withMemoryRebound(to: Int32.self, capacity: 2) {
                unsafe host_make_channel($0)
            }
        }
        precondition(error == 0)
        (channel, descriptor) = ends
        var handle: UInt64 = 0
        let started = unsafe host_thread_start(
            &handle,
            { context in
                let guardThread = unsafe Unmanaged<GuardThread>.fromOpaque(context!)
                    .takeRetainedValue()
                guardThread.serve()
            }, unsafe Unmanaged.passRetained(self).toOpaque(), "guard", -1)
        precondition(started == 0)
    }

    private func serve() {
        let found = Guardian.serve(descriptor: descriptor, places: places)
        close(descriptor)
        complaints.withLock { $0 = found }
    }

    /// What it could not do, once it has ended; nil if it does not.
    func end() -> [String]? {
        _ = Stand.waits { complaints.withLock { $0 != nil } }
        return complaints.withLock { $0 }
    }
}

@Suite struct GuardianTests {
    @Test func anOrderlyEndLeavesTheGuardNothingToDo() throws {
        let fake = FakeControlGroups(version: 1)
        let folder = Folder()
        folder.write("read_ahead_kb", "128\n")
        let thread = GuardThread(fake.places())
        let guardian = try Guardian(channel: thread.channel, places: fake.places())
        try guardian.setting("\(folder.path)/read_ahead_kb", to: "4096")
        try guardian.setting("\(folder.path)/read_ahead_kb", to: "0")
        #expect(folder.read("read_ahead_kb") == "0")
        guardian.restoreSettings()
        #expect(folder.read("read_ahead_kb") == "128")
        // Somebody else's change after that is not ours to undo.
        folder.write("read_ahead_kb", "256")
        guardian.close()
        guardian.close()
        #expect(thread.end() == [])
        #expect(folder.read("read_ahead_kb") == "256")
    }

    @Test func whatAClosedGuardianChangedComesBack() throws {
        let fake = FakeControlGroups(version: 1)
        let folder = Folder()
        folder.write("a", "1\n")
        let thread = GuardThread(fake.places())
        do {
            let guardian = try Guardian(channel: thread.channel, places: fake.places())
            try guardian.setting("\(folder.path)/a", to: "2")
            try guardian.register(.group("\(fake.folder.path)/memory/sluice-bench-1-1"))
            _ = fake.places().folders.make("\(fake.folder.path)/memory/sluice-bench-1-1")
        }
        #expect(folder.read("a") == "1")
        #expect(!SystemFile.exists("\(fake.folder.path)/memory/sluice-bench-1-1"))
        #expect(thread.end() == [])
    }

    /// The harness says what it will do, and dies.
    @Test func aGuardDoesWhatADeadHarnessLeft() throws {
        let fake = FakeControlGroups(version: 1)
        let places = fake.places()
        let folder = Folder()
        folder.write("a", "changed")
        let thread = GuardThread(places)
        let groups = ["memory", "blkio"].map { "\(fake.folder.path)/\($0)/sluice-bench-1-1" }
        for group in groups { _ = places.folders.make(group) }
        let lines = [
            "group\t\(groups[0])", "group\t\(groups[1])", "setting\t\(folder.path)/a\told",
            "setting\t\(folder.path)/b\told", "forget\t\(folder.path)/b",
        ]
        folder.write("b", "not ours any more")
        for line in lines {
            let bytes = Array("\(line)\n".utf8)
            #expect(unsafe host_send(thread.channel, bytes, bytes.count) == bytes.count)
        }
        close(thread.channel)
        #expect(thread.end() == [])
        #expect(groups.allSatisfy { !SystemFile.exists($0) })
        #expect(folder.read("a") == "old" && folder.read("b") == "not ours any more")
    }

    @Test(arguments: [
        "group\t/etc", "group\t/sys/fs/cgroup/memory", "group\t", "group", "process\t0\t1",
        "process\t1\t1", "process\t-1\t1", "process\tx\t1", "setting\ta\tb", "setting\t/a", "",
        "remove\t/etc", "shelter\t/etc", "forget", "group\t/a\t/b",
    ])
    func aGuardRefusesWhatIsNotOurs(line: String) {
        var duties = GuardDuties(places: FakeControlGroups(version: 1).places())
        #expect(duties.take(line) != nil)
        #expect(duties.duties.isEmpty)
    }

    @Test func theFirstValueOfASettingIsTheOneThatComesBack() {
        let folder = Folder()
        folder.write("a", "now")
        var duties = GuardDuties(places: FakeControlGroups(version: 1).places())
        #expect(duties.take("setting\t\(folder.path)/a\tfirst") == nil)
        #expect(duties.take("setting\t\(folder.path)/a\tsecond") == nil)
        #expect(duties.discharge() == [])
        #expect(folder.read("a") == "first")
    }

    @Test func aSettingThatCannotBePutBackIsNamed() {
        var duties = GuardDuties(places: FakeControlGroups(version: 1).places())
        #expect(duties.take("setting\t/nowhere/at/all\t1") == nil)
        #expect(duties.discharge().first?.hasPrefix("/nowhere/at/all: '1' cannot be put") == true)
        #expect(duties.duties.isEmpty)
    }

    @Test func aProcessThatTookOverAnIdIsNotKilled() throws {
        let folder = Folder()
        let log = unsafe open("\(folder.path)/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(log) }
        let child = unsafe withCStrings(["sleep", "1000"]) {
            unsafe host_start_child("/bin/sleep", $0, log)
        }
        let start = try #require(GuardDuties.startTime(of: child))
        var duties = GuardDuties(places: FakeControlGroups(version: 1).places())
        #expect(duties.take("process\t\(child)\t\(start)1") == nil)
        _ = duties.discharge()
        #expect(Stand.isAlive(child))
        #expect(duties.take("process\t\(child)\t\(start)") == nil)
        _ = duties.discharge()
        var end = host_end()
        #expect(unsafe host_end_of_child(child, 1, &end) == 1)
        #expect(end.status == 128 + SIGKILL)
    }

    @Test func staleGroupsAreRemovedAtTheStart() throws {
        let fake = FakeControlGroups(version: 1)
        _ = fake.places().folders.make("\(fake.folder.path)/memory/sluice-bench-2147483646-1")
        let thread = GuardThread(fake.places())
        let guardian = try Guardian(channel: thread.channel, places: fake.places())
        #expect(fake.history.last == "-memory/sluice-bench-2147483646-1")
        guardian.close()
    }

    @Test func controllersOfTheSecondVersionAreOnOnlyAsLongAsNeeded() throws {
        let fake = FakeControlGroups(version: 2, ownGroup: "ours")
        let places = fake.places(ownGroup: "ours")
        let thread = GuardThread(places)
        let guardian = try Guardian(channel: thread.channel, places: places)
        let groups = try guardian.makeGroups(Limits(memoryBytes: 1 << 30, diskPath: "/"))
        #expect(groups.count == 1)
        #expect(fake.folder.read("all/ours/cgroup.subtree_control") == "+memory")
        let shelter = "all/ours/sluice-bench-\(getpid())-harness"
        #expect(fake.folder.read("\(shelter)/cgroup.procs") == "\(getpid())")
        #expect(fake.history.first == "+\(shelter)")
        try guardian.remove(groups)
        let made = fake.history.count
        #expect(
            Confinement.obstacle(Limits(memoryBytes: 1 << 30, diskPath: "/"), guardian: guardian)
                == nil)
        #expect(fake.history.count == made + 2)
        guardian.close()
        #expect(fake.folder.read("all/ours/cgroup.subtree_control") == "-memory")
        #expect(fake.history.last == "-\(shelter)")
        #expect(thread.end() == [])
    }

    @Test func aProgramThatIsNoGuardIsNoticed() {
        for (program, arguments) in [("/bin/true", []), ("/bin/sleep", ["0.1"]), ("/nowhere", [])] {
            #expect(throws: BenchmarkingError.self) {
                try Guardian(executable: program, arguments: arguments)
            }
        }
    }

    @Test func withoutItsGuardAHarnessDoesNothingMore() throws {
        let fake = FakeControlGroups(version: 1)
        let folder = Folder()
        folder.write("a", "1\n")
        let thread = GuardThread(fake.places())
        let guardian = try Guardian(channel: thread.channel, places: fake.places())
        shutdown(thread.channel, Int32(SHUT_RDWR))
        #expect(thread.end() == [])
        let error = #expect(throws: BenchmarkingError.self) {
            try guardian.setting("\(folder.path)/a", to: "2")
        }
        #expect(error?.description.contains("the guard of the benchmark has ended") == true)
        #expect(folder.read("a") == "1")
    }

    @Test func aSettingThatIsNotThereIsNamed() throws {
        let fake = FakeControlGroups(version: 1)
        let guardian = try Guardian(
            channel: GuardThread(fake.places()).channel, places: fake.places())
        let error = #expect(throws: BenchmarkingError.self) {
            try guardian.setting("/nowhere/at/all", to: "2")
        }
        #expect(error?.description.hasPrefix("/nowhere/at/all: cannot be read") == true)
    }

    /// Timeline: the harness starts its guard, changes a setting and starts two processes; it is
    /// killed without a chance to say goodbye; then everything is as it was.
    @Test func aKilledHarnessLeavesNothing() throws { try killAHarness(isLimited: false) }

    @Test(.enabled(if: Stand.obstacle == nil, "needs limits: \(Stand.obstacle ?? "")"))
    func aKilledHarnessLeavesNoGroup() throws { try killAHarness(isLimited: true) }

    private func killAHarness(isLimited: Bool) throws {
        let folder = Folder()
        folder.write("setting", "128\n")
        let (setting, list) = ("\(folder.path)/setting", "\(folder.path)/processes")
        let log = unsafe open("\(folder.path)/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(log) }
        let arguments = Stand.arguments(
            "isAHarness",
            ["SETTING=\(setting)", "PROCESSES=\(list)", "LIMITED=\(isLimited ? "yes" : "no")"])
        let harness = unsafe withCStrings(["env"] + arguments) {
            unsafe host_start_child("/usr/bin/env", $0, log)
        }
        #expect(Stand.waits { Stand.numbers(in: list).count == 2 })
        #expect(folder.read("setting") == "4096")
        let processes = Stand.numbers(in: list)
        let groups = Set(processes.flatMap { Self.groups(of: $0) })
        #expect(groups.count == (isLimited ? 2 : 0))
        kill(harness, SIGKILL)
        var end = host_end()
        #expect(unsafe host_end_of_child(harness, 1, &end) == 1)
        #expect(Stand.waits { folder.read("setting") == "128" })
        #expect(Stand.waits { !Stand.isAlive(processes[0]) })
        // Without a group, one that left the process group is not found.
        if !isLimited { kill(processes[1], SIGKILL) }
        #expect(Stand.waits { !Stand.isAlive(processes[1]) })
        #expect(Stand.waits { groups.allSatisfy { !SystemFile.exists($0) } })
    }

    /// Folders of the groups of ours that a process is in, in trees of version 1 and 2.
    static func groups(of process: Int32) -> [String] {
        func fields(_ path: String, separator: Character) -> [[Substring]] {
            let text: String = (try? SystemFile.read(path)) ?? ""
            return text.split(separator: "\n").map { (line: Substring) -> [Substring] in
                line.split(separator: separator, omittingEmptySubsequences: false)
            }
        }
        let mounts = fields("/proc/self/mounts", separator: " ")
        var groups: [String] = []
        for line in fields("/proc/\(process)/cgroup", separator: ":")
        where line[2].contains("sluice-bench-") {
            let mount = mounts.first { (mount: [Substring]) -> Bool in
                if line[1].isEmpty { return mount[2] == "cgroup2" }
                return mount[2] == "cgroup" && mount[3].split(separator: ",").contains(line[1])
            }
            if let mount { groups.append("\(mount[1])\(line[2])") }
        }
        return groups
    }
}
