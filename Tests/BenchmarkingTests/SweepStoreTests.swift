import Benchmarking
import FoundationEssentials
import Testing

@Suite struct SweepStoreTests {
    @Test func finishedRunsAreKeptWhateverEndsTheSweep() throws {
        let folder = Folder()
        var store = try SweepStore(folder: folder.path, head: Self.head, resumes: false)
        try store.append(Self.entry("a", rate: 3))
        try store.append(Self.entry("b", rate: 5))
        try store.append(Self.entry("a", rate: 4))
        #expect(store.rounds(of: Self.entry("a", rate: 0).point) == 2)

        // As a reader after a kill has it.
        let read = try SweepStore(folder: folder.path)
        #expect(read.entries.count == 3 && read.head.command == "sluice bench sweep")
        #expect(read.report.rows.map(\.point.setting) == ["a", "b"])
        #expect(read.report.rows[0].runs.map(\.decodeTokensPerSecond) == [3, 4])
        #expect(read.report.rows[1].command == "again b")
    }

    @Test func aLineThatWasCutIsForgottenAndNotContinued() throws {
        let folder = Folder()
        var store = try SweepStore(folder: folder.path, head: Self.head, resumes: false)
        try store.append(Self.entry("a", rate: 3))
        let path = "\(folder.path)/runs.jsonl"
        let line = try Data(contentsOf: URL(filePath: path))
        try (line + line.dropLast(20)).write(to: URL(filePath: path))
        #expect(try SweepStore(folder: folder.path).entries.count == 1)

        var again = try SweepStore(folder: folder.path, head: Self.head, resumes: true)
        #expect(again.entries.count == 1)
        try again.append(Self.entry("b", rate: 5))
        #expect(try SweepStore(folder: folder.path).entries.map(\.point.setting) == ["a", "b"])
    }

    @Test func aFolderWithRunsIsNotMeasuredOver() throws {
        let folder = Folder()
        var store = try SweepStore(folder: folder.path, head: Self.head, resumes: false)
        try store.append(Self.entry("a", rate: 3))
        let error = #expect(throws: BenchmarkingError.self) {
            try SweepStore(folder: folder.path, head: Self.head, resumes: false)
        }
        #expect(error?.description.contains("--resume") == true)
        #expect(try SweepStore(folder: folder.path).entries.count == 1)
    }

    @Test(arguments: ["{}\n", "nonsense\n{\"point\": 1}\n", "\n\nnull\n"])
    func aFileOfSomethingElseIsRefusedInOneLine(text: String) throws {
        let folder = Folder()
        _ = try SweepStore(folder: folder.path, head: Self.head, resumes: false)
        try Data(text.utf8).write(to: URL(filePath: "\(folder.path)/runs.jsonl"))
        let error = #expect(throws: BenchmarkingError.self) {
            try SweepStore(folder: folder.path)
        }
        #expect(error?.description.contains("runs.jsonl: line 1") == true)
    }

    @Test func aFolderThatIsNoneOrCannotBeMadeIsNamed() {
        for path in ["/proc/none/sweep", "/dev/null"] {
            let made = #expect(throws: BenchmarkingError.self) {
                try SweepStore(folder: path, head: Self.head, resumes: false)
            }
            #expect(made?.description.hasPrefix(path) == true)
        }
        let read = #expect(throws: BenchmarkingError.self) { try SweepStore(folder: "/proc") }
        #expect(
            read?.description == "/proc/sweep.json: there is none, so this is no folder of a sweep")
    }

    @Test func aDiskThatIsSlowerThanItsLimitIsRemarked() throws {
        let folder = Folder()
        var store = try SweepStore(folder: folder.path, head: Self.head, resumes: false)
        var entry = Self.entry("a", rate: 3)
        entry.point.diskLimitBytesPerSecond = 3e9
        entry.run.diskBytesPerSecond = 1.25e9
        try store.append(entry)
        try store.remark("b")
        try store.remark("b")
        #expect(store.report.remarks.count == 2)
        #expect(
            store.report.remarks[1].hasPrefix(
                "With the disk held to 3.00 GB/s it gave as little as 1.25 at times"))
        // What was read is not remarked twice.
        #expect(try SweepStore(folder: folder.path).report.remarks == store.report.remarks)
    }

    private static let head = BenchmarkReport(
        date: "2026-01-02", command: "sluice bench sweep", sluice: "0",
        machine: BenchmarkReport.Machine(
            processor: "p", processors: 1, memoryBytes: 1, kernel: "k", drive: "d",
            instructionSet: "scalar"), rows: [])

    private static func entry(_ setting: String, rate: Double) -> SweepStore.Entry {
        SweepStore.Entry(
            point: BenchmarkPoint(
                engine: .sluice, model: "m", setting: setting, threads: 1, promptTokens: 0,
                warmUpTokens: 0, tokens: 1),
            command: "again \(setting)",
            run: BenchmarkRun(engine: "e", decodeTokensPerSecond: rate, tokenSeconds: [1 / rate]))
    }
}
