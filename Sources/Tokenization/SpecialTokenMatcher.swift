/// A stretch of a text to encode: a special token written out, or text between such tokens.
enum TextFragment: Equatable {
    case token(Int32)
    case text(Range<Int>)
}

/// Finds the tokens that are matched as a whole before the text is looked at any further.
///
/// Where matches overlap the longest wins, wherever it is; of equally long ones the first. That is
/// llama.cpp's order: it cuts the text at every occurrence of the longest token, what remains at
/// every occurrence of the next, and so on. Here one pass finds the places at which any token
/// starts, and only those are gone through again for each length.
struct SpecialTokenMatcher: Sendable {
    /// Token numbers, ascending by text, each text once.
    private let sorted: [Int32]
    /// Where in `sorted` the texts with each first byte start; one more than there are bytes.
    private let firstByteStarts: [Int]
    /// The lengths of the texts in bytes, descending.
    private let lengths: [Int]
    /// Tokens that take the white space after them along.
    private let takesSpace: Set<Int32>

    init(_ vocabulary: Vocabulary, types: Set<TokenType>, takesSpace: Set<Int32>) {
        let ids = (0..<vocabulary.count).filter {
            let range = vocabulary.textRange(of: $0)
            return types.contains(vocabulary.types[$0]) && !range.isEmpty
                && vocabulary.id(of: vocabulary.blob, range) == Int32($0)
        }.map { Int32($0) }
        let sorted = ids.sorted {
            vocabulary.text(of: Int($0)).lexicographicallyPrecedes(vocabulary.text(of: Int($1)))
        }
        var starts = [Int](repeating: 0, count: 257)
        for id in sorted { starts[Int(vocabulary.text(of: Int(id)).first ?? 0) + 1] += 1 }
        for byte in 0..<256 { starts[byte + 1] += starts[byte] }
        self.sorted = sorted
        firstByteStarts = starts
        lengths = Set(ids.map { vocabulary.textRange(of: Int($0)).count }).sorted(by: >)
        self.takesSpace = takesSpace
    }

    /// Cuts the text at the tokens in it. No fragment is empty.
    func fragments(of text: [UInt8], vocabulary: Vocabulary) -> [TextFragment] {
        guard !text.isEmpty else { return [] }
        let candidates = candidates(in: text, vocabulary: vocabulary)
        guard let longest = candidates.map(\.longest).max() else { return [.text(0..<text.count)] }

        var claims: [(range: Range<Int>, id: Int32)] = []
        var claimed = [Bool](repeating: false, count: text.count)
        for length in lengths where length <= longest {
            for candidate in candidates where candidate.longest >= length {
                // Claims so far are at least as long, so one that overlaps covers the first or last
                // byte.
                let start = candidate.start
                guard !claimed[start], !claimed[start + length - 1],
                    let id = self.id(of: text, start..<start + length, vocabulary: vocabulary)
                else { continue }
                var end = start + length
                if takesSpace.contains(id) {
                    while end < text.count, !claimed[end], text[end].isASCIISpace { end += 1 }
                }
                for position in start..<end { claimed[position] = true }
                claims.append((start..<end, id))
            }
        }

        claims.sort { $0.range.lowerBound < $1.range.lowerBound }
        var fragments: [TextFragment] = []
        var position = 0
        for claim in claims {
            if position < claim.range.lowerBound {
                fragments.append(.text(position..<claim.range.lowerBound))
            }
            fragments.append(.token(claim.id))
            position = claim.range.upperBound
        }
        if position < text.count { fragments.append(.text(position..<text.count)) }
        return fragments
    }

    /// The places at which a token starts, and the bytes of the longest one there.
    private func candidates(
        in text: [UInt8], vocabulary: Vocabulary
    ) -> [(start: Int, longest: Int)] {
        guard !sorted.isEmpty else { return [] }
        var candidates: [(start: Int, longest: Int)] = []
        for (start, byte) in text.enumerated()
        where firstByteStarts[Int(byte)] < firstByteStarts[Int(byte) + 1] {
            var matching = firstByteStarts[Int(byte)]..<firstByteStarts[Int(byte) + 1]
            var longest = 0
            var length = 1
            while true {
                let first = vocabulary.textRange(of: Int(sorted[matching.lowerBound]))
                if first.count == length { longest = length }
                guard start + length < text.count else { break }
                matching = narrowed(
                    matching, at: length, to: text[start + length], vocabulary: vocabulary)
                guard !matching.isEmpty else { break }
                length += 1
            }
            if longest > 0 { candidates.append((start, longest)) }
        }
        return candidates
    }

    /// The part of `range` in `sorted` whose texts go on with `byte` after `length` bytes.
    private func narrowed(
        _ range: Range<Int>, at length: Int, to byte: UInt8, vocabulary: Vocabulary
    ) -> Range<Int> {
        func first(_ isPast: (UInt8) -> Bool) -> Int {
            var low = range.lowerBound
            var high = range.upperBound
            while low < high {
                let middle = (low + high) / 2
                let text = vocabulary.textRange(of: Int(sorted[middle]))
                if text.count > length, isPast(vocabulary.blob[text.lowerBound + length]) {
                    high = middle
                } else {
                    low = middle + 1
                }
            }
            return low
        }
        let start = first { $0 >= byte }
        return start..<max(start, first { $0 > byte })
    }

    /// The token with exactly this text, if it is one of ours.
    private func id(of text: [UInt8], _ range: Range<Int>, vocabulary: Vocabulary) -> Int32? {
        guard let id = vocabulary.id(of: text, range) else { return nil }
        var matching = 0..<sorted.count
        for (offset, position) in range.enumerated() {
            matching = narrowed(matching, at: offset, to: text[position], vocabulary: vocabulary)
        }
        return matching.isEmpty || sorted[matching.lowerBound] != id ? nil : id
    }
}

extension UInt8 {
    /// Space, tab, line feed, vertical tab, form feed, carriage return.
    var isASCIISpace: Bool { self == 0x20 || (0x09...0x0D).contains(self) }
}
