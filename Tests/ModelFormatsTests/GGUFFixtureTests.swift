// The reader against the `gguf` Python package: EXPECTED.txt holds what that reads in the same files.

import Testing

@testable import ModelFormats

@Suite struct GGUFFixtureTests {
    /// The facts about one file, as fields of lines.
    static func facts(_ name: String) throws -> [[String]] {
        String(decoding: try Fixture.bytes("EXPECTED.txt"), as: UTF8.self)
            .split(separator: "\n")
            .map { $0.split(separator: "\t").map(String.init) }
            .filter { $0[1] == name }
    }

    @Test(arguments: Fixture.names)
    func metadataAreThoseOfThePythonPackage(_ name: String) throws {
        // Read alone, as the parts of a split model have metadata of their own.
        let facts = try Self.facts(name)
        let part = try GGUFPart(source: try FileSource(path: Fixture.path(name)), fileIndex: 0)
        let metadata = part.metadata
        #expect(facts.first == ["file", name, String(part.version)])
        let keyed = facts.filter { $0[0] == "key" || $0[0] == "array" }
        #expect(metadata.keys == keyed.map { $0[2] })
        for fact in keyed {
            let value = try #require(metadata[fact[2]])
            if fact[0] == "key" {
                #expect(value.type.name == fact[3], "\(fact[2])")
                #expect(Self.text(value) == [fact[4]], "\(fact[2])")
            } else {
                #expect(value.type == .array)
                #expect(Self.depth(value) == Int(fact[3]), "\(fact[2])")
                let items = Self.text(value)
                #expect(items == Array(fact[6...]), "\(fact[2])")
                #expect(items.count == Int(fact[5]))
                #expect(Self.innermost(value)?.name == fact[4])
            }
        }
    }

    @Test(arguments: Fixture.names)
    func tensorsAreThoseOfThePythonPackage(_ name: String) throws {
        let file = try GGUFFile(path: Fixture.path(name))
        let index = try #require(file.paths.firstIndex(of: Fixture.path(name)))
        let found = file.tensors.filter { $0.fileIndex == index }.map {
            [
                "tensor", name, $0.name, $0.format.name,
                $0.shape.map(String.init).joined(separator: "x"), String($0.fileOffset),
                String($0.byteCount),
            ]
        }
        #expect(found == (try Self.facts(name).filter { $0[0] == "tensor" }))
        for tensor in file.tensors {
            #expect(file.tensor(named: tensor.name)?.fileOffset == tensor.fileOffset)
            #expect(tensor.elementCount == tensor.shape.reduce(1, *))
            #expect(tensor.format.byteCount(elements: tensor.elementCount) == tensor.byteCount)
        }
    }

    @Test(arguments: 1...3)
    func anyFileOfASplitModelOpensItAll(_ number: Int) throws {
        let file = try GGUFFile(path: Fixture.path("split-0000\(number)-of-00003.gguf"))
        #expect(file.paths == (1...3).map { Fixture.path("split-0000\($0)-of-00003.gguf") })
        #expect(file.tensors.map(\.fileIndex) == [0, 0, 1, 2, 2])
        #expect(file.tensors.map(\.name) == (0..<5).map { "blk.\($0).ffn_gate_exps.weight" })
        // Only the first file has it.
        #expect(try file.metadata.integer("fixture.block_count") == 5)
        #expect(file.fileSizes == (try file.paths.map { UInt64(try readFile($0).count) }))
    }

    @Test func nestedArraysKeepTheirShape() throws {
        let file = try GGUFFile(path: Fixture.path("types.gguf"))
        guard case .array(let outer) = file.metadata["c.nested"] else {
            Issue.record("not an array")
            return
        }
        let rows = (0..<outer.count).map { index -> [Int?] in
            guard case .array(let row) = outer[index] else { return [] }
            return (0..<row.count).map { row.integer(at: $0) }
        }
        #expect(rows == [[1, 2], [3], [4, 5, 6]])
    }

    /// A value as EXPECTED.txt writes it; arrays item by item, those inside arrays flattened.
    private static func text(_ value: GGUFValue) -> [String] {
        switch value {
        case .string(let text):
            return [text.isEmpty ? "-" : hexadecimal(Array(text.utf8))]
        case .float32, .float64:
            let bits = value.number!.bitPattern
            return [
                hexadecimal((0..<8).map { UInt8(truncatingIfNeeded: bits >> (56 - 8 * $0)) })
            ]
        case .bool(let flag):
            return [flag ? "1" : "0"]
        case .uint64(let number):
            return [String(number)]
        case .array(let array):
            return (0..<array.count).flatMap { text(array[$0]) }
        default:
            return [String(value.integer!)]
        }
    }

    private static func depth(_ value: GGUFValue) -> Int {
        guard case .array(let array) = value else { return 0 }
        return 1 + (array.count == 0 ? 0 : depth(array[0]))
    }

    private static func innermost(_ value: GGUFValue) -> GGUFValueType? {
        guard case .array(let array) = value, array.count > 0 else { return value.type }
        return innermost(array[0])
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
