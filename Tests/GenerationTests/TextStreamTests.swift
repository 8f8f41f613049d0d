import Testing

@testable import Generation

@Suite struct TextStreamTests {
    /// Everything that comes out when `bytes` go in `size` at a time.
    private func pieces(_ bytes: [UInt8], by size: Int, stops: [String] = []) -> [String] {
        var stream = TextStream(stops: stops)
        var out: [String] = []
        for start in stride(from: 0, to: bytes.count, by: size) {
            out.append(stream.append(bytes[start..<min(bytes.count, start + size)]))
        }
        out.append(stream.finish())
        return out.filter { !$0.isEmpty }
    }

    @Test(arguments: 1...7)
    func charactersAreNeverCutInTwo(size: Int) {
        let text = "a\u{E9}\u{20AC}\u{1F680} \u{1F469}\u{200D}\u{1F4BB} na\u{EF}ve"
        let out = pieces(Array(text.utf8), by: size)
        #expect(out.joined().unicodeScalars.elementsEqual(text.unicodeScalars))
        #expect(!out.joined().unicodeScalars.contains("\u{FFFD}"))
    }

    @Test func asciiComesOutAtOnce() {
        var stream = TextStream()
        #expect(stream.append(Array("now".utf8)) == "now")
    }

    @Test(arguments: 1...5)
    func brokenBytesComeOutRepairedWhateverTheirGrouping(size: Int) {
        let cases: [[UInt8]] = [
            [0x61, 0xFF, 0x62], [0x80, 0x80], [0xE2, 0x82, 0x41], [0xF0, 0x9F, 0x41, 0xC3],
            [0xED, 0xA0, 0x80, 0x41], [0xC0, 0xAF], [0xF5, 0x80, 0x80, 0x80], [0xE0, 0x80, 0x80],
        ]
        for bytes in cases {
            let whole = String(decoding: bytes, as: UTF8.self)
            let out = pieces(bytes, by: size).joined()
            #expect(out.unicodeScalars.elementsEqual(whole.unicodeScalars), "\(bytes)")
        }
    }

    @Test(arguments: 1...6)
    func nothingOfAStopStringComesOut(size: Int) {
        let out = pieces(Array("one two\n\nthree".utf8), by: size, stops: ["\n\n"])
        #expect(out.joined() == "one two")
    }

    @Test func whatOnlyLookedLikeAStopComesOutLater() {
        var stream = TextStream(stops: ["END"])
        #expect(stream.append(Array("the EN".utf8)) == "the ")
        // The last E may begin the stop again.
        #expect(stream.append(Array("CORE".utf8)) == "ENCOR")
        #expect(stream.matchedStop == nil)
        #expect(stream.append(Array(" E".utf8)) == "E ")
        #expect(stream.finish() == "E")
    }

    @Test func theEarliestStopWinsAndOfEqualOnesTheLongest() {
        var stream = TextStream(stops: ["c", "bc", "b", "bcd"])
        #expect(stream.append(Array("abcd".utf8)) == "a")
        #expect(stream.matchedStop == "bcd")
        #expect(stream.append(Array("more".utf8)) == "")
        #expect(stream.finish() == "")
    }

    @Test func aStopStringMayBeginInsideHeldBytes() {
        #expect(pieces(Array("aab".utf8), by: 1, stops: ["aab"]).isEmpty)
        #expect(pieces(Array("aaab".utf8), by: 1, stops: ["aab"]) == ["a"])
    }

    @Test func stopsOfSeveralBytesPerCharacterWork() {
        let out = pieces(Array("gr\u{FC}\u{DF}e\u{20AC}x".utf8), by: 1, stops: ["\u{20AC}"])
        #expect(out.joined() == "gr\u{FC}\u{DF}e")
    }

    @Test func emptyStopsAreIgnored() {
        #expect(pieces(Array("text".utf8), by: 4, stops: [""]) == ["text"])
    }
}
