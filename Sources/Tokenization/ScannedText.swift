/// One character of a text under a pre-tokeniser.
struct ScannedCharacter {
    /// The code point; U+FFFD for a byte that is not part of valid UTF-8, `endOfPiece` past the
    /// end.
    let codePoint: UInt32
    let kind: CharacterKind
    /// Byte after it.
    let next: Int

    static let endOfPiece = UInt32.max
}

/// UTF-8 text with the kinds of its characters, read character by character from any byte on.
///
/// Invalid UTF-8 is read as one U+FFFD per byte; nobody changes the bytes, so nothing gets lost.
struct ScannedText {
    let bytes: [UInt8]
    private let kinds: CharacterKinds

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        kinds = CharacterKinds.table
    }

    /// The character that starts at byte `position` of a piece that ends at byte `end`.
    @inline(__always)
    func character(at position: Int, end: Int) -> ScannedCharacter {
        guard position < end else {
            return ScannedCharacter(
                codePoint: ScannedCharacter.endOfPiece, kind: .end, next: end)
        }
        let first = bytes[position]
        if first < 0x80 {
            let codePoint = UInt32(first)
            return ScannedCharacter(
                codePoint: codePoint, kind: kinds[codePoint], next: position + 1)
        }
        let length = bytes.scalarLength(at: position, end: end)
        guard length > 0 else {
            return ScannedCharacter(codePoint: 0xFFFD, kind: .symbol, next: position + 1)
        }
        var codePoint = UInt32(first) & (0x7F >> UInt32(length))
        for offset in 1..<length {
            codePoint = codePoint << 6 | UInt32(bytes[position + offset] & 0x3F)
        }
        return ScannedCharacter(
            codePoint: codePoint, kind: kinds[codePoint], next: position + length)
    }

    /// The end of the run of characters from `position` on that are of one of `kinds`.
    @inline(__always)
    func endOfRun(of kinds: CharacterKind, from position: Int, end: Int) -> Int {
        var position = position
        while true {
            let character = character(at: position, end: end)
            guard character.kind.meets(kinds) else { return position }
            position = character.next
        }
    }

    /// The end of the run of characters from `position` on that are of none of `kinds`, which must
    /// contain `.end`.
    @inline(__always)
    func endOfRun(notOf kinds: CharacterKind, from position: Int, end: Int) -> Int {
        var position = position
        while true {
            let character = character(at: position, end: end)
            guard !character.kind.meets(kinds) else { return position }
            position = character.next
        }
    }
}

extension [UInt8] {
    /// Bytes of the UTF-8 sequence at `position`, which is before `end`: 1 to 4, or 0 when it is
    /// not valid (stray or missing continuation, overlong, surrogate, past U+10FFFF).
    @inline(__always)
    func scalarLength(at position: Int, end: Int) -> Int {
        let first = self[position]
        if first < 0x80 { return 1 }
        guard first >= 0xC2, first <= 0xF4, position + 1 < end else { return 0 }
        let second = self[position + 1]
        guard second & 0xC0 == 0x80 else { return 0 }
        if first < 0xE0 { return 2 }
        guard position + 2 < end, self[position + 2] & 0xC0 == 0x80 else { return 0 }
        if first < 0xF0 {
            if first == 0xE0 && second < 0xA0 || first == 0xED && second > 0x9F { return 0 }
            return 3
        }
        guard position + 3 < end, self[position + 3] & 0xC0 == 0x80 else { return 0 }
        if first == 0xF0 && second < 0x90 || first == 0xF4 && second > 0x8F { return 0 }
        return 4
    }
}
