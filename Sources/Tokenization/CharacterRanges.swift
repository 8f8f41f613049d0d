/// A set of characters given by ranges of code points, for pre-tokenisers that list characters.
struct CharacterRanges: Sendable {
    /// First and last code points in turn, ascending.
    private let bounds: [UInt32]
    /// A bit for each of the first 64 characters, and for the next 64.
    private let ascii: (UInt64, UInt64)

    init(_ ranges: [ClosedRange<UInt32>]) {
        func bits(from first: UInt32) -> UInt64 {
            (0..<64).reduce(0) { bits, place in
                ranges.contains { $0.contains(first + place) } ? bits | 1 << UInt64(place) : bits
            }
        }
        ascii = (bits(from: 0), bits(from: 64))
        bounds = ranges.sorted { $0.lowerBound < $1.lowerBound }
            .flatMap { [$0.lowerBound, $0.upperBound] }
    }

    /// Whether the character is in the set. `ScannedCharacter.endOfPiece` never is.
    @inline(__always)
    func contains(_ codePoint: UInt32) -> Bool {
        if codePoint < 128 {
            return (codePoint < 64 ? ascii.0 : ascii.1) >> UInt64(codePoint & 63) & 1 == 1
        }
        return containsBeyondASCII(codePoint)
    }

    private func containsBeyondASCII(_ codePoint: UInt32) -> Bool {
        // The number of bounds below the code point is odd inside a range; on a range's first code
        // point it is even, and that bound equals the code point.
        var low = 0
        var high = bounds.count
        while low < high {
            let middle = (low + high) / 2
            if bounds[middle] < codePoint { low = middle + 1 } else { high = middle }
        }
        return low % 2 == 1 || low < bounds.count && bounds[low] == codePoint
    }
}

extension CharacterRanges {
    /// The letters that DeepSeek LLM's pre-tokeniser lists: those with case, of most scripts, as of
    /// about Unicode 11. Armenian small and Georgian letters are among those it leaves out.
    static let deepSeekLetters = CharacterRanges([
        0x41...0x5A, 0x61...0x7A, 0xB5...0xB5, 0xC0...0xD6, 0xD8...0xF6, 0xF8...0x1BA,
        0x1BC...0x1BF, 0x1C4...0x293, 0x295...0x2AF, 0x370...0x373, 0x376...0x377, 0x37B...0x37D,
        0x37F...0x37F, 0x386...0x386, 0x388...0x38A, 0x38C...0x38C, 0x38E...0x3A1, 0x3A3...0x3F5,
        0x3F7...0x481, 0x48A...0x52F, 0x531...0x556, 0x10A0...0x10C5, 0x13A0...0x13F5,
        0x13F8...0x13FD, 0x1C90...0x1CBA, 0x1CBD...0x1CBF, 0x1D00...0x1D2B, 0x1D6B...0x1D77,
        0x1D79...0x1D9A, 0x1E00...0x1F15, 0x1F18...0x1F1D, 0x1F20...0x1F45, 0x1F48...0x1F4D,
        0x1F50...0x1F57, 0x1F59...0x1F59, 0x1F5B...0x1F5B, 0x1F5D...0x1F5D, 0x1F5F...0x1F7D,
        0x1F80...0x1FB4, 0x1FB6...0x1FBC, 0x1FBE...0x1FBE, 0x1FC2...0x1FC4, 0x1FC6...0x1FCC,
        0x1FD0...0x1FD3, 0x1FD6...0x1FDB, 0x1FE0...0x1FEC, 0x1FF2...0x1FF4, 0x1FF6...0x1FFC,
        0x2102...0x2102, 0x2107...0x2107, 0x210A...0x2113, 0x2115...0x2115, 0x2119...0x211D,
        0x2124...0x2124, 0x2126...0x2126, 0x2128...0x2128, 0x212A...0x212D, 0x212F...0x2134,
        0x2139...0x2139, 0x213C...0x213F, 0x2145...0x2149, 0x214E...0x214E, 0x2183...0x2184,
        0x2C00...0x2C7B, 0x2C7E...0x2CE4, 0x2CEB...0x2CEE, 0x2CF2...0x2CF3, 0xA640...0xA66D,
        0xA680...0xA69B, 0xA722...0xA76F, 0xA771...0xA787, 0xA78B...0xA78E, 0xAB70...0xABBF,
        0xFB00...0xFB06, 0xFB13...0xFB17, 0xFF21...0xFF3A, 0xFF41...0xFF5A, 0x1_0400...0x1_044F,
        0x1_04B0...0x1_04D3, 0x1_04D8...0x1_04FB, 0x1_0C80...0x1_0CB2, 0x1_0CC0...0x1_0CF2,
        0x1_18A0...0x1_18DF, 0x1_E900...0x1_E943,
    ])

    /// The punctuation that DeepSeek LLM's pre-tokeniser lists: `!-/:-~`, which takes in the ASCII
    /// letters too, and the same in full width (there without `｟` and beyond), general quotation
    /// marks, ideographic space, comma and full stop.
    static let deepSeekPunctuation = CharacterRanges([
        0x21...0x2F, 0x3A...0x7E, 0x2018...0x201F, 0x3000...0x3002, 0xFF01...0xFF0F,
        0xFF1A...0xFF5E,
    ])

    /// What DeepSeek LLM's and Coder's pre-tokenisers take for East Asian text: everything from
    /// U+0800 to the ideographs, and Hangul.
    static let deepSeekEastAsian = CharacterRanges([0x0800...0x9FA5, 0xAC00...0xD7FF])

    /// The ideographs and kana that DeepSeek V3's pre-tokeniser keeps together.
    static let ideographsAndKana = CharacterRanges([0x3040...0x30FF, 0x4E00...0x9FA5])
}
