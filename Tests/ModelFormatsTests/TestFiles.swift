// Files that tests read and write.

import Glibc

/// The committed GGUF files; tools/make_gguf_fixtures.py makes them.
enum Fixture {
    static let directory =
        "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/") + "/Fixtures/gguf"

    static let names = [
        "formats.gguf", "split-00001-of-00003.gguf", "split-00002-of-00003.gguf",
        "split-00003-of-00003.gguf", "types.gguf", "version2.gguf", "vocabulary.gguf",
    ]

    static func path(_ name: String) -> String { "\(directory)/\(name)" }

    static func bytes(_ name: String) throws -> [UInt8] { try readFile(path(name)) }
}

struct FileFailure: Error { let path: String }

func readFile(_ path: String) throws -> [UInt8] {
    guard let file = unsafe fopen(path, "rb") else { throw FileFailure(path: path) }
    defer { unsafe fclose(file) }
    return unsafe [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in
        count = unsafe fread(buffer.baseAddress!, 1, buffer.count, file)
    }
}

func writeFile(_ path: String, _ bytes: [UInt8]) throws {
    guard let file = unsafe fopen(path, "wb") else { throw FileFailure(path: path) }
    defer { unsafe fclose(file) }
    let written = unsafe bytes.withUnsafeBytes {
        unsafe $0.isEmpty ? 0 : fwrite($0.baseAddress!, 1, $0.count, file)
    }
    guard written == bytes.count else { throw FileFailure(path: path) }
}

/// A directory that is removed, with its files, when the value goes.
struct TemporaryDirectory: ~Copyable {
    let path: String

    init() throws {
        var template = Array("/tmp/sluice-test-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer {
            unsafe mkdtemp($0.baseAddress!) != nil
        }
        guard made else { throw FileFailure(path: "/tmp") }
        path = String(
            decoding: template.dropLast().map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
    }

    deinit {
        if let directory = unsafe opendir(path) {
            while let entry = unsafe readdir(directory) {
                let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                    unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) {
                        unsafe String(cString: $0)
                    }
                }
                if name != ".", name != ".." { _ = unsafe unlink("\(path)/\(name)") }
            }
            unsafe closedir(directory)
        }
        unsafe rmdir(path)
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }
}
