// Every way in which a header can be wrong, and the line it ends in: the field, the offset, the reason.

import ModelFormats
import Testing

@Suite struct GGUFRefusalTests {
    /// The fixed part of a header.
    static let start: UInt64 = 24

    /// Expects that `builder`'s bytes are refused in one line at `offset`.
    func refuses(
        _ builder: GGUFBuilder, field: String?, offset: UInt64?, _ words: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        refuses(builder.bytes, field: field, offset: offset, words, sourceLocation: sourceLocation)
    }

    func refuses(
        _ bytes: [UInt8], field: String?, offset: UInt64?, _ words: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try GGUFFile(bytes: bytes, name: "built")
            Issue.record("was accepted", sourceLocation: sourceLocation)
        } catch {
            #expect(error.field == field, sourceLocation: sourceLocation)
            #expect(error.offset == offset, sourceLocation: sourceLocation)
            #expect(error.message.contains(words), "\(error)", sourceLocation: sourceLocation)
            #expect(!error.description.contains("\n"), sourceLocation: sourceLocation)
            #expect(error.description.hasPrefix("built: "), sourceLocation: sourceLocation)
        }
    }

    // Fixed part

    @Test func anEmptyFileIsNamedSo() {
        refuses([], field: "magic", offset: 0, "empty")
    }

    @Test func truncationInTheFixedPartIsRefused() {
        let whole = GGUFBuilder().bytes
        for (length, field, offset) in [
            (1, "magic", 0), (3, "magic", 0), (4, "version", 4), (7, "version", 4),
            (8, "tensor count", 8), (15, "tensor count", 8), (16, "metadata key count", 16),
            (23, "metadata key count", 16),
        ] {
            refuses(
                Array(whole.prefix(length)), field: field, offset: UInt64(offset), "truncated")
        }
    }

    @Test func otherFilesAreNotGGUF() {
        refuses(GGUFBuilder(magic: "PK\u{3}\u{4}"), field: "magic", offset: 0, "50 4b 03 04")
        refuses(GGUFBuilder(magic: "tjgg"), field: "magic", offset: 0, "older GGML")
    }

    @Test func versionsAreTwoAndThree() {
        refuses(GGUFBuilder(version: 1), field: "version", offset: 4, "convert the model again")
        refuses(GGUFBuilder(version: 0), field: "version", offset: 4, "found 0")
        refuses(GGUFBuilder(version: 4), field: "version", offset: 4, "found 4")
        refuses(GGUFBuilder(version: 3 << 24), field: "version", offset: 4, "big-endian")
        #expect(throws: Never.self) { try GGUFBuilder(version: 2).open() }
    }

    @Test func countsMustFitTheFile() {
        refuses(GGUFBuilder(tensors: 1), field: "tensor count", offset: 8, "do not fit")
        refuses(GGUFBuilder(tensors: .max), field: "tensor count", offset: 8, "at most")
        refuses(GGUFBuilder(keys: 1), field: "metadata key count", offset: 16, "do not fit")
        refuses(GGUFBuilder(keys: 1 << 63), field: "metadata key count", offset: 16, "at most")
    }

    // Metadata

    @Test func keysHaveALengthAndAreText() {
        var empty = GGUFBuilder(keys: 1)
        empty.key("", .uint8)
        empty.raw([0, 0])
        refuses(empty, field: "metadata key 0", offset: Self.start, "length of 1 to 65535")

        var long = GGUFBuilder(keys: 1)
        long.integer(UInt64.max)
        long.raw([UInt8](repeating: 65, count: 32))
        refuses(long, field: "metadata key 0", offset: Self.start, "length of 1 to 65535")

        var cut = GGUFBuilder(keys: 1)
        cut.integer(UInt64(1000))
        cut.raw([UInt8](repeating: 65, count: 32))
        refuses(cut, field: "metadata key 0", offset: Self.start + 8, "truncated")

        var binary = GGUFBuilder(keys: 1)
        binary.integer(UInt64(2))
        binary.raw([0xFF, 0xFE, 0, 0, 0, 0, 0])
        refuses(binary, field: "metadata key 0", offset: Self.start + 8, "UTF-8")
    }

    @Test func aKeyAppearsOnce() {
        var builder = GGUFBuilder(keys: 2)
        builder.key("twice", .uint8)
        builder.integer(UInt8(1))
        let second = builder.offset
        builder.key("twice", .uint8)
        builder.integer(UInt8(1))
        refuses(builder, field: "metadata key 'twice'", offset: second, "twice")
    }

    @Test func valueTypesAreKnown() {
        for type in [13, UInt32.max] {
            var builder = GGUFBuilder(keys: 1)
            builder.key("k", type: type)
            builder.integer(UInt64(0))
            refuses(
                builder, field: "metadata key 'k'", offset: Self.start + 9, "found \(type)")
        }
        var array = GGUFBuilder(keys: 1)
        array.key("k", .array)
        let at = array.offset
        array.integer(UInt32(77))
        array.integer(UInt64(0))
        refuses(array, field: "metadata key 'k'", offset: at, "found 77")
    }

    @Test func boolsAreZeroOrOne() {
        var builder = GGUFBuilder(keys: 1)
        builder.key("k", .bool)
        builder.integer(UInt8(2))
        refuses(builder, field: "metadata key 'k'", offset: Self.start + 13, "0 or 1, found 2")

        var array = GGUFBuilder(keys: 1)
        array.key("k", .array)
        array.array(.bool, count: 3)
        array.raw([1, 0, 255])
        refuses(
            array, field: "metadata key 'k'", offset: array.offset - 1, "0 or 1, found 255")
    }

    @Test(arguments: GGUFValueType.allCases)
    func valuesMayNotGoPastTheEnd(_ type: GGUFValueType) {
        var builder = GGUFBuilder(keys: 1)
        builder.key("a rather long key, so that counts fit", type)
        let at = builder.offset
        if type == .string {
            builder.integer(UInt64(3))
            builder.raw([65, 66])
            refuses(
                builder, field: "metadata key 'a rather long key, so that counts fit'",
                offset: at + 8, "truncated")
        } else if let byteCount = type.byteCount {
            builder.raw([UInt8](repeating: 0, count: byteCount - 1))
            refuses(
                builder, field: "metadata key 'a rather long key, so that counts fit'",
                offset: at, "truncated")
        }
        // And as elements: the count is refused before any element is looked at.
        var array = GGUFBuilder(keys: 1)
        array.key("k", .array)
        array.array(type, count: 1 << 40)
        array.raw([UInt8](repeating: 0, count: 64))
        refuses(
            array, field: "metadata key 'k'", offset: Self.start + 9 + 4 + 4, "does not fit")
        var huge = GGUFBuilder(keys: 1)
        huge.key("k", .array)
        huge.array(type, count: .max)
        refuses(
            huge, field: "metadata key 'k'", offset: Self.start + 9 + 4 + 4, "does not fit")
    }

    @Test func stringsStateAPossibleLength() {
        var builder = GGUFBuilder(keys: 1)
        builder.key("k", .string)
        builder.integer(UInt64.max)
        refuses(builder, field: "metadata key 'k'", offset: builder.offset, "truncated")

        var array = GGUFBuilder(keys: 1)
        array.key("k", .array)
        array.array(.string, count: 2)
        array.string("fine")
        array.integer(UInt64(1) << 62)
        refuses(array, field: "metadata key 'k'", offset: array.offset, "truncated")
    }

    @Test func arraysNestOnlySoDeep() throws {
        var deep = GGUFBuilder(keys: 1)
        deep.key("k", .array)
        for _ in 0..<3 { deep.array(.array, count: 1) }
        var deeper = deep
        deep.array(.uint8, count: 1)
        deep.raw([7])
        let value = try deep.open().metadata["k"]
        #expect(value?.type == .array)

        for _ in 0..<1000 { deeper.array(.array, count: 1) }
        refuses(
            deeper, field: "metadata key 'k'", offset: Self.start + 13 + 4 * 12,
            "arrays inside each other")
    }

    @Test func emptyArraysAndStringsAreFine() throws {
        var builder = GGUFBuilder(keys: 3)
        builder.key("strings", .array)
        builder.array(.string, count: 0)
        builder.key("numbers", .array)
        builder.array(.float64, count: 0)
        builder.key("text", .string)
        builder.string("")
        let metadata = try builder.open().metadata
        #expect(try metadata.array("strings")?.count == 0)
        #expect(try metadata.array("numbers")?.count == 0)
        #expect(try metadata.string("text") == "")
    }

    @Test func alignmentIsAPowerOfTwo() {
        for value in [0, 1, 4, 24, 33, 1 << 21, UInt32.max] {
            var builder = GGUFBuilder(keys: 1)
            builder.key("general.alignment", .uint32)
            let at = builder.offset
            builder.integer(value)
            refuses(
                builder, field: "metadata key 'general.alignment'", offset: at,
                "power of two from 8 to 1048576, found \(value)")
        }
        var typed = GGUFBuilder(keys: 1)
        typed.key("general.alignment", .uint64)
        typed.integer(UInt64(32))
        refuses(
            typed, field: "metadata key 'general.alignment'", offset: typed.offset - 8,
            "type uint32, found uint64")
    }

    // Tensors

    @Test func tensorNamesAreShortText() {
        var long = GGUFBuilder(tensors: 1)
        long.tensor(String(repeating: "n", count: 65), shape: [1])
        refuses(long, field: "name of tensor 0", offset: Self.start, "length of 1 to 64")

        var empty = GGUFBuilder(tensors: 1)
        empty.tensor("", shape: [1])
        refuses(empty, field: "name of tensor 0", offset: Self.start, "length of 1 to 64")

        var binary = GGUFBuilder(tensors: 1)
        binary.integer(UInt64(2))
        binary.raw([0xC3, 0x28])
        binary.raw([UInt8](repeating: 0, count: 40))
        refuses(binary, field: "name of tensor 0", offset: Self.start + 8, "UTF-8")
    }

    @Test func aTensorNameAppearsOnce() {
        var builder = GGUFBuilder(tensors: 2)
        builder.tensor("t", shape: [1])
        let second = builder.offset
        builder.tensor("t", shape: [1], at: 32)
        builder.data(64)
        refuses(builder, field: "tensor 't'", offset: second, "twice")
    }

    @Test func dimensionsAreAtMostFour() throws {
        var builder = GGUFBuilder(tensors: 1)
        let at = builder.tensor("t", shape: [1, 1, 1, 1, 1]).dimensions
        builder.data(4)
        refuses(builder, field: "tensor 't'", offset: at, "at most 4 dimensions, found 5")

        var many = GGUFBuilder(tensors: 1)
        many.string("t")
        many.integer(UInt32.max)
        many.raw([UInt8](repeating: 0, count: 64))
        refuses(many, field: "tensor 't'", offset: Self.start + 9, "at most 4 dimensions")
    }

    @Test func lengthsArePossible() {
        var zero = GGUFBuilder(tensors: 1)
        let zeroAt = zero.tensor("t", shape: [32, 0]).dimensions
        zero.data(4)
        refuses(zero, field: "tensor 't' dimension 1", offset: zeroAt + 12, "found 0")

        var huge = GGUFBuilder(tensors: 1)
        let hugeAt = huge.tensor("t", shape: [.max]).dimensions
        huge.data(4)
        refuses(huge, field: "tensor 't' dimension 0", offset: hugeAt + 4, "from 1 to")

        var product = GGUFBuilder(tensors: 1)
        let productAt = product.tensor("t", shape: [1 << 32, 1 << 31]).dimensions
        product.data(4)
        refuses(
            product, field: "tensor 't' dimension 1", offset: productAt + 12,
            "more than can be counted")

        var bytes = GGUFBuilder(tensors: 1)
        let bytesAt = bytes.tensor("t", shape: [1 << 62]).dimensions
        bytes.data(4)
        refuses(bytes, field: "tensor 't'", offset: bytesAt, "more bytes than can be counted")
    }

    @Test func rowsAreWholeBlocks() {
        var builder = GGUFBuilder(tensors: 1)
        let at = builder.tensor("t", shape: [128, 2], type: BlockFormat.q4_K.rawValue).dimensions
        builder.data(144)
        refuses(
            builder, field: "tensor 't'", offset: at,
            "multiple of 256 elements for Q4_K, found 128")

        var scalar = GGUFBuilder(tensors: 1)
        let scalarAt = scalar.tensor("t", shape: [], type: BlockFormat.q8_0.rawValue).dimensions
        scalar.data(34)
        refuses(scalar, field: "tensor 't'", offset: scalarAt, "multiple of 32")
    }

    @Test func otherTensorTypesAreNamed() {
        for (type, name) in [
            (UInt32(16), "IQ2_XXS (16)"), (28, "F64 (28)"), (4, "Q4_2 (4)"),
            (999, "type number 999"), (.max, "type number 4294967295"),
        ] {
            var builder = GGUFBuilder(tensors: 1)
            let at = builder.tensor("t", shape: [256], type: type).type
            builder.data(1024)
            refuses(builder, field: "tensor 't'", offset: at, "\(name) is not supported")
        }
    }

    @Test func offsetsAreAligned() {
        var builder = GGUFBuilder(tensors: 1)
        let at = builder.tensor("t", shape: [1], at: 16).offset
        builder.data(64)
        refuses(builder, field: "tensor 't'", offset: at, "aligned to 32, found 16")
    }

    @Test func tensorsLieInsideTheFile() throws {
        var builder = GGUFBuilder(tensors: 1)
        let at = builder.tensor("t", shape: [16]).offset
        builder.data(64)
        #expect(throws: Never.self) { try builder.open() }
        refuses(
            Array(builder.bytes.dropLast()), field: "tensor 't'", offset: at,
            "past the end of the file")
        // Cut before the data begin at all.
        refuses(
            Array(builder.bytes.prefix(Int(at) + 8)), field: "tensor 't'", offset: at,
            "past the end of the file")

        for offset in [UInt64.max - 31, 1 << 63, 1 << 40] {
            var far = GGUFBuilder(tensors: 1)
            let farAt = far.tensor("t", shape: [16], at: offset).offset
            far.data(64)
            refuses(far, field: "tensor 't'", offset: farAt, "past the end of the file")
        }
    }

    @Test func tensorsDoNotOverlap() {
        var builder = GGUFBuilder(tensors: 3)
        builder.tensor("a", shape: [16], at: 64)
        builder.tensor("b", shape: [8], at: 0)
        let at = builder.tensor("c", shape: [1], at: 96).offset
        builder.data(128)
        refuses(builder, field: "tensor 'c'", offset: at, "inside those of tensor 'a'")
    }

    @Test func everyTruncationOfARealFileIsRefused() throws {
        for name in ["types.gguf", "formats.gguf", "vocabulary.gguf"] {
            let bytes = try Fixture.bytes(name)
            let whole = try GGUFFile(bytes: bytes)
            let needed =
                whole.tensors.map { Int($0.fileOffset) + $0.byteCount }.max() ?? bytes.count
            // The last bytes of a file without tensors may be padding, which nothing misses. A prime step
            // through the larger files meets every kind of field.
            let end = whole.tensors.isEmpty ? needed - 32 : needed
            for length in stride(from: 0, to: end, by: end > 2000 ? 11 : 1) {
                #expect(throws: ModelFileError.self, "\(name) cut to \(length)") {
                    try GGUFFile(bytes: Array(bytes.prefix(length)))
                }
            }
        }
    }

    @Test func errorsStayOnOneLine() {
        var builder = GGUFBuilder(keys: 1)
        builder.key("evil\nkey\u{1B}[2J", .bool)
        builder.integer(UInt8(9))
        do {
            _ = try GGUFFile(bytes: builder.bytes, name: "line\nbreak")
            Issue.record("was accepted")
        } catch {
            let controls = error.description.unicodeScalars.filter { $0.value < 32 }
            #expect(controls.isEmpty, "\(error)")
            #expect(error.description.contains("evil\\u{a}key\\u{1b}[2J"))
        }
    }
}
