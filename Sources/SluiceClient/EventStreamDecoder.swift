/// Cuts the bytes of a `text/event-stream` into events, however they arrive (WHATWG HTML, "Parsing an
/// event stream"). Types, ids and retry times of events are passed over: OpenAI's API uses none.
struct EventStreamDecoder: Sendable {
    /// What one event's data, and one line, may come to.
    let limitBytes: Int

    /// The line so far, without its end.
    private var line: [UInt8] = []
    /// The data of the event so far, with a line feed after each line.
    private var data: [UInt8] = []
    private var hasData = false
    /// The last byte was a carriage return: a line feed right after it ends no other line.
    private var endedByReturn = false
    private var isFirstLine = true

    init(limitBytes: Int) { self.limitBytes = limitBytes }

    /// Takes more of the stream.
    ///
    /// - Returns: The data of the events that are whole now.
    /// - Throws: `TooLong` when an event is longer than allowed; nothing can be read after that.
    mutating func append(_ bytes: [UInt8]) throws(TooLong) -> [[UInt8]] {
        var events: [[UInt8]] = []
        var start = bytes.startIndex
        while start < bytes.endIndex {
            if endedByReturn {
                endedByReturn = false
                if bytes[start] == 0x0A {
                    start += 1
                    continue
                }
            }
            let end = bytes[start...].firstIndex { $0 == 0x0A || $0 == 0x0D } ?? bytes.endIndex
            guard line.count + data.count + (end - start) <= limitBytes else {
                throw TooLong(limitBytes: limitBytes)
            }
            line.append(contentsOf: bytes[start..<end])
            guard end < bytes.endIndex else { break }
            endedByReturn = bytes[end] == 0x0D
            if let event = endLine() { events.append(event) }
            start = end + 1
        }
        return events
    }

    struct TooLong: Error, Equatable { let limitBytes: Int }

    /// The data of the event that this line ends, if it is an empty one behind data.
    private mutating func endLine() -> [UInt8]? {
        if isFirstLine, line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
        isFirstLine = false
        defer { line.removeAll(keepingCapacity: true) }
        guard !line.isEmpty else {
            defer {
                data.removeAll(keepingCapacity: true)
                hasData = false
            }
            return hasData ? Array(data.dropLast()) : nil
        }
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
        guard line[..<colon].elementsEqual("data".utf8) else { return nil }
        var value = line[colon...].dropFirst()
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        data.append(contentsOf: value)
        data.append(0x0A)
        hasData = true
        return nil
    }
}
