/// Turns the bytes of tokens into text that can be shown as it comes: never half a character, never
/// the beginning of a stop string that may still complete.
///
/// Bytes are held back while they could be either. Bytes that can no longer become valid UTF-8 come
/// out as U+FFFD, as Swift's own decoding repairs them.
public struct TextStream: Sendable {
    private let stops: [[UInt8]]
    private var held: [UInt8] = []
    /// The stop string that ended the text; nothing comes out after it.
    public private(set) var matchedStop: String?
    /// How many of the bytes that went in have come out as text.
    private(set) var releasedCount = 0

    /// - Parameter stops: Strings that end the text, themselves left out. Empty ones are ignored.
    public init(stops: [String] = []) {
        self.stops = stops.filter { !$0.isEmpty }.map { Array($0.utf8) }
    }

    /// Takes the bytes of one more token; returns the text that is now certain, often empty.
    public mutating func append(_ bytes: some Sequence<UInt8>) -> String {
        guard matchedStop == nil else { return "" }
        held.append(contentsOf: bytes)
        if let (position, stop) = firstStop() {
            matchedStop = String(decoding: stop, as: UTF8.self)
            let text = String(decoding: held[..<position], as: UTF8.self)
            releasedCount += position
            held = []
            return text
        }
        let certain = held.count - max(possibleStopLength(), incompleteLength())
        guard certain > 0 else { return "" }
        // Holding back for a stop string must not cut a character in two either.
        let cut = TextStream.boundary(held, atMost: certain)
        let text = String(decoding: held[..<cut], as: UTF8.self)
        held.removeFirst(cut)
        releasedCount += cut
        return text
    }

    /// The text still held back, at the end of generation.
    public mutating func finish() -> String {
        defer {
            releasedCount += held.count
            held = []
        }
        return matchedStop == nil ? String(decoding: held, as: UTF8.self) : ""
    }

    /// The earliest place where a stop string begins; of several there, the longest.
    private func firstStop() -> (Int, [UInt8])? {
        var found: (Int, [UInt8])?
        for stop in stops where stop.count <= held.count {
            for start in 0...(held.count - stop.count) {
                if let found, start > found.0 { break }
                if held[start..<(start + stop.count)].elementsEqual(stop) {
                    if found == nil || start < found!.0 || stop.count > found!.1.count {
                        found = (start, stop)
                    }
                    break
                }
            }
        }
        return found
    }

    /// Length of the longest end of `held` that begins some stop string.
    private func possibleStopLength() -> Int {
        var longest = 0
        for stop in stops {
            for length in stride(from: min(stop.count - 1, held.count), to: longest, by: -1)
            where held.suffix(length).elementsEqual(stop.prefix(length)) {
                longest = length
                break
            }
        }
        return longest
    }

    /// Bytes at the end of `held` that begin a character whose rest may still come.
    private func incompleteLength() -> Int {
        held.count - TextStream.boundary(held, atMost: held.count)
    }

    /// The largest cut, at most `limit`, that does not fall inside a character that is or may
    /// become valid.
    private static func boundary(_ bytes: [UInt8], atMost limit: Int) -> Int {
        for back in 1...4 where back <= limit {
            let byte = bytes[limit - back]
            if byte & 0xC0 == 0x80 { continue }
            let length = byte >= 0xF0 && byte < 0xF5 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1
            guard byte < 0xF5, length > back else { return limit }
            // Second bytes with a narrower range (overlong forms, surrogates) can rule the
            // character out.
            if back >= 2 {
                let second = bytes[limit - back + 1]
                let allowed: ClosedRange<UInt8> =
                    switch byte {
                    case 0xE0: 0xA0...0xBF
                    case 0xED: 0x80...0x9F
                    case 0xF0: 0x90...0xBF
                    case 0xF4: 0x80...0x8F
                    default: 0x80...0xBF
                    }
                if !allowed.contains(second) { return limit }
            }
            return limit - back
        }
        return limit
    }
}
