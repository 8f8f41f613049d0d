import Benchmarking
import Testing

@Suite struct ReportPageTests {
    @Test func theExampleHasEveryPart() throws {
        let report = try ReportFixture.report
        let html = report.html()
        let page = try MarkupChecker(html)
        let titles = Set(
            page.elements.filter { $0.name == "svg" && $0.attributes["role"] == "img" }.map(\.name))
        #expect(titles == ["svg"])
        for words in [
            "At a glance", "Decode speed against cache size", "Hit rate against cache size",
            "Time of a token", "Bytes read per token", "How often experts were used",
            "Experts in memory, by width", "Quality against bytes read", "Measure again",
            "x86 cores", "example: made-up figures", "llama.cpp", "caa0356",
        ] { #expect(page.text.contains(words), "\(words)") }
        for row in report.rows { #expect(page.text.contains(row.command)) }
        for remark in report.remarks { #expect(page.text.contains(remark)) }
    }

    @Test func theSameReportGivesTheSamePage() throws {
        #expect(try ReportFixture.report.html() == ReportFixture.report.html())
    }

    @Test func thePageAsksForNothing() throws {
        let page = try MarkupChecker(try ReportFixture.report.html())
        #expect(
            !page.elements.contains { ["script", "img", "iframe", "object"].contains($0.name) })
        for element in page.elements {
            #expect(element.attributes["src"] == nil)
            #expect(element.attributes["href"] == nil || element.attributes["href"] == "data:,")
        }
        #expect(!(try ReportFixture.report.html()).contains("url("))
    }

    @Test func hostileWordsStayWords() throws {
        let hostile =
            "</script><script>alert(1)</script> & \"'><svg onload=x> \u{0}\u{1b}\u{202e}\u{fffe}"
        var row = ReportFixture.row(
            hostile, cache: hostile, runs: [ReportFixture.run(2, multiple: 1)])
        row.point.model = hostile
        row.point.board = hostile
        row.point.role = hostile
        row.command = hostile
        row.runs[0].engine = hostile
        var other = row
        other.point.cache = "2x"
        other.runs[0].cacheMultiple = 2
        other.runs[0].heat = ExpertHeat(
            layers: 1, experts: 2, uses: [1, 0], residentPlanes: [0, 1], planes: 1)
        var report = ReportFixture.report([row, other])
        report.command = hostile
        report.commit = hostile
        report.date = hostile
        report.remarks = [hostile]
        report.machine.processor = hostile
        report.quality = [
            .init(
                model: hostile, setting: hostile, perplexity: 2, exactPerplexity: 1,
                meanDivergence: 0, agreement: 1, bytesReadPerToken: 1, tokens: 1)
        ]
        let page = try MarkupChecker(report.html())
        #expect(!page.elements.contains { $0.name == "script" })
        #expect(!page.elements.contains { $0.attributes["onload"] != nil })
        #expect(page.text.contains("</script><script>alert(1)</script> & \"'><svg onload=x>"))
        #expect(!report.html().contains("\u{202e}"))
    }

    @Test func missingFiguresAreDashes() throws {
        var bare = ReportFixture.run(3)
        bare.tokenSeconds = []
        var broken = ReportFixture.run(1)
        broken.decodeTokensPerSecond = .nan
        broken.hitRate = .infinity
        broken.rooflineShare = 0
        broken.tokenSeconds = [.nan, -1, 0, .infinity]
        broken.demandBytesPerToken = -.infinity
        let page = try MarkupChecker(
            ReportFixture.report([
                ReportFixture.row("bare", runs: [bare]),
                ReportFixture.row("broken", runs: [broken]),
                ReportFixture.row("never run", runs: []),
            ]).html())
        for words in ["nan", "inf", "NaN"] {
            #expect(!page.text.contains(words), "\(words)")
            #expect(!page.elements.contains { $0.attributes["d"]?.contains(words) == true })
        }
        #expect(page.text.contains("\u{2013}"))
        #expect(!page.text.contains("Time of a token"))
    }

    @Test(arguments: [1e308, 1e-300, -1e308, 1e19])
    func absurdFiguresAreDrawnSomehow(value: Double) throws {
        var run = ReportFixture.run(value, multiple: value)
        run.tokenSeconds = [value, 1]
        run.rooflineShare = value
        run.hitRate = value
        run.hitsByPlanes = [value, value]
        run.demandBytesPerToken = value
        run.upgradeBytesPerToken = value
        run.majorFaults = .max
        run.groupPeakBytes = .min
        run.heat = ExpertHeat(
            layers: 1, experts: 2, uses: [.max, .min], residentPlanes: [.max, .min], planes: 0)
        var other = run
        other.cacheMultiple = 3
        other.decodeTokensPerSecond = 2
        var report = ReportFixture.report([
            ReportFixture.row("a", runs: [run, run]), ReportFixture.row("b", runs: [other]),
        ])
        report.quality = [value, -value].map {
            .init(
                model: "m", setting: "s", perplexity: $0, exactPerplexity: 1, meanDivergence: $0,
                agreement: $0, bytesReadPerToken: $0, tokens: .min)
        }
        _ = try MarkupChecker(report.html())
        #expect(report.csv().utf8.count > 100)
    }

    @Test func oneSizeIsABarAndTwoAreACurve() throws {
        let one = ReportFixture.row(
            "cache=2x", cache: "2x", runs: [ReportFixture.run(4, multiple: 2)])
        #expect(!ReportFixture.report([one]).html().contains("against cache size"))
        let two = ReportFixture.row(
            "cache=4x", cache: "4x", runs: [ReportFixture.run(6, multiple: 4)])
        let page = try MarkupChecker(ReportFixture.report([one, two]).html())
        #expect(page.text.contains("from 2\u{d7} to 4\u{d7}; fastest 6.00 tok/s at 4\u{d7}"))
        // One curve of two points, beside its sample in the legend.
        #expect(page.elements.count { $0.attributes["class"] == "curve c0 d0" } == 2)
    }

    @Test func sizesWithoutMultiplesStandInTheOrderGiven() throws {
        let rows = ["10%", "100%", "50%"].map { (size: String) in
            ReportFixture.row("cache=\(size)", cache: size, runs: [ReportFixture.run(4)])
        }
        let page = try MarkupChecker(ReportFixture.report(rows).html())
        #expect(page.text.contains("from 10% to 50%"))
    }

    @Test func theRooflineLiesWhereItsShareSays() throws {
        var runs = [2.0, 4].map { ReportFixture.run($0, multiple: 1) }
        runs[0].rooflineShare = 0.5
        runs[1].rooflineShare = 0.8
        let page = try MarkupChecker(
            ReportFixture.report([ReportFixture.row("a", runs: runs)]).html())
        // The median of 2 / 0.5 and 4 / 0.8, and of the shares.
        #expect(page.text.contains("of 4.50 tok/s"))
        #expect(page.text.contains("65.0 %"))
    }

    @Test func thePeerIsComparedUnderTheSameLimitsOnly() throws {
        var ours = ReportFixture.row("miss=exact", runs: [ReportFixture.run(9)])
        ours.point.memoryLimitBytes = 3 << 30
        var best = ReportFixture.row("load=mmap", runs: [ReportFixture.run(3)])
        best.point.engine = .llamaCpp
        best.point.role = "best"
        best.point.memoryLimitBytes = 3 << 30
        var roomy = best
        roomy.point.memoryLimitBytes = 8 << 30
        roomy.runs = [ReportFixture.run(30)]
        let page = try MarkupChecker(ReportFixture.report([ours, best, roomy]).html())
        #expect(page.text.contains("3.00\u{d7}"))
        #expect(page.text.contains("3 GiB of memory"))
        #expect(page.text.contains("8 GiB of memory"))
    }

    @Test func noRowsAreSaid() throws {
        let page = try MarkupChecker(ReportFixture.report([]).html())
        #expect(page.text.contains("No points were measured."))
        #expect(!page.elements.contains { $0.name == "svg" })
    }

    @Test func thousandsOfRowsStayInTheTable() throws {
        let rows = (1...3000).map { place in
            ReportFixture.row(
                "cache=\(place) policy=p\(place % 40)", cache: "\(place)",
                runs: [ReportFixture.run(Double(place), multiple: Double(place) / 8)])
        }
        let page = try MarkupChecker(ReportFixture.report(rows).html())
        #expect(page.elements.count { $0.name == "details" } == 3000)
        #expect(page.elements.count { $0.name == "path" } < 2000)
        #expect(page.text.contains("2,984 more rows in the table only"))
    }

    @Test func everyCellOfAHeatMapIsDrawnOnce() throws {
        var run = ReportFixture.run(1)
        run.heat = ExpertHeat(
            layers: 2, experts: 4, uses: [0, 9, 9, 4, 0, 0, 0, 0],
            residentPlanes: [2, 2, 2, 2, 1, 0, 0, 1],
            planes: 2)
        let page = try MarkupChecker(
            ReportFixture.report([ReportFixture.row("a", runs: [run])]).html())
        let paths = page.elements.filter { $0.attributes["stroke-opacity"] != nil }
            .map { "\($0.attributes["stroke-opacity"] ?? "") \($0.attributes["d"] ?? "")" }
        // Uses by the square root of 4/9, rounded up to the sixth of eight shades, and of 9/9.
        #expect(paths == ["0.78 M3 0h1", "1.00 M1 0h2", "0.56 M0 1h1M3 1h1", "1.00 M0 0h4"])
    }

    @Test func theHeatIsThatOfTheMiddleCacheSize() throws {
        let rows = [8.0, 1, 3].map { multiple in
            var run = ReportFixture.run(1, multiple: multiple)
            run.heat = ExpertHeat(
                layers: 1, experts: 1, uses: [1], residentPlanes: [1], planes: 1)
            let last = ReportFixture.run(1, multiple: multiple)
            return ReportFixture.row("cache=\(Int(multiple))x", runs: [run, last])
        }
        let page = try MarkupChecker(ReportFixture.report(rows).html())
        #expect(page.text.contains("The last run of cache=3x."))
        #expect(!page.text.contains("The last run of cache=1x."))
    }

    @Test func lanesLeaveOutTheWordsThatAllShare() throws {
        let rows = ["policy=lfu miss=exact", "policy=lfu miss=skip"].map {
            ReportFixture.row($0, runs: [ReportFixture.run(1)])
        }
        let html = ReportFixture.report(rows).html()
        #expect(html.contains(">miss=exact</text>") && html.contains(">miss=skip</text>"))
        #expect(!html.contains("policy=lfu miss=skip</text>"))
    }

    @Test func aHeatMapOfManyExpertsStaysSmall() throws {
        var run = ReportFixture.run(1)
        let count = 300 * 3000
        run.heat = ExpertHeat(
            layers: 300, experts: 3000, uses: (0..<count).map { $0 % 7 },
            residentPlanes: [Int](repeating: 1, count: count), planes: 1)
        let html = ReportFixture.report([ReportFixture.row("a", runs: [run])]).html()
        _ = try MarkupChecker(html)
        #expect(html.utf8.count < 800_000)
    }

    @Test(arguments: [(2, 2, 3), (0, 0, 0), (-1, -1, 1), (Int.max, 2, 0), (1, 2, 1)])
    func heatThatIsNotWhatItClaimsIsLeftOut(layers: Int, experts: Int, cells: Int) throws {
        var run = ReportFixture.run(1)
        let values = [Int](repeating: 1, count: cells)
        run.heat = ExpertHeat(
            layers: layers, experts: experts, uses: values, residentPlanes: values, planes: 1)
        let html = ReportFixture.report([ReportFixture.row("a", runs: [run])]).html()
        #expect(!html.contains("How often experts were used"))
    }
}
