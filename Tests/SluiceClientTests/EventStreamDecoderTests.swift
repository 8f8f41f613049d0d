import Testing

@testable import SluiceClient

struct EventStreamDecoderTests {
    /// Streams with the data of their events, worked out by hand from the WHATWG's rules.
    static let streams: [(text: String, events: [String])] = [
        ("data: a\n\ndata: b\n\n", ["a", "b"]),
        ("data:a\n\ndata:  b\n\n", ["a", " b"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        ("data: a\r\rdata: b\r\r", ["a", "b"]),
        ("data: a\r\n\ndata: b\n\r\n", ["a", "b"]),
        ("data: one\ndata: two\ndata\ndata:\ndata: five\n\n", ["one\ntwo\n\n\nfive"]),
        (": a comment\n\n:\n\ndata: a\n: within\n\n", ["a"]),
        ("event: x\nid: 7\nretry: 10\ndata: a\nunknown: y\n\n", ["a"]),
        ("event: x\n\ndata: a\n\n", ["a"]),
        ("data\n\n", [""]),
        ("\n\n\ndata: a\n\n\n\n", ["a"]),
        ("\u{FEFF}data: a\n\n\u{FEFF}data: b\n\n", ["a"]),
        ("data: unfinished", []),
        ("data: unfinished\n", []),
        ("datum: a\ndata : b\n Data: c\n\n", []),
        ("data: gr\u{00FC}n \u{1F9A5}\n\n", ["gr\u{00FC}n \u{1F9A5}"]),
    ]

    @Test(arguments: streams)
    func `events are the same however the stream is cut`(
        _ stream: (text: String, events: [String])
    ) throws {
        let bytes = Array(stream.text.utf8)
        for cut in 0...bytes.count {
            for step in [1, 3, bytes.count] {
                var decoder = EventStreamDecoder(limitBytes: 1000)
                var events = try decoder.append(Array(bytes[..<cut]))
                for start in stride(from: cut, to: bytes.count, by: step) {
                    events += try decoder.append(
                        Array(bytes[start..<min(start + step, bytes.count)]))
                }
                #expect(
                    events.map { String(decoding: $0, as: UTF8.self) } == stream.events,
                    "cut at \(cut), then every \(step)")
            }
        }
    }

    @Test func `an event may be as long as the limit and no longer`() throws {
        var decoder = EventStreamDecoder(limitBytes: 16)
        #expect(try decoder.append(Array("data: 0123456789\n\n".utf8)).count == 1)
        #expect(throws: EventStreamDecoder.TooLong(limitBytes: 16)) {
            try decoder.append(Array("data: 0123456789a\n\n".utf8))
        }
    }

    @Test func `many short lines come up against the limit too`() {
        var decoder = EventStreamDecoder(limitBytes: 1000)
        #expect(throws: EventStreamDecoder.TooLong.self) {
            try decoder.append(Array(String(repeating: "data\n", count: 2000).utf8))
        }
    }

    @Test func `comments without end take no memory`() throws {
        var decoder = EventStreamDecoder(limitBytes: 100)
        for _ in 0..<10_000 { #expect(try decoder.append(Array(": waiting\n\n".utf8)).isEmpty) }
    }
}
