import CHost
import Glibc
import Testing

@testable import Benchmarking

@Suite struct MeasuredProcessTests {
    let thread: GuardThread
    let guardian: Guardian

    init() throws {
        let places = ControlGroupPlaces.ofThisMachine()
        thread = GuardThread(places)
        guardian = try Guardian(channel: thread.channel, places: places)
    }

    private func run(
        _ script: String, environment: [String: String] = [:], limits: Limits? = nil,
        timeoutSeconds: Double = 60
    ) throws(BenchmarkingError) -> MeasuredProcess.Outcome {
        try MeasuredProcess.run(
            ["/bin/sh", "-c", script], environment: environment, limits: limits, guardian: guardian,
            timeoutSeconds: timeoutSeconds)
    }

    @Test func whatAProcessPrintsAndHowItEndsIsKept() throws {
        let outcome = try run(
            "echo a; echo b >&2; read x; echo \"<$x>$KEY\"; exit 7", environment: ["KEY": "v=1"])
        #expect(String(decoding: outcome.output, as: UTF8.self) == "a\n<>v=1\n")
        #expect(String(decoding: outcome.errors, as: UTF8.self) == "b\n")
        #expect(outcome.status == 7 && !outcome.wasKilledForMemory)
        #expect(outcome.groupPeakBytes == nil && outcome.limitHits == nil)
        #expect(outcome.peakMemoryBytes > 0)
        #expect(try run("kill -9 $$").status == 128 + SIGKILL)
    }

    @Test func ofManyErrorsTheLastAreKept() throws {
        let outcome = try run("head -c 300000 /dev/zero >&2; echo end >&2")
        #expect(outcome.errors.count == MeasuredProcess.keptErrorBytes)
        #expect(outcome.errors.suffix(4) == Array("end\n".utf8)[...])
    }

    @Test func tooMuchOutputIsAnError() {
        let error = #expect(throws: BenchmarkingError.self) { try run("exec cat /dev/zero") }
        #expect(error?.description.contains("printed more than 16 MiB") == true)
    }

    @Test func aProcessThatHangsIsKilledWithItsLastWords() throws {
        let folder = Folder()
        let list = "\(folder.path)/processes"
        let error = #expect(throws: BenchmarkingError.self) {
            try run(
                "sleep 1000 & echo $$ $! > \(list); echo loading >&2; wait", timeoutSeconds: 0.5)
        }
        #expect(error?.description.contains("still ran after 0.5 s") == true)
        #expect(error?.description.contains("'loading'") == true)
        let processes = Stand.numbers(in: list)
        #expect(processes.count == 2)
        #expect(Stand.waits { processes.allSatisfy { !Stand.isAlive($0) } })
    }

    @Test func whatAProcessLeavesRunningEndsWithIt() throws {
        let folder = Folder()
        _ = try run("sleep 1000 & echo $! > \(folder.path)/processes; echo done")
        let left = Stand.numbers(in: "\(folder.path)/processes")
        #expect(left.count == 1)
        #expect(Stand.waits { left.allSatisfy { !Stand.isAlive($0) } })
    }

    @Test(arguments: ["/nowhere/at/all", "/proc", "no-such-program-anywhere", ""])
    func whatCannotBeStartedIsNamed(program: String) {
        let error = #expect(throws: BenchmarkingError.self) {
            try MeasuredProcess.run(
                [program], limits: nil, guardian: guardian, timeoutSeconds: 1)
        }
        #expect(error?.description.hasPrefix(program.isEmpty ? ":" : program) == true)
        #expect(throws: BenchmarkingError.self) {
            try MeasuredProcess.run([], limits: nil, guardian: guardian, timeoutSeconds: 1)
        }
    }

    @Test func aProgramIsFoundAsAShellFindsIt() {
        #expect(MeasuredProcess.find("sh")?.hasSuffix("/sh") == true)
        #expect(MeasuredProcess.find("./x") == "./x")
    }

    /// In plain files one can see that it is written to before the program begins.
    @Test func aProcessEntersItsGroupsBeforeItBegins() throws {
        let fake = FakeControlGroups(version: 1)
        let guardThread = GuardThread(fake.places())
        let guardian = try Guardian(channel: guardThread.channel, places: fake.places())
        let outcome = try MeasuredProcess.run(
            ["/bin/sh", "-c", "cat \(fake.folder.path)/memory/sluice-bench-*/cgroup.procs"],
            limits: Limits(memoryBytes: 1 << 30, diskPath: "/"), guardian: guardian,
            timeoutSeconds: 60)
        #expect(outcome.output == [UInt8(ascii: "0")])
        #expect(outcome.groupPeakBytes == 4096 && outcome.wasKilledForMemory)
        #expect(fake.history.count == 2)
        #expect(throws: BenchmarkingError.self) {
            try MeasuredProcess.run(
                ["/nowhere/at/all"], limits: Limits(memoryBytes: 1 << 30, diskPath: "/"),
                guardian: guardian, timeoutSeconds: .nan)
        }
        #expect(fake.history.count == 4)
        guardian.close()
        #expect(guardThread.end() == [])
    }

    @Test func aGroupThatLetsNobodyInIsNamedAndRemoved() throws {
        let fake = FakeControlGroups(version: 1)
        let places = fake.places()
        let closed = ControlGroupPlaces(
            mounts: "cgroup \(fake.folder.path)/memory cgroup memory 0 0", groups: "",
            folders: .init(
                make: { path in
                    let error = places.folders.make(path)
                    unsafe unlink("\(path)/cgroup.procs")
                    // Takes no byte.
                    unsafe symlink("/dev/full", "\(path)/cgroup.procs")
                    return error
                }, remove: places.folders.remove))
        let guardian = try Guardian(channel: GuardThread(closed).channel, places: closed)
        let error = #expect(throws: BenchmarkingError.self) {
            try MeasuredProcess.run(
                ["/bin/true"], limits: Limits(memoryBytes: 1 << 30, diskPath: "/"),
                guardian: guardian, timeoutSeconds: 60)
        }
        #expect(error?.description.contains("cgroup.procs: a new process cannot enter it") == true)
        #expect(fake.history.count == 2)
    }

    @Suite(.enabled(if: Stand.obstacle == nil, "needs limits: \(Stand.obstacle ?? "")"))
    struct Limited {
        let guardian: Guardian

        init() throws { guardian = try Stand.guardian() }

        private func run(_ script: String, _ limits: Limits = Stand.limits) throws
            -> MeasuredProcess.Outcome
        {
            try MeasuredProcess.run(
                ["/bin/sh", "-c", script], limits: limits, guardian: guardian, timeoutSeconds: 60)
        }

        /// Nothing of this process's groups is left.
        private func expectNothingLeft(_ outcome: MeasuredProcess.Outcome) {
            let names = String(decoding: outcome.output, as: UTF8.self).words
                .compactMap { $0.split(separator: "/").last.map(String.init) }
                .filter { $0.hasPrefix("sluice-bench-") }
            #expect(!names.isEmpty)
            for mount in ((try? SystemFile.read("/proc/self/mounts")) ?? "").split(separator: "\n")
            {
                let folder = mount.split(separator: " ")[1]
                for name in names { #expect(!SystemFile.exists("\(folder)/\(name)")) }
            }
        }

        @Test func aProcessBeginsInItsGroups() throws {
            let outcome = try run("grep -o '[a-z]*:/.*sluice-bench-.*' /proc/self/cgroup")
            #expect(outcome.status == 0 && !outcome.wasKilledForMemory)
            let peak = try #require(outcome.groupPeakBytes)
            #expect(peak > 0 && peak <= 64 << 20)
            expectNothingLeft(outcome)
        }

        @Test func tooMuchMemoryIsSeenAsSuch() throws {
            // tail keeps all of a line.
            let outcome = try run(
                "grep -o '/.*sluice-bench-.*' /proc/self/cgroup; head -c 200000000 /dev/zero | tail"
            )
            #expect(outcome.wasKilledForMemory)
            #expect(outcome.groupPeakBytes.map { $0 > 60 << 20 && $0 <= 64 << 20 } != false)
            #expect(outcome.limitHits != 0)
            expectNothingLeft(outcome)
        }

        @Test func whatLeavesTheProcessGroupEndsWithTheControlGroup() throws {
            let folder = Folder()
            let list = "\(folder.path)/processes"
            _ = try run("setsid sleep 1000 & echo $! > \(list)")
            let left = Stand.numbers(in: list)
            #expect(left.count == 1 && left.allSatisfy { !Stand.isAlive($0) })
        }
    }
}
