/// What kind of token a vocabulary entry is; raw values are those of `tokenizer.ggml.token_type`.
enum TokenType: UInt8, Sendable {
    case normal = 1
    /// Stands for text that no token covers.
    case unknown = 2
    /// Has a meaning instead of a text: beginning of sequence, end of a turn.
    case control = 3
    /// Matched as a whole before anything else is looked at.
    case userDefined = 4
    case unused = 5
    /// One byte, written `<0x0A>`.
    case byte = 6
}

/// The tokens of a model: texts, types and scores, and an index of the texts.
///
/// Held compactly, since real vocabularies have 30,000 to 260,000 entries: one blob of all texts,
/// an array of offsets into it, one byte of type each, and an open-addressing table of 32-bit
/// numbers for finding a token by its text. 151,936 tokens take about 3 MB.
struct Vocabulary: Sendable {
    /// All texts, one after the other.
    private(set) var blob: [UInt8] = []
    /// Where each text starts; one more than there are tokens.
    private var offsets: [UInt32] = [0]
    private(set) var types: [TokenType] = []
    /// Scores of SentencePiece tokens, higher is merged first; empty where tokens have none.
    var scores: [Float] = []
    /// Bytes of the longest text.
    private(set) var longestText = 0

    /// Token number + 1 at the place its hash leads to or soon after, 0 where there is none. The
    /// length is a power of two.
    private var slots: [UInt32] = []
    /// Differs between processes, so that no file can be made whose texts all collide.
    private let seed = UInt64.random(in: .min ... .max)

    init() {}

    /// How many tokens there are.
    var count: Int { types.count }

    /// Adds a token, whose number is the count so far. False when the texts get too long for the
    /// offsets.
    mutating func append(_ text: some Collection<UInt8>, type: TokenType) -> Bool {
        guard blob.count + text.count <= Int(UInt32.max) else { return false }
        blob.append(contentsOf: text)
        offsets.append(UInt32(blob.count))
        types.append(type)
        longestText = max(longestText, text.count)
        return true
    }

    mutating func setType(_ type: TokenType, of id: Int) { types[id] = type }

    /// Makes room for tokens and their texts, so that the arrays end up no larger than they need to
    /// be.
    mutating func reserve(_ count: Int, textBytes: Int) {
        blob.reserveCapacity(textBytes)
        offsets.reserveCapacity(count + 1)
        types.reserveCapacity(count)
    }

    /// Where the text of a token lies in `blob`.
    @inline(__always)
    func textRange(of id: Int) -> Range<Int> { Int(offsets[id])..<Int(offsets[id + 1]) }

    func text(of id: Int) -> ArraySlice<UInt8> { blob[textRange(of: id)] }

    /// Makes tokens findable. Of tokens with the same text, the first is found; empty texts never
    /// are.
    mutating func buildIndex() {
        var size = 16
        while size < count + count / 3 { size *= 2 }
        slots = [UInt32](repeating: 0, count: size)
        for id in 0..<count {
            let range = textRange(of: id)
            guard !range.isEmpty else { continue }
            let place = place(of: blob, range)
            if slots[place] == 0 { slots[place] = UInt32(id + 1) }
        }
    }

    /// The number of the token with this text, whatever its type.
    @inline(__always)
    func id(of bytes: [UInt8], _ range: Range<Int>) -> Int32? {
        guard !range.isEmpty, range.count <= longestText else { return nil }
        let found = slots[place(of: bytes, range)]
        return found == 0 ? nil : Int32(found - 1)
    }

    /// The number of the token with this text, whatever its type.
    func id(of text: String) -> Int32? {
        let bytes = Array(text.utf8)
        return id(of: bytes, 0..<bytes.count)
    }

    /// The number of the token with this text, if text may turn into it by itself: control and byte
    /// tokens and the unknown token only come by other ways, so that nobody can smuggle them in by
    /// writing them.
    @inline(__always)
    func plainID(of bytes: [UInt8], _ range: Range<Int>) -> Int32? {
        guard let id = id(of: bytes, range) else { return nil }
        switch types[Int(id)] {
        case .normal, .userDefined, .unused: return id
        case .unknown, .control, .byte: return nil
        }
    }

    /// The slot that holds the text's token, or the empty one where it would go.
    @inline(__always)
    private func place(of bytes: [UInt8], _ range: Range<Int>) -> Int {
        let mask = slots.count - 1
        var place = Int(truncatingIfNeeded: hash(bytes, range)) & mask
        while true {
            let found = slots[place]
            if found == 0 { return place }
            let other = textRange(of: Int(found - 1))
            if other.count == range.count, equal(bytes, range.lowerBound, other) { return place }
            place = (place + 1) & mask
        }
    }

    @inline(__always)
    private func equal(_ bytes: [UInt8], _ start: Int, _ other: Range<Int>) -> Bool {
        var position = start
        for place in other {
            if blob[place] != bytes[position] { return false }
            position += 1
        }
        return true
    }

    @inline(__always)
    private func hash(_ bytes: [UInt8], _ range: Range<Int>) -> UInt64 {
        var hash = seed
        for position in range {
            hash = (hash ^ UInt64(bytes[position])) &* 0x9E37_79B9_7F4A_7C15
        }
        // The low bits of a product depend on few bits of its factors.
        return (hash ^ hash >> 29) &* 0xBF58_476D_1CE4_E5B9 >> 20
    }
}
