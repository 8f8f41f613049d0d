import Benchmarking
import Testing

@Suite struct ReportDataTests {
    @Test func jsonComesBackAsItWent() throws {
        var report = try ReportFixture.report
        report.rows[0].runs[0].hitRate = .nan
        report.rows[0].runs[0].loadSeconds = .infinity
        let once = try report.json()
        let again = try BenchmarkReport(json: Array(once.utf8))
        #expect(try again.json() == once)
        #expect(again.rows.count == report.rows.count)
        #expect(again.rows[1].runs == report.rows[1].runs)
        #expect(again.rows[0].runs[0].hitRate?.isNaN == true)
        #expect(again.rows[0].runs[0].loadSeconds == .infinity)
        #expect(again.quality == report.quality)
        #expect(again.machine == report.machine)
        #expect(once.contains("\"decode_tokens_per_second\""))
    }

    @Test(arguments: [
        ("", "not a benchmark report: this is not JSON"),
        ("{", "not a benchmark report: this is not JSON"),
        ("[]", "not a benchmark report: the whole is not an object"),
        ("{}", "not a benchmark report: version is missing"),
        (
            #"{"version": 2}"#,
            "version 2 of a benchmark report is not supported, only 1; measure again with this sluice"
        ),
        (#"{"version": "1"}"#, "not a benchmark report: version is not a whole number"),
        (#"{"version": 1}"#, "not a benchmark report: date is missing"),
    ])
    func whatIsNoReportIsRefusedInOneLine(json: String, line: String) {
        #expect(throws: BenchmarkingError(line)) { try BenchmarkReport(json: Array(json.utf8)) }
    }

    @Test(arguments: [
        (#""decode_tokens_per_second""#, #""x""#, ".decode_tokens_per_second is missing"),
        (#""llama.cpp","#, #""other","#, ".engine has a value that is not one of its kind"),
        (#""layers": 6"#, #""layers": 7"#, "is not 7 layers by 16 experts"),
        (#""threads": 2"#, #""threads": "2""#, ".threads is not a whole number"),
        (#""threads": 2"#, #""threads": 1e99"#, "not a benchmark report: "),
    ])
    func aDamagedReportIsRefusedWithThePlace(old: String, new: String, line: String) throws {
        let text = String(decoding: try ReportFixture.bytes, as: UTF8.self)
        var changed = text
        let place = try #require(text.firstRange(of: old))
        changed.replaceSubrange(place, with: new)
        let error = #expect(throws: BenchmarkingError.self) {
            try BenchmarkReport(json: Array(changed.utf8))
        }
        let words = error?.description ?? ""
        #expect(words.contains(line), "\(words)")
        #expect(!words.contains("\n"))
    }

    @Test func csvQuotesWhatMustBeQuoted() throws {
        var run = ReportFixture.run(2)
        run.hitsByPlanes = [0.25, 0.5]
        run.majorFaults = 3
        run.hitRate = .nan
        var row = ReportFixture.row("a \"b\", c", runs: [run])
        row.point.model = "line\r\nend.gguf"
        row.command = "plain command"
        let csv = ReportFixture.report([row]).csv()
        // As Python's csv.writer writes the same fields.
        let expected =
            "sluice,\"line\r\nend.gguf\",\"a \"\"b\"\", c\",,,,,,2,0,0,1,,"
            + "sluice 0,,,2.0,0.5,0.5,0.5,,,0.25 0.5,,,,,,,,,,,3,,,,,,,,,plain command\r\n"
        let header = try #require(csv.firstRange(of: "\r\n"))
        #expect(csv[header.upperBound...] == expected)
        let columns = csv[..<header.lowerBound].split(separator: ",")
        // Two of the quoted field's commas part nothing.
        #expect(
            columns.count == expected.split(separator: ",", omittingEmptySubsequences: false).count
                - 1)
        #expect(Set(columns).count == columns.count)
    }

    @Test func csvHasALineForEveryRun() throws {
        let rows = [
            ReportFixture.row("a", runs: [ReportFixture.run(1), ReportFixture.run(2)]),
            ReportFixture.row("never run", runs: []),
        ]
        let lines = ReportFixture.report(rows).csv().split(separator: "\r\n")
        #expect(lines.count == 4)
        #expect(lines[3].hasPrefix("sluice,m.gguf,never run,"))
    }
}
