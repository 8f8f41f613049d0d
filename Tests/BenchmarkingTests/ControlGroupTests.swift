import Glibc
import Testing

@testable import Benchmarking

@Suite struct ControlGroupTests {
    static func plan(_ place: ControlGroupPlaces.Place) -> ControlGroup.Plan {
        ControlGroup.Plan(
            place: place, path: "\(place.folder)/sluice-bench-\(getpid())-1", memoryBytes: 1 << 30,
            disk: ("254:0", 860_000_000))
    }

    @Test func theFirstVersionHasATreeForEachController() throws {
        let fake = FakeControlGroups(version: 1)
        let memory = try fake.places().place(for: .memory)
        let disk = try fake.places().place(for: .disk)
        #expect(memory == .init(version: 1, folder: "\(fake.folder.path)/memory"))
        #expect(disk == .init(version: 1, folder: "\(fake.folder.path)/blkio"))
    }

    @Test func theFirstVersionLimitsMemoryAndSwapTogether() throws {
        let fake = FakeControlGroups(version: 1)
        let places = fake.places()
        let place = try places.place(for: .memory)
        let path = "\(place.folder)/sluice-bench-\(getpid())-1"
        let group = try ControlGroup(
            making: .init(place: place, path: path, memoryBytes: 1 << 30), folders: places.folders)
        #expect(SystemFile.line("\(path)/memory.limit_in_bytes") == "1073741824")
        #expect(SystemFile.line("\(path)/memory.memsw.limit_in_bytes") == "1073741824")
        #expect(group.peakBytes == 4096 && group.limitHits == 7 && group.memoryKills == 1)
        try group.requireLimits()
        for file in ["memory.failcnt", "memory.memsw.failcnt"] {
            Folder.write("\(path)/\(file)", "0\n")
        }
        #expect(group.limitHits == 0)
        // At the limit and yet never stopped by it: the kernel does not count.
        Folder.write("\(path)/memory.max_usage_in_bytes", "1073741824\n")
        #expect(group.limitHits == nil)
        try group.remove()
        #expect(!SystemFile.exists(path))
    }

    @Test func theFirstVersionThrottlesOneDiskAndTellsNothingOfMemory() throws {
        let fake = FakeControlGroups(version: 1)
        let places = fake.places()
        let place = try places.place(for: .disk)
        let path = "\(place.folder)/sluice-bench-\(getpid())-1"
        let group = try ControlGroup(
            making: .init(place: place, path: path, disk: ("254:0", 860_000_000)),
            folders: places.folders)
        #expect(SystemFile.line("\(path)/blkio.throttle.read_bps_device") == "254:0 860000000")
        #expect(group.peakBytes == nil && group.limitHits == nil && group.memoryKills == nil)
    }

    @Test func theSecondVersionLimitsBothInOneGroup() throws {
        let fake = FakeControlGroups(version: 2)
        let places = fake.places()
        let place = try places.place(for: .memory)
        #expect(try place == places.place(for: .disk))
        #expect(place == .init(version: 2, folder: "\(fake.folder.path)/all"))
        let plan = Self.plan(place)
        #expect(plan.controllersToEnable == ["memory", "io"])
        let group = try ControlGroup(making: plan, folders: places.folders)
        #expect(SystemFile.line("\(plan.path)/memory.max") == "1073741824")
        #expect(SystemFile.line("\(plan.path)/memory.swap.max") == "0")
        #expect(SystemFile.line("\(plan.path)/io.max") == "254:0 rbps=860000000")
        #expect(group.peakBytes == 8192 && group.limitHits == 5 && group.memoryKills == 0)
    }

    @Test func aGroupWhoseControllersAreOnNeedsNoneEnabled() throws {
        let fake = FakeControlGroups(version: 2)
        fake.folder.write("all/cgroup.subtree_control", "cpu io memory")
        #expect(Self.plan(try fake.places().place(for: .disk)).controllersToEnable == [])
    }

    @Test func belowTheRootOurOwnGroupIsTheOnlyPlace() throws {
        let fake = FakeControlGroups(version: 2, ownGroup: "ours")
        let ours = ControlGroupPlaces.Place(
            version: 2, folder: "\(fake.folder.path)/all/ours", isOwn: true)
        #expect(try fake.places(ownGroup: "ours").place(for: .memory) == ours)
        // Having moved one down changes nothing.
        let moved = fake.places(ownGroup: "ours/sluice-bench-\(getpid())-harness")
        #expect(try moved.place(for: .memory) == ours)
    }

    @Test func aGroupThatHoldsOthersCannotBeLeft() {
        let fake = FakeControlGroups(version: 2, ownGroup: "ours")
        fake.folder.write("all/ours/cgroup.procs", "\(getpid())\n\(getppid())\n")
        let refusal = #expect(throws: BenchmarkingError.self) {
            try fake.places(ownGroup: "ours").place(for: .memory)
        }
        let text = refusal?.description ?? ""
        #expect(text.contains("process \(getppid()), which is not ours"))
        #expect(text.contains("systemd-run --user --scope -p Delegate=yes"))
    }

    @Test func aMissingControllerIsNamedWithARemedy() {
        let none = ControlGroupPlaces(mounts: "tmpfs /tmp tmpfs rw 0 0\n", groups: "")
        let text = Confinement.obstacle(Limits(memoryBytes: 1 << 30, diskPath: "/"), places: none)
        #expect(text?.hasPrefix("memory cannot be limited here: no control group") == true)
        #expect(text?.contains("run as root") == true && text?.contains("\n") == false)

        let fake = FakeControlGroups(version: 2)
        fake.folder.write("all/cgroup.controllers", "cpu memory")
        let error = #expect(throws: BenchmarkingError.self) {
            try fake.places().place(for: .disk)
        }
        #expect(error?.description.contains("has no controller 'io'") == true)
    }

    @Test(arguments: [
        Limits(memoryBytes: 0, diskPath: "/"), Limits(memoryBytes: -1, diskPath: "/"),
        Limits(diskBytesPerSecond: 0, diskPath: "/"),
        Limits(diskBytesPerSecond: .nan, diskPath: "/"),
        Limits(diskBytesPerSecond: .infinity, diskPath: "/"),
        Limits(diskBytesPerSecond: 1e9, diskPath: "/proc/self/status"),
        Limits(diskBytesPerSecond: 1e9, diskPath: "/nowhere/at/all"),
    ])
    func whatIsNoLimitIsRefused(limits: Limits) {
        let fake = FakeControlGroups(version: 1)
        #expect(Confinement.obstacle(limits, places: fake.places()) != nil)
        #expect(fake.history.isEmpty)
    }

    @Test func anObstacleIsLookedForByTrying() {
        let fake = FakeControlGroups(version: 1)
        let limits = Limits(memoryBytes: 1 << 30, diskPath: "/")
        #expect(Confinement.obstacle(limits, places: fake.places()) == nil)
        #expect(
            fake.history.count == 2 && fake.history[0].dropFirst() == fake.history[1].dropFirst())
    }

    @Test func aLimitThatTheKernelRefusesLeavesNoGroup() throws {
        let fake = FakeControlGroups(version: 1)
        let places = fake.places()
        // A kernel without throttling has no such file.
        let noDisk = ControlGroupPlaces.Folders(
            make: { path in
                let error = places.folders.make(path)
                unsafe unlink("\(path)/blkio.throttle.read_bps_device")
                return error
            }, remove: places.folders.remove)
        let place = try places.place(for: .disk)
        let error = #expect(throws: BenchmarkingError.self) {
            try ControlGroup(
                making: .init(
                    place: place, path: "\(place.folder)/sluice-bench-1-1", disk: ("254:0", 1)),
                folders: noDisk)
        }
        #expect(error?.description.contains("the kernel refused the limit '254:0 1'") == true)
        #expect(fake.history == ["+blkio/sluice-bench-1-1", "-blkio/sluice-bench-1-1"])
    }

    @Test func aLimitThatSomebodyChangesDuringARunIsNoticed() throws {
        let fake = FakeControlGroups(version: 2)
        let places = fake.places()
        let plan = Self.plan(try places.place(for: .memory))
        let group = try ControlGroup(making: plan, folders: places.folders)
        try group.requireLimits()
        Folder.write("\(plan.path)/io.max", "")
        #expect(throws: BenchmarkingError.self) { try group.requireLimits() }
    }

    @Test func aGroupIsRemovedAgainAndAgainUntilItIsGone() throws {
        let fake = FakeControlGroups(version: 1)
        let path = "\(fake.folder.path)/memory/sluice-bench-1-1"
        _ = fake.places().folders.make(path)
        fake.refuseToRemove(times: 3)
        try ControlGroup.remove(path, folders: fake.places().folders)
        #expect(!SystemFile.exists(path))
        // One that is gone already is no error.
        try ControlGroup.remove(path, folders: fake.places().folders)
    }

    @Test func aGroupThatStaysIsNamed() {
        let fake = FakeControlGroups(version: 1)
        let path = "\(fake.folder.path)/memory/sluice-bench-1-1"
        _ = fake.places().folders.make(path)
        fake.refuseToRemove(times: .max)
        let error = #expect(throws: BenchmarkingError.self) {
            try ControlGroup.remove(path, folders: fake.places().folders, withinSeconds: 0.05)
        }
        #expect(error?.description.hasPrefix("\(path): the control group is left behind") == true)
    }

    @Test func aThrottleIsLiftedBeforeItsProcessesAreKilled() {
        let fake = FakeControlGroups(version: 2)
        let path = "\(fake.folder.path)/all/sluice-bench-1-1"
        _ = fake.places().folders.make(path)
        Folder.write("\(path)/io.max", "254:0 rbps=1000 wbps=max riops=max wiops=max\n")
        Folder.write("\(path)/cgroup.procs", "2147483646\n")
        ControlGroup.killAll(in: path)
        #expect(SystemFile.line("\(path)/io.max") == "254:0 rbps=max")
    }

    @Test func processesThatCannotBeSeenAreNotKilled() {
        let folder = Folder()
        folder.write("cgroup.procs", "0\n1\n17\n-4\n\nx\n")
        #expect(ControlGroup.processes(in: folder.path) == [17])
    }

    @Test(arguments: [
        ("/memory/sluice-bench-1-1", true), ("/memory/a/sluice-bench-1-1", true),
        ("/memory", false), ("/memory/other", false), ("/memory/sluice-bench-1/x", false),
        ("/memory/../sluice-bench-1", false), ("/memory//sluice-bench-1", false),
        ("/elsewhere/sluice-bench-1-1", false), ("", false),
    ])
    func onlyOurOwnGroupsAreOurs(path: String, isOurs: Bool) {
        let fake = FakeControlGroups(version: 1)
        #expect(fake.places().owns(path.isEmpty ? "" : fake.folder.path + path) == isOurs)
    }

    @Test func onlyGroupsOfDeadHarnessesAreStale() {
        let fake = FakeControlGroups(version: 1)
        for name in [
            "memory/sluice-bench-2147483646-1", "memory/sluice-bench-\(getpid())-1",
            "memory/sluice-bench-x-1", "memory/sluice-other-2147483646-1",
            "blkio/sluice-bench-2147483645-1",
        ] { fake.folder.make(name) }
        // Its processes are another container's.
        fake.folder.write("blkio/sluice-bench-2147483645-1/cgroup.procs", "0\n")
        #expect(
            fake.places().staleGroups()
                == ["\(fake.folder.path)/memory/sluice-bench-2147483646-1"])
    }
}
