import Glibc

/// A directory that is removed with everything in it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/sluice-serving-XXXXXX\0".utf8.map { CChar($0) })
        guard unsafe mkdtemp(&template) != nil else { throw ClientProblem("mkdtemp failed") }
        path = String(decoding: template.dropLast().map { UInt8($0) }, as: UTF8.self)
    }

    deinit { remove(path) }

    private func remove(_ directory: String) {
        if let stream = unsafe opendir(directory) {
            while let entry = unsafe readdir(stream) {
                let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name == "." || name == ".." { continue }
                if unsafe unlink("\(directory)/\(name)") != 0 { remove("\(directory)/\(name)") }
            }
            unsafe closedir(stream)
        }
        unsafe rmdir(directory)
    }

    /// Writes a file of the given mode and returns its path.
    func write(_ name: String, _ text: String, mode: mode_t = 0o600) throws -> String {
        let file = "\(path)/\(name)"
        let descriptor = unsafe open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        guard descriptor >= 0 else { throw ClientProblem("\(file) cannot be made") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        _ = unsafe Glibc.write(descriptor, bytes, bytes.count)
        fchmod(descriptor, mode)
        return file
    }
}

/// A datagram socket at a path, as systemd and journald have one.
final class DatagramSocket: Sendable {
    let path: String
    private let descriptor: Int32

    /// - Parameter path: '@' begins a name of the abstract namespace.
    init(_ path: String) throws {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        if bytes.first == UInt8(ascii: "@") { bytes[0] = 0 }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        unsafe setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let length = MemoryLayout<sa_family_t>.size + bytes.count + (path.hasPrefix("@") ? 0 : 1)
        let status = unsafe withUnsafeBytes(of: &address) { raw in
            unsafe bind(
                descriptor, raw.baseAddress!.assumingMemoryBound(to: sockaddr.self),
                socklen_t(length))
        }
        guard status == 0 else { throw ClientProblem("bind to \(path) failed") }
    }

    deinit { close(descriptor) }

    /// The next datagram.
    func receiveBytes() throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
        guard count >= 0 else { throw ClientProblem("no datagram arrived") }
        return Array(buffer[..<count])
    }

    func receive() throws -> String { String(decoding: try receiveBytes(), as: UTF8.self) }

    /// Reads until a datagram begins with `text`, and returns what came, in order.
    func receive(until text: String) throws -> [String] {
        var all: [String] = []
        while true {
            all.append(try receive())
            if all[all.count - 1].hasPrefix(text) { return all }
        }
    }
}
