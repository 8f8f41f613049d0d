// Blocks and the floats they mean, as the `gguf` Python package says; tools/make_block_fixtures.py makes
// the files and describes them.

import Glibc
import ModelFormats

/// One file of Tests/Fixtures/blocks.
struct BlockFixture {
    /// The blocks, one after the other.
    let blocks: [UInt8]
    /// Their elements.
    let expected: [Float]

    /// Reads the file of `format`.
    init(_ format: BlockFormat) throws {
        let file = try Self.bytes(of: "\(format.name).bin")
        let header = stride(from: 8, to: 24, by: 4).map { Self.word(file, $0) }
        guard file.starts(with: Array("BLOCKS1\n".utf8)), header[0] == format.rawValue,
            header[2] == UInt32(format.bytesPerBlock), header[3] == UInt32(format.elementsPerBlock)
        else { throw Unreadable(name: format.name) }
        let end = 24 + Int(header[1] * header[2])
        blocks = Array(file[24..<end])
        expected = stride(from: end, to: file.count, by: 4).map {
            Float(bitPattern: Self.word(file, $0))
        }
    }

    private struct Unreadable: Error { let name: String }

    private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
    }

    private static func bytes(of name: String) throws -> [UInt8] {
        let tests = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
        guard let file = unsafe fopen("/\(tests)/Fixtures/blocks/\(name)", "rb") else {
            throw Unreadable(name: name)
        }
        defer { unsafe fclose(file) }
        return unsafe [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in
            count = unsafe fread(buffer.baseAddress!, 1, buffer.count, file)
        }
    }
}
