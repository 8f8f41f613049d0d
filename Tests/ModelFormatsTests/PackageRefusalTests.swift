// What is no package, or no longer one, is refused in a line that says where and why.

import FoundationEssentials
import Testing

@testable import ModelFormats

@Suite struct PackageRefusalTests {
    private let bytes: [UInt8]
    private let manifest: PackageManifest

    init() throws {
        bytes = try PackageExample().bytes()
        manifest = try Package(bytes: bytes).manifest
    }

    private func refusal(
        _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
    ) -> String {
        let error = #expect(throws: ModelFileError.self, sourceLocation: sourceLocation) {
            try Package(bytes: bytes, name: "bad")
        }
        return error?.description ?? ""
    }

    private func refusal(
        of change: (inout PackageManifest) -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        var changed = manifest
        change(&changed)
        return refusal(
            bytes.replacingManifest(try changed.encoded), sourceLocation: sourceLocation)
    }

    @Test func resealingChangesNothingElse() throws {
        #expect(bytes.resealed == bytes)
        #expect(bytes.replacingManifest(try manifest.encoded) == bytes)
    }

    @Test func wrongBeginnings() {
        #expect(refusal([]).contains("0 found; it is truncated"))
        var other = bytes
        other[3] ^= 1
        #expect(refusal(other).contains("package header at offset 0: expected the magic"))
        other = bytes
        other.set(UInt32(2), at: 8)
        #expect(refusal(other.resealed).contains("at offset 8: expected version 1, found 2"))
    }

    @Test func wrongLengths() {
        #expect(refusal(Array(bytes.dropLast())).contains("it is truncated or was appended to"))
        var other = bytes + [0]
        other.set(UInt64(other.count), at: 16)
        #expect(refusal(other.resealed).contains("the sections end at"))
    }

    @Test func damagedSectionsAreNamed() throws {
        for (kind, name) in [(1, "metadata section"), (4, "expert table"), (5, "manifest")] {
            let section = try #require(bytes.packageSection(kind)).range
            var other = bytes
            other[section.lowerBound] ^= 0x20
            let text = refusal(other)
            #expect(text.hasPrefix("bad: \(name) at offset \(section.lowerBound): checksum "))
        }
    }

    @Test func sectionsOutsideOrOverEachOther() throws {
        for kind in 1...5 {
            var other = bytes
            other.set(UInt64(1) << 40, at: 24 + 24 * (kind - 1) + 8)
            #expect(refusal(other.resealed).contains("package header at offset"))
            other = bytes
            other.set(UInt64.max - 4095, at: 24 + 24 * (kind - 1) + 8)
            #expect(refusal(other.resealed).contains("package header at offset"))
            other = bytes
            other.set(UInt64.max, at: 24 + 24 * (kind - 1) + 16)
            #expect(refusal(other.resealed).contains("does not lie between"))
        }
    }

    @Test func manifestsThatAreNoJSON() {
        #expect(refusal(bytes.replacingManifest([])).contains("manifest at offset"))
        #expect(refusal(bytes.replacingManifest(Array("{".utf8))).contains("manifest at offset"))
        let deep = [UInt8](repeating: UInt8(ascii: "["), count: 100_000)
        #expect(refusal(bytes.replacingManifest(deep)).contains("manifest at offset"))
        #expect(
            refusal(bytes.replacingManifest(Array("{\"nested\": true}".utf8))).contains(
                "is missing"))
    }

    @Test func shapesThatDoNotAddUp() throws {
        #expect(try refusal { $0.expertCount = 0 }.contains("manifest expert_count"))
        #expect(try refusal { $0.expertCount = 4 }.contains("4 in the manifest"))
        #expect(try refusal { $0.expertCount = 65_537 }.contains("manifest expert_count"))
        #expect(try refusal { $0.layers = [] }.contains("0 layers"))
        #expect(try refusal { $0.layers.swapAt(0, 1) }.contains("layers[1].block"))
        #expect(try refusal { $0.layers[0].parts.removeLast() }.contains("gate, up and down"))
        #expect(try refusal { $0.layers[0].parts[0].format = "Q9" }.contains("'Q9' is not"))
        #expect(try refusal { $0.layers[0].parts[0].rows = 4 }.contains("layers[0].parts[0]"))
        #expect(try refusal { $0.layers[0].parts[0].rows = .max }.contains("expected 1 to"))
        #expect(try refusal { $0.layers[0].parts[0].columns = 33 }.contains("no multiple of 32"))
        #expect(try refusal { $0.layers[0].planes = [] }.contains("layers[0].planes"))
        #expect(try refusal { $0.layers[0].planes[0].bytes = -1 }.contains("planes[0].bytes"))
        #expect(try refusal { $0.layers[0].planes[0].bytes += 64 }.contains("layers[0].planes[0]"))
        #expect(
            try refusal { $0.layers[0].planes[0].parts[1].offset = 0 }.contains(
                "layers[0].planes[0]"))
        #expect(
            try refusal { $0.layers[0].planes[0].parts[1].bytes = .max }.contains(
                "planes[0].parts"))
        #expect(try refusal { $0.nested = false }.contains("low_format"))
        #expect(
            try refusal {
                $0.nested = false
                $0.layers[0].parts[0].bits = [8]
            }.contains("has bits, although 'nested'"))
        #expect(try refusal { $0.layers[0].parts[0].lowFormat = "Q4_0" }.contains("a low_format"))
        #expect(try refusal { $0.layers[1].parts[1].bits = [8] }.contains("bits [8]"))
        #expect(try refusal { $0.layers[1].parts[1].bits = [4, -4] }.contains("bits [4, -4]"))
    }

    @Test func tensorsThatDoNotFit() throws {
        let last = manifest.tensors.count - 1
        #expect(try refusal { $0.tensors[1].name = $0.tensors[0].name }.contains("appears once"))
        #expect(try refusal { $0.tensors[0].name = "" }.contains("tensors[0].name"))
        #expect(try refusal { $0.tensors[0].shape = [.max, 2] }.contains("more elements"))
        #expect(try refusal { $0.tensors[0].shape = [1, 1, 1, 1, 1] }.contains("tensors[0].shape"))
        #expect(try refusal { $0.tensors[0].shape = [0] }.contains("tensors[0].shape"))
        #expect(try refusal { $0.tensors[0].bytes += 1 }.contains("tensors[0].bytes"))
        #expect(try refusal { $0.tensors[0].offset += 1 }.contains("tensors[0].offset"))
        #expect(try refusal { $0.tensors[0].offset = 0 }.contains("tensors[0].offset"))
        #expect(try refusal { $0.tensors[last].offset += 64 }.contains("end of the resident"))
        #expect(try refusal { $0.tensors[last].offset = .max - 63 }.contains("end of the resident"))
        #expect(try refusal { $0.tensors[0].frames = [] }.contains("tensors[0].frames"))
        #expect(try refusal { $0.tensors[0].frames = [.max] }.contains("tensors[0].frames"))
    }

    @Test func recordsThatLieElsewhere() throws {
        let table = try #require(bytes.packageSection(4)).range.lowerBound
        let firstRecord = table + 16 + 4 * 6
        func refusal(_ change: (inout [UInt8]) -> Void) -> String {
            var other = bytes
            change(&other)
            return self.refusal(other.resealed)
        }
        #expect(refusal { $0.set(UInt32(3), at: table) }.contains("3 layers found, 2"))
        #expect(refusal { $0.set(UInt32(9), at: table + 12) }.contains("9 records of 6 experts"))
        #expect(refusal { $0.set(UInt32(6), at: table + 16) }.contains("is record 6 of 6"))
        // An expert of layer 0 cannot be a record of layer 1.
        #expect(refusal { $0.set(UInt32(3), at: table + 16) }.contains("the shape of layer 1"))
        #expect(refusal { $0.set(UInt32(2), at: firstRecord + 8) }.contains("layer 2 of 2"))
        #expect(refusal { $0.set(UInt64(0), at: firstRecord) }.contains("does not lie on a page"))
        #expect(refusal { $0[firstRecord] |= 1 }.contains("does not lie on a page"))
        #expect(
            refusal { $0.set(UInt64.max - 4095, at: firstRecord) }.contains("does not lie on a"))
        // Record 0 where record 1 is.
        let second = bytes.littleEndian(at: firstRecord + 20, byteCount: 8)
        #expect(refusal { $0.set(second, at: firstRecord) }.contains("begins inside record"))
    }

    @Test func expertsMayShareARecord() throws {
        let table = try #require(bytes.packageSection(4)).range.lowerBound
        var other = bytes
        other.set(UInt32(0), at: table + 16 + 4)
        let package = try Package(bytes: other.resealed)
        #expect(
            package.extent(layer: 0, expert: 1, plane: 0, part: 2)
                == package.extent(layer: 0, expert: 0, plane: 0, part: 2))
        #expect(
            package.checksum(layer: 0, expert: 1, plane: 0)
                == package.checksum(layer: 0, expert: 0, plane: 0))
        var verifier = try PackageVerifier(bytes: other.resealed)
        try verifier.run()
        #expect(verifier.damages.isEmpty)
    }

    @Test func formatsAreToldApartByTheirFirstBytes() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("model")
        try writeFile(path, bytes)
        let package = try ModelFile(path: path)
        #expect(package.package != nil)
        #expect(package.formatName == "package version 1")
        #expect(package.fileSizes == [UInt64(bytes.count)])
        let gguf = try ModelFile(path: PackageExample.source)
        #expect(gguf.package == nil)
        #expect(gguf.formatName == "GGUF version 3")
        for tensor in gguf.tensors {
            #expect(package.tensor(named: tensor.name)?.byteCount == tensor.byteCount)
        }
        #expect(package.tensor(named: "no such tensor") == nil)
        try writeFile(path, Array("neither".utf8))
        let error = #expect(throws: ModelFileError.self) { try ModelFile(path: path) }
        #expect(error?.description.contains("this is not a GGUF file") == true)
    }
}
