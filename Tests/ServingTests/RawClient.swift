import Glibc

/// A client that sends bytes as they are given, and shows what comes back: for requests that no
/// client library would send.
struct RawClient: ~Copyable {
    private let descriptor: Int32

    /// Connects to a Unix socket.
    init(path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { place in
            unsafe place.copyBytes(from: Array(path.utf8) + [0])
        }
        try RawClient.connected(descriptor, address)
    }

    /// Connects to a port of this machine.
    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        try RawClient.connected(descriptor, address)
    }

    private static func connected<Address>(_ descriptor: Int32, _ address: Address) throws {
        // What waits longer than this hangs.
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        unsafe setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let status = unsafe withUnsafeBytes(of: address) { bytes in
            unsafe connect(
                descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self),
                socklen_t(bytes.count))
        }
        if status != 0 {
            throw ClientProblem("connect: \(unsafe String(cString: strerror(errno)))")
        }
    }

    deinit { close(descriptor) }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes[sent...].withUnsafeBytes {
                unsafe Glibc.send(
                    descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            // The service may have closed; what it said before that can still be read.
            if count <= 0 { return }
            sent += count
        }
    }

    /// Bytes that have arrived, waiting for some; nil at the end.
    func receive() throws -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
        if count < 0, errno == ECONNRESET { return nil }
        if count < 0 { throw ClientProblem("recv: \(unsafe String(cString: strerror(errno)))") }
        return count == 0 ? nil : Array(buffer[..<count])
    }

    /// Everything until the service closes.
    func receiveAll() throws -> String {
        var all: [UInt8] = []
        while let bytes = try receive() { all += bytes }
        return String(decoding: all, as: UTF8.self)
    }

    /// Reads until the text holds `mark`, or to the end.
    func receive(until mark: String) throws -> String {
        var all: [UInt8] = []
        while let bytes = try receive() {
            all += bytes
            let text = String(decoding: all, as: UTF8.self)
            if text.contains(mark) { return text }
        }
        return String(decoding: all, as: UTF8.self)
    }

    /// One whole answer, on a connection that stays open: head and a body of the length it states,
    /// or in chunks.
    func answer() throws -> RawAnswer {
        var bytes: [UInt8] = []
        while true {
            if let answer = RawAnswer(bytes) { return answer }
            guard let more = try receive() else {
                throw ClientProblem(
                    "the answer ends early: \(String(decoding: bytes, as: UTF8.self))")
            }
            bytes += more
        }
    }

    /// Sends a request and takes its answer.
    func ask(
        _ method: String, _ path: String, body: String? = nil, headers: [String] = []
    ) throws -> RawAnswer {
        var head = "\(method) \(path) HTTP/1.1\r\nhost: sluice\r\n"
        for header in headers { head += header + "\r\n" }
        if let body {
            head += "content-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n"
        }
        send(head + "\r\n" + (body ?? ""))
        return try answer()
    }
}

struct ClientProblem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// An answer taken apart.
struct RawAnswer {
    var status: Int
    var headers: [String: String] = [:]
    var body = ""

    /// Nil while bytes are missing.
    init?(_ bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let blank = text.range(of: "\r\n\r\n") else { return nil }
        let lines = text[..<blank.lower].split(separator: "\r\n").map(String.init)
        guard let first = lines.first, let status = Int(first.split(separator: " ")[1]) else {
            return nil
        }
        self.status = status
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            var value = line[line.index(after: colon)...]
            while value.first == " " { value.removeFirst() }
            headers[line[..<colon].lowercased()] = String(value)
        }
        let rest = Array(text[blank.upper...].utf8)
        if headers["transfer-encoding"] == "chunked" {
            guard let body = RawAnswer.unchunked(rest) else { return nil }
            self.body = body
        } else {
            let length = headers["content-length"].flatMap { Int($0) } ?? 0
            guard rest.count >= length else { return nil }
            body = String(decoding: rest[..<length], as: UTF8.self)
        }
    }

    private static func unchunked(_ bytes: [UInt8]) -> String? {
        var body: [UInt8] = []
        var rest = bytes[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\r")) {
            guard let count = Int(String(decoding: rest[..<end], as: UTF8.self), radix: 16) else {
                return nil
            }
            if count == 0 { return String(decoding: body, as: UTF8.self) }
            let start = end + 2
            guard rest.endIndex >= start + count + 2 else { return nil }
            body += rest[start..<start + count]
            rest = rest[(start + count + 2)...]
        }
        return nil
    }
}

extension StringProtocol {
    /// Where `text` begins and ends; Foundation's `range(of:)` without Foundation.
    func range(of text: String) -> (lower: Index, upper: Index)? {
        let wanted = Array(text.utf8)
        var start = utf8.startIndex
        while start < utf8.endIndex {
            if utf8[start...].starts(with: wanted) {
                return (start, utf8.index(start, offsetBy: wanted.count))
            }
            start = utf8.index(after: start)
        }
        return nil
    }
}
