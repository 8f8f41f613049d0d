internal import ModelFormats

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
    static let deepSeekLetters = CharacterRanges(DeepSeekLetters.ranges)

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
