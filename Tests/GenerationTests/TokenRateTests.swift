import Testing

@testable import Generation

@Suite struct TokenRateTests {
    private let second: UInt64 = 1_000_000_000

    @Test func itIsTheMeanOfTheLastTenSeconds() {
        var rate = TokenRate()
        for time in 100..<105 { rate.add(20, at: UInt64(time) * second) }
        #expect(rate.perSecond(at: 104 * second) == 10)
        #expect(rate.perSecond(at: 109 * second) == 10)
        #expect(rate.perSecond(at: 112 * second) == 4)
        #expect(rate.perSecond(at: 114 * second) == 0)
        #expect(rate.perSecond(at: 9999 * second) == 0)
    }

    @Test func oldCountsDoNotComeBack() {
        var rate = TokenRate()
        for time in 0..<11 { rate.add(1000, at: UInt64(time) * second) }
        rate.add(10, at: 500 * second)
        #expect(rate.perSecond(at: 500 * second) == 1)
        for time in 501..<600 { rate.add(7, at: UInt64(time) * second) }
        #expect(rate.perSecond(at: 599 * second) == 7)
    }
}
