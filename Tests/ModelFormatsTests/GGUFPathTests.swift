// Paths that are no files, and models in several files that do not belong together.

import Glibc
import Testing

@testable import ModelFormats

@Suite struct GGUFPathTests {
    func error(_ path: String) -> ModelFileError? {
        do {
            _ = try GGUFFile(path: path)
            return nil
        } catch {
            return error
        }
    }

    @Test func onlyRegularFilesAreOpened() throws {
        let directory = try TemporaryDirectory()
        #expect(error(directory.path)?.message.contains("found a directory") == true)
        #expect(error("/dev/null")?.message.contains("found a device") == true)
        #expect(error(directory.file("missing"))?.message.contains("No such file") == true)
        #expect(error("")?.message.contains("cannot be opened") == true)
        #expect(error("a\0b")?.message.contains("zero byte") == true)
        // Nobody writes to this pipe: a plain open would wait for ever.
        let pipe = directory.file("pipe")
        try #require(unsafe mkfifo(pipe, 0o600) == 0)
        #expect(error(pipe)?.message.contains("found a pipe") == true)
        let empty = directory.file("empty")
        try writeFile(empty, [])
        #expect(error(empty)?.message.contains("empty") == true)
    }

    @Test(.enabled(if: geteuid() != 0, "root may read every file"))
    func anUnreadableFileIsNamed() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("closed.gguf")
        try writeFile(path, GGUFBuilder().bytes)
        unsafe chmod(path, 0)
        #expect(error(path)?.message.contains("Permission denied") == true)
    }

    /// A part of a split model with one tensor.
    private func part(
        _ number: UInt16?, of count: UInt16?, tensors: Int32?, name: String
    ) -> [UInt8] {
        let keys = [number.map { _ in 0 }, count.map { _ in 0 }, tensors.map { _ in 0 }]
        var builder = GGUFBuilder(tensors: 1, keys: UInt64(keys.compactMap { $0 }.count))
        if let number {
            builder.key("split.no", .uint16)
            builder.integer(number)
        }
        if let count {
            builder.key("split.count", .uint16)
            builder.integer(count)
        }
        if let tensors {
            builder.key("split.tensors.count", .int32)
            builder.integer(tensors)
        }
        builder.tensor(name, shape: [4])
        builder.data(16)
        return builder.bytes
    }

    @Test func partsMustFitTogether() throws {
        let directory = try TemporaryDirectory()
        let first = directory.file("m-00001-of-00002.gguf")
        let second = directory.file("m-00002-of-00002.gguf")
        try writeFile(first, part(0, of: 2, tensors: 2, name: "a"))

        #expect(error(first)?.path == second)
        #expect(error(first)?.message.contains("No such file") == true)

        try writeFile(second, part(1, of: 2, tensors: 2, name: "b"))
        #expect(error(first) == nil)
        #expect(error(second) == nil)

        try writeFile(second, part(1, of: 2, tensors: nil, name: "b"))
        #expect(error(first) == nil)

        try writeFile(second, part(0, of: 2, tensors: 2, name: "b"))
        #expect(error(first)?.field == "metadata key 'split.no'")
        #expect(error(first)?.path == second)
        #expect(error(second)?.message.contains("-00001-of-00002.gguf") == true)

        try writeFile(second, part(1, of: 3, tensors: 2, name: "b"))
        #expect(error(first)?.field == "metadata key 'split.count'")

        try writeFile(second, part(nil, of: nil, tensors: nil, name: "b"))
        #expect(error(first)?.message.contains("found none") == true)

        try writeFile(second, part(1, of: 2, tensors: 3, name: "b"))
        #expect(error(first)?.field == "metadata key 'split.tensors.count'")
        #expect(error(first)?.message.contains("found 3") == true)

        try writeFile(second, part(1, of: 2, tensors: 2, name: "a"))
        #expect(error(first)?.field == "tensor 'a'")
        #expect(error(first)?.message.contains("appears in") == true)
    }

    @Test func splitNumbersArePossible() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("m-00001-of-00002.gguf")
        for (number, count) in [(2, 2), (nil, 2), (1, 1)] as [(UInt16?, UInt16?)] {
            try writeFile(path, part(number, of: count, tensors: 1, name: "a"))
            #expect(error(path)?.field == "metadata key 'split.no'")
        }
        // One file of one, as splitters write when nothing needs splitting.
        try writeFile(path, part(0, of: 1, tensors: 1, name: "a"))
        #expect(error(path) == nil)
        // Renamed, the others cannot be found.
        let renamed = directory.file("renamed.gguf")
        try writeFile(renamed, part(0, of: 2, tensors: 2, name: "a"))
        #expect(error(renamed)?.message.contains("must have a name that ends in") == true)
    }

    @Test func theHeaderLimitHoldsForLargeFiles() throws {
        // A sparse file that truthfully holds the gigabytes it states: refused for its header's size,
        // without reading or allocating them.
        let directory = try TemporaryDirectory()
        let path = directory.file("sparse.gguf")
        var builder = GGUFBuilder(keys: 1)
        builder.key("k", .string)
        builder.integer(UInt64(8) << 30)
        try writeFile(path, builder.bytes)
        try require(truncating: path, to: 16 << 30)
        #expect(error(path)?.message.contains("header of more than") == true)
        #expect(error(path)?.offset == builder.offset)
    }

    @Test func headersOfMegabytesAreReadInSteps() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("large.gguf")
        let count = 300_000
        var builder = GGUFBuilder(tensors: 1, keys: 2)
        builder.key("tokens", .array)
        builder.array(.string, count: UInt64(count))
        var entries: [UInt8] = []
        for index in 0..<count {
            entries += [3, 0, 0, 0, 0, 0, 0, 0]
            entries += [
                UInt8(65 + index % 26), UInt8(index >> 8 & 63 + 33), UInt8(index & 63 + 33),
            ]
        }
        builder.raw(entries)
        builder.key("last", .uint32)
        builder.integer(UInt32(7))
        builder.tensor("t", shape: [4])
        builder.data(16)
        try writeFile(path, builder.bytes)

        let file = try GGUFFile(path: path)
        #expect(try file.metadata.integer("last") == 7)
        let tokens = try #require(try file.metadata.array("tokens"))
        #expect(tokens.count == count)
        let wrong = (0..<count).first { index in
            !tokens.bytes(at: index).elementsEqual(entries[11 * index + 8..<11 * index + 11])
        }
        #expect(wrong == nil)
        #expect(file.tensors[0].fileOffset + 16 == file.fileSizes[0])
    }

    @Test func aFileShortenedWhileItIsReadIsNamedSo() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("shrinking.gguf")
        try writeFile(path, try Fixture.bytes("types.gguf"))
        let source = try FileSource(path: path)
        try require(truncating: path, to: 100)
        let error = #expect(throws: ModelFileError.self) {
            try GGUFPart(source: source, fileIndex: 0)
        }
        #expect(error?.message.contains("shortened") == true)
        #expect(error?.offset == 100)
    }

    private func require(truncating path: String, to length: Int) throws {
        try #require(unsafe truncate(path, length) == 0)
    }
}
