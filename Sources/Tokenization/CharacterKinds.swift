/// What a pre-tokeniser needs to know of a character: its Unicode category, coarsely, as a set of
/// bits.
struct CharacterKind: OptionSet, Sendable {
    let rawValue: UInt16

    /// `\p{L}`.
    static let letter = CharacterKind(rawValue: 1)
    /// `\p{N}`.
    static let number = CharacterKind(rawValue: 2)
    /// `\s`, the property White_Space.
    static let space = CharacterKind(rawValue: 4)
    /// `\p{M}`.
    static let mark = CharacterKind(rawValue: 8)
    /// `\p{P}`.
    static let punctuation = CharacterKind(rawValue: 16)
    /// `\p{S}`.
    static let symbol = CharacterKind(rawValue: 32)
    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: what may stand in the capital part of a word.
    static let upperPart = CharacterKind(rawValue: 64)
    /// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`: what may stand in the small part of a word.
    static let lowerPart = CharacterKind(rawValue: 128)
    /// `[\r\n]`.
    static let newline = CharacterKind(rawValue: 256)
    /// No character: the end of the piece. It is here so that one mask test answers "and not the
    /// end".
    static let end = CharacterKind(rawValue: 512)

    /// Whether the two sets share a bit.
    @inline(__always)
    func meets(_ other: CharacterKind) -> Bool { rawValue & other.rawValue != 0 }
}

/// The kinds of all characters, in two levels: an index by the upper bits of the code point, and
/// blocks of 128 kinds of which equal ones are stored once. About 90 kB, built once, in about 10
/// ms.
///
/// The categories are those of the Swift runtime's Unicode (17 in Swift 6.3). A model's own
/// tokeniser may have been made with an older version: the two can differ on characters assigned
/// between them.
struct CharacterKinds: Sendable {
    /// The one table of the process.
    static let table = CharacterKinds()

    private static let blockBits = 7
    private static let blockSize = 1 << blockBits

    private let index: [UInt16]
    private let blocks: [UInt16]

    private init() {
        var index = [UInt16](repeating: 0, count: 0x11_0000 >> Self.blockBits)
        var blocks: [UInt16] = []
        var known: [[UInt16]: UInt16] = [:]

        func add(_ number: Int) {
            var block = [UInt16](repeating: 0, count: Self.blockSize)
            for low in 0..<Self.blockSize {
                guard let scalar = Unicode.Scalar(UInt32(number << Self.blockBits | low)) else {
                    continue
                }
                block[low] = Self.kind(of: scalar).rawValue
            }
            if let place = known[block] {
                index[number] = place
            } else {
                let place = UInt16(blocks.count >> Self.blockBits)
                known[block] = place
                index[number] = place
                blocks += block
            }
        }

        // Planes 4 to 13 are unassigned and planes 15 and 16 are private use: their characters have
        // no kind, nor has the one block that stands for all of them.
        let firstEmpty = 0x4_0000 >> Self.blockBits
        for number in 0..<firstEmpty { add(number) }
        add(firstEmpty)
        for number in firstEmpty..<index.count { index[number] = index[firstEmpty] }
        for number in (0xE_0000 >> Self.blockBits)..<(0xE_1000 >> Self.blockBits) { add(number) }
        self.index = index
        self.blocks = blocks
    }

    /// The kind of a code point below 0x110000.
    @inline(__always)
    subscript(codePoint: UInt32) -> CharacterKind {
        let block = Int(index[Int(codePoint >> UInt32(Self.blockBits))])
        return CharacterKind(
            rawValue: blocks[block << Self.blockBits | Int(codePoint) & (Self.blockSize - 1)])
    }

    private static func kind(of scalar: Unicode.Scalar) -> CharacterKind {
        var kind: CharacterKind =
            switch scalar.properties.generalCategory {
            case .uppercaseLetter, .titlecaseLetter: [.letter, .upperPart]
            case .lowercaseLetter: [.letter, .lowerPart]
            case .modifierLetter, .otherLetter: [.letter, .upperPart, .lowerPart]
            case .nonspacingMark, .spacingMark, .enclosingMark: [.mark, .upperPart, .lowerPart]
            case .decimalNumber, .letterNumber, .otherNumber: .number
            case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
                .initialPunctuation, .finalPunctuation, .otherPunctuation:
                .punctuation
            case .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol: .symbol
            default: []
            }
        if scalar.properties.isWhitespace { kind.insert(.space) }
        if scalar == "\r" || scalar == "\n" { kind.insert(.newline) }
        return kind
    }
}
