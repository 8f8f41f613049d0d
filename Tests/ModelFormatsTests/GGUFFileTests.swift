// What a sound file yields.

import ModelFormats
import Testing

@Suite struct GGUFFileTests {
    @Test func aHeaderWithoutTensorsIsAModel() throws {
        var builder = GGUFBuilder(keys: 2)
        builder.key("general.architecture", .string)
        builder.string("qwen3moe")
        builder.key("qwen3moe.block_count", .uint32)
        builder.integer(UInt32(48))
        let file = try builder.open()
        #expect(file.version == 3)
        #expect(file.tensors.isEmpty)
        #expect(file.metadata.keys == ["general.architecture", "qwen3moe.block_count"])
        #expect(try file.metadata.string("general.architecture") == "qwen3moe")
        #expect(try file.metadata.integer("qwen3moe.block_count") == 48)
        #expect(try file.metadata.integer("absent") == nil)
    }

    @Test func tensorsLieBehindThePaddedHeader() throws {
        var builder = GGUFBuilder(tensors: 2)
        builder.tensor("a", shape: [32, 3], type: BlockFormat.q8_0.rawValue)
        builder.tensor("b", shape: [5], at: 128)
        builder.data(148)
        let file = try builder.open()
        let start = UInt64(builder.bytes.count - 148)
        let a = try #require(file.tensor(named: "a"))
        #expect(a.shape == [32, 3])
        #expect(a.format == .q8_0)
        #expect(a.fileOffset == start)
        #expect(a.byteCount == 102)
        #expect(a.elementCount == 96)
        let b = try #require(file.tensor(named: "b"))
        #expect(b.fileOffset == start + 128)
        #expect(b.byteCount == 20)
        #expect(file.tensor(named: "c") == nil)
        #expect(file.fileSizes == [UInt64(builder.bytes.count)])
    }

    @Test func aTensorWithoutDimensionsIsOneNumber() throws {
        var builder = GGUFBuilder(tensors: 1)
        builder.tensor("scale", shape: [])
        builder.data(4)
        let tensor = try #require(try builder.open().tensors.first)
        #expect(tensor.elementCount == 1)
        #expect(tensor.byteCount == 4)
    }

    @Test func valuesAreReadByTheTypeAsked() throws {
        var builder = GGUFBuilder(keys: 4)
        builder.key("small", .int8)
        builder.integer(Int8(-3))
        builder.key("huge", .uint64)
        builder.integer(UInt64.max)
        builder.key("infinite", .float32)
        builder.integer(Float.infinity.bitPattern)
        builder.key("broken", .string)
        builder.integer(UInt64(2))
        builder.raw([0xC3, 0x28])
        let metadata = try builder.open().metadata
        #expect(try metadata.integer("small") == -3)
        #expect(try metadata.number("small") == -3)
        #expect(throws: ModelFileError.self) { try metadata.integer("huge") }
        #expect(try metadata.number("huge") == 0x1p64)
        #expect(throws: ModelFileError.self) { try metadata.number("infinite") }
        #expect(throws: ModelFileError.self) { try metadata.string("broken") }
        let error = #expect(throws: ModelFileError.self) { try metadata.bool("small") }
        // Behind the fixed part of 24 bytes and the key's length, five letters and type.
        let place: UInt64 = 24 + 8 + 5 + 4
        #expect(error?.offset == place)
        #expect(error?.field == "metadata key 'small'")
        #expect(
            error?.description
                == "built: metadata key 'small' at offset 41: "
                + "expected a bool, found a value of type int8")
    }

    @Test func arraysAreViews() throws {
        var builder = GGUFBuilder(keys: 2)
        builder.key("tokens", .array)
        builder.array(.string, count: 3)
        builder.string("a")
        builder.string("")
        builder.string("\u{20AC}uro")
        builder.key("scores", .array)
        builder.array(.float32, count: 2)
        builder.integer(Float(0.5).bitPattern)
        builder.integer(Float(-2).bitPattern)
        let metadata = try builder.open().metadata
        let tokens = try #require(try metadata.array("tokens"))
        #expect(tokens.count == 3)
        #expect(tokens.elementType == .string)
        #expect((0..<3).map { tokens.string(at: $0) } == ["a", "", "\u{20AC}uro"])
        #expect(Array(tokens.bytes(at: 2)) == Array("\u{20AC}uro".utf8))
        #expect(tokens.integer(at: 0) == nil)
        let scores = try #require(try metadata.array("scores"))
        #expect((0..<2).map { scores.number(at: $0) } == [0.5, -2])
    }
}
