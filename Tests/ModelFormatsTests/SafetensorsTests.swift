// Safetensors files: what the format's own library wrote is read, and every way in which a header can be
// wrong ends in a line with tensor, offset and reason.

import ModelFormats
import Testing

@Suite struct SafetensorsTests {
    func refuses(
        _ builder: SafetensorsBuilder, field: String?, offset: UInt64?, _ words: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try SafetensorsFile(bytes: builder.bytes, name: "built")
            Issue.record("was accepted", sourceLocation: sourceLocation)
        } catch {
            #expect(error.field == field, "\(error)", sourceLocation: sourceLocation)
            #expect(error.offset == offset, "\(error)", sourceLocation: sourceLocation)
            #expect(error.message.contains(words), "\(error)", sourceLocation: sourceLocation)
            #expect(error.description.hasPrefix("built: "), sourceLocation: sourceLocation)
        }
    }

    /// A header of one tensor `a`.
    func one(_ members: String) -> String { "{\"a\":{\(members)}}" }

    @Test func tensorsLieAfterTheHeader() throws {
        let header = """
            {"__metadata__":{"format":"pt"},
             "b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
             "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
             "c":{"dtype":"I64","shape":[1],"data_offsets":[16,24]},
             "empty":{"dtype":"F16","shape":[0,7],"data_offsets":[16,16]}}
            """
        let file = try SafetensorsFile(bytes: SafetensorsBuilder(header, data: 24).bytes)
        let start = UInt64(8 + header.utf8.count)
        #expect(file.fileSize == start + 24)
        #expect(file.tensors.map(\.name) == ["b", "a", "c", "empty"])
        #expect(file.tensors.map(\.shape) == [[2, 3], [], [1], [0, 7]])
        #expect(file.tensors.map(\.format) == [.bf16, .f32, nil, .f16])
        #expect(file.tensors.map(\.elementType) == ["BF16", "F32", "I64", "F16"])
        #expect(file.tensors.map(\.fileOffset) == [4, 0, 16, 16].map { start + $0 })
        #expect(file.tensors.map(\.byteCount) == [12, 4, 8, 0])
    }

    @Test func theLengthOfTheHeaderIsChecked() {
        let field = "header length"
        var cut = SafetensorsBuilder("")
        cut.header = ""
        cut.statedLength = 0
        refuses(cut, field: field, offset: 0, "does not fit")
        for (length, words) in [
            (1, "does not fit"), (3, "does not fit"), (100_000_000, "does not fit"),
            (100_000_001, "at most"), (.max, "at most"), (1 << 63, "at most"),
        ] as [(UInt64, String)] {
            var builder = SafetensorsBuilder("{}")
            builder.statedLength = length
            refuses(builder, field: field, offset: 0, words)
        }
        do {
            _ = try SafetensorsFile(bytes: [2, 0, 0], name: "built")
            Issue.record("was accepted")
        } catch {
            #expect(error.message.contains("truncated"))
        }
    }

    @Test func headersAreJSON() {
        refuses(SafetensorsBuilder("[]"), field: "header", offset: 8, "expected an object")
        refuses(SafetensorsBuilder("{}x"), field: nil, offset: 10, "something follows")
        refuses(SafetensorsBuilder("{\"a\""), field: "header", offset: 12, "expected ':'")
        refuses(
            SafetensorsBuilder("{\"__metadata__\":{\"k\":1}}"), field: "__metadata__ 'k'",
            offset: 29, "expected a string")
        // Padding, as the format allows.
        #expect(throws: Never.self) {
            try SafetensorsFile(bytes: SafetensorsBuilder("{}      ").bytes)
        }
    }

    @Test func entriesAreWhole() {
        let field = "tensor 'a'"
        refuses(SafetensorsBuilder(one("")), field: field, offset: 9, "found fewer")
        refuses(
            SafetensorsBuilder(one("\"dtype\":\"F32\",\"shape\":[]")), field: field, offset: 9,
            "found fewer")
        refuses(
            SafetensorsBuilder(
                one("\"dtype\":\"F31\",\"shape\":[],\"data_offsets\":[0,4]"), data: 4),
            field: field, offset: 9, "'F31' is not a known dtype")
        refuses(
            SafetensorsBuilder(one("\"extra\":1")), field: field, offset: 14, "none of dtype")
        refuses(
            SafetensorsBuilder(one("\"dtype\":1")), field: "tensor 'a' dtype", offset: 22,
            "expected a string")
        refuses(
            SafetensorsBuilder(one("\"shape\":[-1]")), field: "tensor 'a' shape", offset: 23,
            "integers from 0 on")
        refuses(
            SafetensorsBuilder(one("\"shape\":[1.5]")), field: "tensor 'a' shape", offset: 23,
            "integer")
        refuses(
            SafetensorsBuilder(
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{}}", data: 1),
            field: "header", offset: 61, "appears twice")
    }

    @Test func shapesAndRangesAgree() {
        let field = "tensor 'a'"
        func tensor(_ type: String, _ shape: String, _ range: String) -> SafetensorsBuilder {
            SafetensorsBuilder(
                one("\"dtype\":\"\(type)\",\"shape\":\(shape),\"data_offsets\":\(range)"), data: 8)
        }
        // Where 'data_offsets' stands after a dtype of three letters and a shape of one digit.
        let range: UInt64 = 40
        refuses(tensor("F32", "[2]", "[0,7]"), field: field, offset: range, "takes 8 bytes")
        refuses(tensor("F32", "[2]", "[0]"), field: field, offset: range, "[first, end]")
        refuses(tensor("F32", "[2]", "[8,0]"), field: field, offset: range, "[first, end]")
        refuses(
            tensor("F32", "[2]", "[0,8,9]"), field: "tensor 'a' data_offsets", offset: 60,
            "at most 2")
        refuses(
            tensor("F4", "[1]", "[0,0]"), field: field, offset: range - 1, "takes 0 bytes")
        refuses(
            tensor("F32", "[4611686018427387904,4611686018427387904]", "[0,8]"), field: field,
            offset: 28, "more elements than can be counted")
        refuses(
            tensor("F32", "[4]", "[0,16]"), field: field, offset: range, "truncated")
        #expect(throws: Never.self) {
            try SafetensorsFile(bytes: tensor("F4", "[16]", "[0,8]").bytes)
        }
    }

    @Test func dataAreCoveredOnce() {
        func two(_ first: String, _ second: String, data: Int) -> SafetensorsBuilder {
            SafetensorsBuilder(
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":\(first)},"
                    + "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":\(second)}}",
                data: data)
        }
        let (a, b): (UInt64, UInt64) = (39, 91)
        #expect(throws: Never.self) {
            try SafetensorsFile(bytes: two("[4,8]", "[0,4]", data: 8).bytes)
        }
        refuses(
            two("[0,4]", "[3,7]", data: 8), field: "tensor 'b'", offset: b, "overlaps")
        refuses(
            two("[0,4]", "[5,9]", data: 9), field: "tensor 'b'", offset: b,
            "tensor 'a' ends at 4")
        refuses(
            two("[4,8]", "[9,13]", data: 13), field: "tensor 'a'", offset: a, "data begin at 0")
        refuses(two("[0,4]", "[4,8]", data: 7), field: "tensor 'b'", offset: b, "truncated")
        refuses(
            two("[0,4]", "[4,8]", data: 9), field: "header length", offset: 0, "end at byte 8")
    }

    @Test func damagedHeadersAreReadOrRefused() throws {
        let sound = try readFile(HuggingFaceFixture.path("olmoe-bf16") + "/model.safetensors")
        let header =
            8 + sound[..<8].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        var random = SplitMix64(seed: 6)
        var refused = 0
        for round in 0..<400 {
            var bytes = sound
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let at = Int.random(in: 0..<header, using: &random)
                switch round % 4 {
                case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes[at] = Array("0123456789[]{},:\"".utf8).randomElement(using: &random)!
                case 2: bytes.remove(at: at)
                default: bytes.removeLast(Int.random(in: 1..<bytes.count / 2, using: &random))
                }
            }
            do {
                let file = try SafetensorsFile(bytes: bytes, name: "mutated")
                for tensor in file.tensors {
                    #expect(tensor.fileOffset + UInt64(tensor.byteCount) <= UInt64(bytes.count))
                }
            } catch {
                refused += 1
                #expect(error.description.hasPrefix("mutated: "))
                #expect(!error.description.unicodeScalars.contains { $0.value < 32 })
            }
        }
        #expect(refused > 200, "every removal and truncation is noticed")
    }
}
