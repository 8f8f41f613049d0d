// What is written is what is read, also after interruptions.

import Glibc
import Testing

@testable import ModelFormats

@Suite struct PackageWriterTests {
    private let example: PackageExample

    init() throws { example = try PackageExample() }

    @Test func everyTensorAndPlaneIsWhereThePackageSays() throws {
        let bytes = try example.bytes()
        let package = try Package(bytes: bytes)
        let source = try GGUFFile(path: PackageExample.source)
        let sourceBytes = try readFile(PackageExample.source)

        #expect(package.tensors.map(\.name) == source.tensors.map(\.name))
        for (ours, theirs) in zip(package.tensors, source.tensors) {
            #expect(ours.shape == theirs.shape)
            #expect(ours.format == theirs.format)
            #expect(ours.fileOffset % 64 == 0)
            #expect(bytes[range(of: ours)] == sourceBytes[range(of: theirs)])
            #expect(ours.storage?.checksum == checksum32C(bytes[range(of: ours)]))
        }
        #expect(package.planesPerExpert == 2)
        for (layer, shape) in PackageExample.layers.enumerated() {
            for expert in 0..<PackageExample.expertCount {
                for plane in shape.planes.indices {
                    let extents = (0..<3).map {
                        package.extent(layer: layer, expert: expert, plane: plane, part: $0)
                    }
                    for (part, extent) in extents.enumerated() {
                        let start = Int(extent.offset)
                        #expect(
                            Array(bytes[start..<start + extent.byteCount])
                                == PackageExample.piece(
                                    layer: layer, expert: expert, part: part, plane: plane))
                        #expect(extent.byteCount == 0 || extent.offset % 64 == 0)
                    }
                    let parts = extents.filter { $0.byteCount > 0 }
                    #expect(parts[0].offset % 4096 == 0)
                    let end = Int(parts.last!.offset) + parts.last!.byteCount
                    #expect(
                        package.checksum(layer: layer, expert: expert, plane: plane)
                            == checksum32C(bytes[Int(parts[0].offset)..<end]))
                }
            }
        }
        // A layer of fewer planes has nothing in those it lacks.
        #expect(package.extent(layer: 0, expert: 1, plane: 1, part: 2).byteCount == 0)
        #expect(package.checksum(layer: 0, expert: 1, plane: 1) == 0)
    }

    @Test func metadataStayAsTheyWere() throws {
        let package = try Package(bytes: example.bytes())
        let source = try GGUFFile(path: PackageExample.source).metadata
        #expect(package.metadata.keys == source.keys)
        #expect(package.metadata.encoded == source.encoded)
        #expect(!source.encoded.isEmpty)
        for key in source.keys { #expect(package.metadata.type(of: key) == source.type(of: key)) }
        // An error names the byte of the package.
        let key = try #require(source.keys.first)
        let error = package.metadata.error(key, "wrong")
        let section = try #require(try example.bytes().packageSection(1)?.range)
        #expect(section.contains(Int(try #require(error.offset))))
    }

    @Test func manifestTellsWhereItCameFrom() throws {
        let manifest = try Package(bytes: example.bytes()).manifest
        #expect(manifest.sources.map(\.name) == ["formats.gguf"])
        #expect(manifest.sources[0].bytes == UInt64(try readFile(PackageExample.source).count))
        #expect(manifest.sources[0].sha256 == "00ff")
        #expect(manifest.layers == PackageExample.layers)
        #expect(manifest.packedBy == "a test")
    }

    @Test func profileIsCarriedAlong() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("with-profile.sluice")
        try PackageExample(profile: Array("{\"a\": 1}".utf8)).write(path)
        #expect(try Package(path: path).profile() == Array("{\"a\": 1}".utf8))
        try example.write(path)
        #expect(try Package(path: path).profile() == nil)
    }

    @Test(arguments: 0...5)
    func interruptedWritingGoesOnWhereItStopped(experts: Int) throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        #expect(try example.write(path, experts: experts) == 3 * experts)
        #expect(throws: (any Error).self) { try readFile(path) }
        #expect(try example.write(path) == 3 * (6 - experts))
        #expect(try readFile(path) == example.bytes())
        #expect(throws: (any Error).self) { try readFile(path + ".partial") }
        #expect(throws: (any Error).self) { try readFile(path + ".partial.journal") }
    }

    @Test func whatAnInterruptionLeftIsNoPackage() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        try example.write(path, experts: 5)
        #expect(throws: ModelFileError.self) { try ModelFile(path: path + ".partial") }
    }

    @Test func whatWasNotOnTheDeviceIsCheckedBeforeItIsBelieved() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        try example.write(path, experts: 4)
        var partial = try readFile(path + ".partial")
        // The last byte of expert 3, the first of layer 1, which the journal says is written.
        let sound = try Package(bytes: example.bytes())
        let extent = sound.extent(layer: 1, expert: 0, plane: 1, part: 2)
        partial[Int(extent.offset) + extent.byteCount - 1] ^= 1
        try writeFile(path + ".partial", partial)
        #expect(try example.write(path) == 3 * 3)
        #expect(try readFile(path) == example.bytes())
    }

    @Test func tornJournalLosesOnlyItsLastLine() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        try example.write(path, experts: 4)
        let journal = try readFile(path + ".partial.journal")
        for cut in [1, 5] {
            try writeFile(path + ".partial.journal", Array(journal.dropLast(cut)))
            #expect(try example.write(path, experts: 4) == 3)
        }
        #expect(try example.write(path) == 3 * 2)
        #expect(try readFile(path) == example.bytes())
    }

    @Test func damagedJournalsAndPartialFilesNeverReachThePackage() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        let expected = try example.bytes()
        var random = SplitMix64(seed: 5)
        for round in 0..<60 {
            try example.write(path, experts: 4)
            var name = path + ".partial.journal"
            if round % 3 == 0 { name = path + ".partial" }
            var bytes = try readFile(name)
            if round % 5 == 0 { bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random)) }
            for _ in 0..<2 {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
                    1 << UInt8.random(in: 0..<8, using: &random)
            }
            try writeFile(name, bytes)
            try example.write(path)
            let found = try readFile(path)
            // A digest comes from the journal alone; it is noted, and nothing depends on it.
            if found != expected {
                #expect(found.count == expected.count, "round \(round)")
                let package = try Package(bytes: found)
                #expect(package.manifest.sources[0].sha256 != "00ff", "round \(round)")
            }
            var verifier = try PackageVerifier(bytes: found)
            try verifier.run()
            #expect(verifier.damages.isEmpty, "round \(round): \(verifier.damages)")
        }
    }

    @Test func otherContentsBeginAnew() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        try example.write(path, experts: 4)
        var other = example
        other.contents.manifest.name = "Another"
        #expect(try other.write(path) == 18)
        #expect(try Package(path: path).manifest.name == "Another")
    }

    @Test func twoWritersDoNotMeet() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        let first = try PackageWriter(path: path, contents: example.contents)
        let error = #expect(throws: OutputError.self) {
            try PackageWriter(path: path, contents: example.contents)
        }
        #expect(error?.isCreation == true)
        #expect(error?.description.contains("another process is writing") == true)
        #expect(first.tensorsWritten == 0)
    }

    @Test func missingFolderIsNamed() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("nowhere/example.sluice")
        let error = #expect(throws: OutputError.self) { try example.write(path) }
        #expect(error?.isCreation == true)
        #expect(error?.description.contains(path) == true)
    }

    @Test func packageTakesThePlaceOfAnOlderOne() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        try writeFile(path, [1, 2, 3])
        try example.write(path, experts: 5)
        #expect(try readFile(path) == [1, 2, 3])
        try example.write(path)
        #expect(try readFile(path) == example.bytes())
    }

    @Test func compressedTensorsTakeLessRoomOrStay() throws {
        let package = try Package(bytes: try PackageExample(compressionLevel: 19).bytes())
        for tensor in package.tensors {
            let storage = try #require(tensor.storage)
            if tensor.name == PackageExample.compressible.name {
                #expect(storage.frames.count == 2)
                #expect(storage.storedBytes(tensor.byteCount) < 10_000)
            } else {
                // Noise.
                #expect(storage.frames.isEmpty)
                #expect(storage.storedBytes(tensor.byteCount) == tensor.byteCount)
            }
        }
    }

    private func range(of tensor: GGUFTensor) -> Range<Int> {
        Int(tensor.fileOffset)..<Int(tensor.fileOffset) + tensor.byteCount
    }
}
