import Glibc

@testable import Benchmarking

/// A folder for one test, removed with it.
final class Folder: Sendable {
    let path: String

    init() {
        var name = Array("/tmp/sluice-benchmarking-XXXXXX".utf8CString)
        precondition(unsafe mkdtemp(&name) != nil)
        path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.removeAll(path) }

    func make(_ name: String) { unsafe mkdir("\(path)/\(name)", 0o755) }

    func write(_ name: String, _ text: String) { Self.write("\(path)/\(name)", text) }

    func read(_ name: String) -> String? { SystemFile.line("\(path)/\(name)") }

    static func write(_ path: String, _ text: String) {
        close(unsafe open(path, O_WRONLY | O_CREAT, 0o644))
        try? SystemFile.write(text, to: path)
    }

    static func removeAll(_ path: String) {
        if unsafe unlink(path) == 0 { return }
        for name in SystemFile.names(in: path) { removeAll("\(path)/\(name)") }
        unsafe rmdir(path)
    }
}
