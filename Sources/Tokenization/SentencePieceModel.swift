/// SentencePiece's byte-pair encoding: spaces become `▁`, text starts as single characters, and the
/// neighbours whose union is the token with the highest score are merged first. Models that come
/// from a tokenizer.json list the merges instead.
struct SentencePieceModel: Sendable {
    /// The UTF-8 of `▁` (U+2581), which stands for a space.
    static let space: [UInt8] = [0xE2, 0x96, 0x81]

    /// When a text begins with a space that nobody wrote, so that a word is the same token at the
    /// start. Raw values are those of `sluice.tokenizer.space_prefix`.
    enum SpacePrefix: String {
        case never
        /// At the start, and after every special token, as in SentencePiece and llama.cpp.
        case always
        /// The same, unless a space is there already.
        case unlessSpaced = "unless-spaced"
        /// Only at the very start of a text, unless a space is there already.
        case first
    }

    /// For each token, lower for higher scores; never `UInt32.max`.
    private let priorities: [UInt32]
    /// The merges, where the model lists them; scores do not count then.
    private let merges: MergeTable?
    /// The token of each byte, for characters that are no token; negative where there is none.
    private let byteIDs: [Int32]
    /// Stands for characters that are no token where there are no byte tokens; nil leaves them out.
    private let unknown: Int32?
    let spacePrefix: SpacePrefix
    /// Whether no token goes on from another character into a `▁`: then no merge crosses the start
    /// of a word, and words can be merged one by one, which is faster and gives the same tokens.
    private let wordsAreSeparate: Bool

    init(
        vocabulary: Vocabulary, unknown: Int32?, spacePrefix: SpacePrefix, merges: MergeTable? = nil
    ) {
        priorities = vocabulary.scores.map(Self.priority)
        self.merges = merges
        byteIDs = (0...255).map { byte in
            let digits = String(byte, radix: 16, uppercase: true)
            return vocabulary.id(of: "<0x" + (byte < 16 ? "0" : "") + digits + ">") ?? -1
        }
        self.unknown = unknown
        self.spacePrefix = spacePrefix
        wordsAreSeparate = !(0..<vocabulary.count).contains {
            switch vocabulary.types[$0] {
            case .normal, .userDefined, .unused:
                Self.hasSpaceInside(vocabulary.blob, vocabulary.textRange(of: $0))
            case .unknown, .control, .byte: false
            }
        }
    }

    /// Whether a space goes before a range of the text, which begins it or follows a special token.
    private func addsSpace(before range: Range<Int>, of text: ScannedText) -> Bool {
        let hasSpace =
            text.bytes[range.lowerBound] == 0x20
            || Self.isSpace(text.bytes, at: range.lowerBound, end: range.upperBound)
        return switch spacePrefix {
        case .never: false
        case .always: true
        case .unlessSpaced: !hasSpace
        case .first: !hasSpace && range.lowerBound == 0
        }
    }

    /// Appends the tokens of a range of the text, which is not empty and begins the text or follows
    /// a special token.
    func encode(
        _ text: ScannedText, _ range: Range<Int>, vocabulary: Vocabulary,
        workspace: inout MergeWorkspace, into ids: inout [Int32]
    ) {
        var escaped: [UInt8] = []
        escaped.reserveCapacity(range.count + range.count / 2 + 3)
        if addsSpace(before: range, of: text) { escaped += Self.space }
        for position in range {
            let byte = text.bytes[position]
            if byte == 0x20 { escaped += Self.space } else { escaped.append(byte) }
        }
        var start = 0
        var endsUnknown = false
        while start < escaped.count {
            // A merge workspace counts bytes in 32 bits.
            let limit = min(escaped.count, start + 1 << 30)
            let end =
                wordsAreSeparate ? Self.endOfWord(escaped, from: start, limit: limit) : limit
            encodeWord(
                escaped, start..<end, vocabulary: vocabulary, workspace: &workspace,
                endsUnknown: &endsUnknown, into: &ids)
            start = end
        }
    }

    private struct Rules: MergeRules {
        let vocabulary: Vocabulary
        let priorities: [UInt32]
        let merges: MergeTable?
        let text: [UInt8]
        let base: Int

        @inline(__always)
        func merge(_ left: MergeSymbol, _ right: MergeSymbol) -> Merge? {
            if let merges { return merges.merge(left.id, right.id) }
            guard
                let id = vocabulary.plainID(
                    of: text, base + Int(left.start)..<base + Int(right.end))
            else { return nil }
            return Merge(priority: priorities[Int(id)], id: id)
        }
    }

    /// `endsUnknown` says whether the last token so far stands for unknown characters: more of them
    /// belong to the same token.
    private func encodeWord(
        _ text: [UInt8], _ word: Range<Int>, vocabulary: Vocabulary,
        workspace: inout MergeWorkspace, endsUnknown: inout Bool, into ids: inout [Int32]
    ) {
        workspace.symbols.removeAll(keepingCapacity: true)
        var position = word.lowerBound
        while position < word.upperBound {
            let length = max(1, text.scalarLength(at: position, end: word.upperBound))
            workspace.symbols.append(
                MergeSymbol(
                    id: vocabulary.plainID(of: text, position..<position + length) ?? -1,
                    start: UInt32(position - word.lowerBound),
                    end: UInt32(position - word.lowerBound + length)))
            position += length
        }
        workspace.mergeAll(
            Rules(
                vocabulary: vocabulary, priorities: priorities, merges: merges, text: text,
                base: word.lowerBound))
        for symbol in workspace.symbols {
            if symbol.id >= 0 {
                ids.append(symbol.id)
                endsUnknown = false
                continue
            }
            let bytes =
                word.lowerBound + Int(symbol.start)..<word.lowerBound + Int(symbol.end)
            for byte in text[bytes] {
                if byteIDs[Int(byte)] >= 0 {
                    ids.append(byteIDs[Int(byte)])
                    endsUnknown = false
                } else if let unknown, !endsUnknown {
                    ids.append(unknown)
                    endsUnknown = true
                }
            }
        }
    }

    /// The end of a word: of its leading `▁`s and what follows up to the next one.
    private static func endOfWord(_ text: [UInt8], from start: Int, limit: Int) -> Int {
        var position = start
        while isSpace(text, at: position, end: limit) { position += space.count }
        while position < limit, !isSpace(text, at: position, end: limit) { position += 1 }
        return position
    }

    @inline(__always)
    private static func isSpace(_ text: [UInt8], at position: Int, end: Int) -> Bool {
        position + 2 < end && text[position] == 0xE2 && text[position + 1] == 0x96
            && text[position + 2] == 0x81
    }

    private static func hasSpaceInside(_ text: [UInt8], _ range: Range<Int>) -> Bool {
        endOfWord(text, from: range.lowerBound, limit: range.upperBound) < range.upperBound
    }

    /// Orders scores as numbers from high to low. Not-a-number, which only a broken file has, comes
    /// last.
    private static func priority(of score: Float) -> UInt32 {
        // -0 equals 0; IEEE 754 patterns of positive numbers ascend, those of negative ones
        // descend.
        let bits = (score.isNaN ? -Float.infinity : score == 0 ? 0 : score).bitPattern
        let ascending = bits & 0x8000_0000 == 0 ? bits | 0x8000_0000 : ~bits
        return ~ascending
    }
}
