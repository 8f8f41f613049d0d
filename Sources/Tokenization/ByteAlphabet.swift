/// The letters that byte-level vocabularies write bytes with: every byte is one printable
/// character, so that a vocabulary can be a text file.
///
/// Printable bytes of Latin-1 stand for themselves; the other 68 are U+0100 and on, in ascending
/// order. A space is `Ġ` (U+0120), a line end `Ċ` (U+010A). The scheme is GPT-2's.
enum ByteAlphabet {
    /// The code point of each byte's character.
    static let characters: [UInt16] = {
        var characters: [UInt16] = []
        var nextFree: UInt16 = 0x100
        for byte in UInt16(0)...255 {
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: characters.append(byte)
            default:
                characters.append(nextFree)
                nextFree += 1
            }
        }
        return characters
    }()

    /// The byte of each character, by code point; -1 where a character stands for no byte.
    private static let bytes: [Int16] = {
        var bytes = [Int16](repeating: -1, count: 0x144)
        for (byte, character) in characters.enumerated() { bytes[Int(character)] = Int16(byte) }
        return bytes
    }()

    /// Appends the UTF-8 of a byte's character.
    @inline(__always)
    static func appendCharacter(of byte: UInt8, to text: inout [UInt8]) {
        let character = characters[Int(byte)]
        if character < 0x80 {
            text.append(UInt8(character))
        } else {
            text.append(UInt8(0xC0 | character >> 6))
            text.append(UInt8(0x80 | character & 0x3F))
        }
    }

    /// Appends the bytes that the characters of `blob[range]` stand for; what is not of the
    /// alphabet stays as it is.
    static func appendBytes(of blob: [UInt8], _ range: Range<Int>, to output: inout [UInt8]) {
        let bytes = Self.bytes
        var position = range.lowerBound
        while position < range.upperBound {
            let first = blob[position]
            if first < 0x80 {
                let byte = bytes[Int(first)]
                output.append(byte < 0 ? first : UInt8(byte))
                position += 1
                continue
            }
            let length = max(1, blob.scalarLength(at: position, end: range.upperBound))
            if length == 2 {
                let character = Int(first & 0x1F) << 6 | Int(blob[position + 1] & 0x3F)
                if character < bytes.count, bytes[character] >= 0 {
                    output.append(UInt8(bytes[character]))
                    position += 2
                    continue
                }
            }
            output.append(contentsOf: blob[position..<position + length])
            position += length
        }
    }
}
