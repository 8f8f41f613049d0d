/// Text that has come in and not been told apart yet, as UTF-8. What was read is kept until it is
/// certain that it needs not be read again as something else.
struct PendingText: Sendable {
    /// Whether a marker stands at a place.
    enum Match { case yes, no, unsure }

    private(set) var bytes: [UInt8] = []
    /// The first byte that was not read.
    var position = 0
    /// Nothing will follow.
    var isWhole = false
    /// The last search that found nothing: where it began, for what, and up to where it need not
    /// look again. Without it, a long argument that comes token by token would be searched once for
    /// each.
    private var search = (position: 0, markers: [[UInt8]](), end: 0)

    mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    /// Forgets what was read.
    mutating func forgetRead() {
        bytes.removeFirst(position)
        search.markers = []
        position = 0
    }

    var isAtEnd: Bool { position == bytes.count }
    var first: UInt8? { isAtEnd ? nil : bytes[position] }

    mutating func skipSpace() {
        while let byte = first, Self.isSpace(byte) { position += 1 }
    }

    static func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || (0x09...0x0D).contains(byte)
    }

    func match(_ marker: [UInt8], at index: Int) -> Match {
        let available = bytes.count - index
        for offset in 0..<min(available, marker.count) where bytes[index + offset] != marker[offset]
        {
            return .no
        }
        if available >= marker.count { return .yes }
        return isWhole ? .no : .unsure
    }

    /// Which of some markers stands here; the text has moved past it then. An empty one stands
    /// nowhere.
    enum Choice: Equatable { case found(Int), none, unsure }

    mutating func take(_ markers: [[UInt8]]) -> Choice {
        var isUnsure = false
        for (index, marker) in markers.enumerated() where !marker.isEmpty {
            switch match(marker, at: position) {
            case .yes:
                position += marker.count
                return .found(index)
            case .unsure: isUnsure = true
            case .no: break
            }
        }
        return isUnsure ? .unsure : .none
    }

    /// The first of some markers from here on, or how far it is certain that there is none.
    enum Scan: Equatable { case marker(start: Int, which: Int), text(end: Int) }

    func scan(_ markers: [[UInt8]]) -> Scan { scan(markers, from: position) }

    private func scan(_ markers: [[UInt8]], from start: Int) -> Scan {
        for index in start..<bytes.count {
            for (which, marker) in markers.enumerated() where marker.first == bytes[index] {
                switch match(marker, at: index) {
                case .yes: return .marker(start: index, which: which)
                case .unsure: return .text(end: index)
                case .no: break
                }
            }
        }
        return .text(end: bytes.count)
    }

    /// The text up to the first of some markers, which is read too; nil while there is none.
    mutating func read(until markers: [[UInt8]]) -> (text: ArraySlice<UInt8>, which: Int)? {
        let isSame = search.position == position && search.markers == markers
        let start: Int
        let which: Int
        switch scan(markers, from: isSame ? search.end : position) {
        case .marker(let place, let found): (start, which) = (place, found)
        case .text(let end):
            search = (position, markers, end)
            return nil
        }
        let text = bytes[position..<start]
        position = start + markers[which].count
        return (text, which)
    }

    /// Everything that is left.
    mutating func readAll() -> ArraySlice<UInt8> {
        defer { position = bytes.count }
        return bytes[position...]
    }
}

extension ArraySlice<UInt8> {
    /// Without white space at both ends.
    var trimmed: ArraySlice<UInt8> {
        var slice = self
        while let byte = slice.first, PendingText.isSpace(byte) { slice.removeFirst() }
        while let byte = slice.last, PendingText.isSpace(byte) { slice.removeLast() }
        return slice
    }

    var string: String { String(decoding: self, as: UTF8.self) }
}
