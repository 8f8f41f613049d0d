import Testing

@testable import Benchmarking

@Suite struct ReportDrawingTests {
    @Test(arguments: [
        (0, "0"), (0.1234, "0.123"), (0.99951, "1.00"), (8.476, "8.48"), (98.76, "98.8"),
        (99.97, "100"),
        (1234.4, "1,234"), (-2.5, "-2.50"), (1_234_567, "1,234,567"), (.nan, "\u{2013}"),
        (.infinity, "\u{2013}"),
    ])
    func numbersHaveThreeDigits(value: Double, words: String) {
        #expect(Figure.number(value) == words)
    }

    @Test func sizesHaveUnits() {
        #expect(Figure.memory(3 << 30) == "3 GiB")
        #expect(Figure.memory(3_000_000_000) == "3.00 GB")
        #expect(Figure.memory(0) == "0 B")
        #expect(Figure.rate(860e6) == "860 MB/s")
        #expect(Figure.size(nil) == "\u{2013}")
        #expect(Figure.percent(0.8551) == "85.5 %")
        #expect(Figure.percent(1) == "100 %")
        #expect(Figure.multiple(1.5) == "1.5\u{d7}" && Figure.multiple(2.02) == "2\u{d7}")
    }

    @Test(arguments: [0.0003, 0.7, 1, 3.2, 9.9, 10, 47, 1e6, 3e12])
    func anAxisEndsAtARoundFigureAboveAll(greatest: Double) throws {
        let axis = Axis.fromZero([greatest / 2, .nan, greatest], start: 200, end: 10)
        #expect(axis.high >= greatest && axis.high < greatest * 2)
        #expect((4...8).contains(axis.ticks.count))
        #expect(axis.place(0) == 200 && axis.place(axis.high) == 10)
        #expect(abs(axis.place(axis.high / 2) - 105) < 1e-9)
        #expect(try #require(axis.ticks.last).value <= axis.high * (1 + 1e-9))
        #expect(Set(axis.ticks.map(\.label)).count == axis.ticks.count)
    }

    @Test func anAxisOverBothSignsHasATickAtZero() {
        let axis = Axis.fromZero([-0.3, 2.1], start: 0, end: 100)
        #expect(axis.low == -0.5 && axis.high == 2.5)
        #expect(axis.ticks.map(\.label) == ["-0.5", "0", "0.5", "1.0", "1.5", "2.0", "2.5"])
        #expect(Axis.fromZero([-3], start: 0, end: 1).high == 0)
        #expect(Axis.fromZero([0, .infinity], start: 0, end: 1).high == 1)
    }

    @Test func aLogarithmicAxisGivesEqualRatiosEqualLengths() {
        let axis = Axis.logarithmic([1, 16], start: 0, end: 300)
        let places = [1.0, 2, 4, 8, 16].map(axis.place)
        for place in 1..<4 {
            #expect(abs(places[place + 1] - places[place] - (places[1] - places[0])) < 1e-9)
        }
        #expect(axis.ticks.map(\.label) == ["1", "2", "5", "10"])
        #expect(axis.place(0) == 0 && axis.place(-1) == 0 && axis.place(.infinity) == 0)
        let one = Axis.logarithmic([5], start: 0, end: 300)
        #expect(abs(one.place(5) - 150) < 1e-9)
        let none = Axis.logarithmic([], start: 0, end: 300)
        #expect(none.place(1).isFinite)
    }

    @Test func longNamesKeepBothEnds() {
        #expect(Drawing.fitted("short", width: 100) == "short")
        #expect(
            Drawing.fitted("cache=1.5x policy=lfu miss=exact", width: 72) == "cache\u{2026}xact")
    }

    @Test func theCheckerRefusesWhatABrowserWouldMend() {
        for broken in [
            "<a>", "<a></b>", "<a b></a>", "<a b=c/>", "<a>&</a>", "<a><b></a></b>", "x",
            "<a b=\"1\" b=\"2\"/>", "<a b=\"<\"/>",
        ] { #expect(throws: MarkupChecker.Fault.self, "\(broken)") { try MarkupChecker(broken) } }
    }
}
