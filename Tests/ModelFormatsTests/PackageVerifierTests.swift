// A flipped bit anywhere is found, and the thing it lies in is named.

import Testing

@testable import ModelFormats

@Suite struct PackageVerifierTests {
    /// What is said about `bytes`; empty if they are sound.
    private func complaints(_ bytes: [UInt8]) -> [ModelFileError] {
        do throws(ModelFileError) {
            var verifier = try PackageVerifier(bytes: bytes, name: "damaged")
            try verifier.run()
            return verifier.damages
        } catch {
            return [error]
        }
    }

    @Test(arguments: [nil, 3] as [Int?])
    func soundPackagesHaveNoDamage(compressionLevel: Int?) throws {
        let profile = Array("{}".utf8)
        let example = try PackageExample(compressionLevel: compressionLevel, profile: profile)
        let bytes = try example.bytes()
        #expect(complaints(bytes).isEmpty)
    }

    /// Every byte that is not padding, or every 61st of those that are.
    @Test func everyFlippedBitIsFoundAndNamed() throws {
        let bytes = try PackageExample(profile: Array("{}".utf8)).bytes()
        let package = try Package(bytes: bytes)
        func name(of offset: Int) throws -> String {
            if offset < 4096 { return "package header" }
            for tensor in package.tensors {
                let start = Int(tensor.fileOffset)
                if (start..<start + tensor.byteCount).contains(offset) {
                    return "tensor '\(tensor.name)'"
                }
            }
            for layer in 0..<2 {
                for expert in 0..<3 {
                    for plane in 0...layer {
                        let first = package.extent(
                            layer: layer, expert: expert, plane: plane, part: plane)
                        let start = Int(first.offset) / 4096 * 4096
                        let count = PackageExample.layers[layer].planes[plane].bytes
                        if (start..<start + count).contains(offset) {
                            return "expert \(expert) of layer \(layer) plane \(plane)"
                        }
                    }
                }
            }
            for (kind, name) in [
                (1, "metadata section"), (4, "expert table"), (5, "manifest"), (6, "profile"),
            ] where try #require(bytes.packageSection(kind)).range.contains(offset) {
                return name
            }
            return "padding"
        }
        var found: [String: Int] = [:]
        var random = SplitMix64(seed: 6)
        var offset = 0
        while offset < bytes.count {
            let expected = try name(of: offset)
            var damaged = bytes
            damaged[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            let complaints = complaints(damaged)
            #expect(complaints.count == 1, "byte \(offset)")
            let complaint = try #require(complaints.first, "byte \(offset)")
            #expect(
                complaint.field?.hasPrefix(expected) == true,
                "byte \(offset), \(expected): \(complaint)")
            #expect(complaint.path == "damaged")
            if expected == "padding" { #expect(complaint.offset == UInt64(offset)) }
            found[String(expected.prefix(6)), default: 0] += 1
            offset += expected == "padding" || expected == "package header" ? 61 : 7
        }
        #expect(found.count >= 6, "\(found)")
    }

    @Test func severalDamagesAreAllListed() throws {
        var bytes = try PackageExample().bytes()
        let package = try Package(bytes: bytes)
        for expert in 0..<3 {
            bytes[Int(package.extent(layer: 1, expert: expert, plane: 1, part: 1).offset)] ^= 4
        }
        let complaints = complaints(bytes)
        #expect(
            complaints.map(\.field)
                == (0..<3).map { "expert \($0) of layer 1 plane 1" })
    }

    @Test func frameThatHoldsSomethingElseIsDamage() throws {
        // Checksums that fit, over a frame that does not: as if the writer had been wrong.
        let example = try PackageExample(compressionLevel: 19)
        var bytes = try example.bytes()
        let package = try Package(bytes: bytes)
        let tensor = try #require(package.tensors.first { !($0.storage?.frames ?? []).isEmpty })
        let storage = try #require(tensor.storage)
        let start = Int(tensor.fileOffset)
        bytes[start] ^= 0xFF
        let checksum = checksum32C(
            bytes[start..<start + storage.storedBytes(tensor.byteCount)])
        var manifest = package.manifest
        let index = try #require(manifest.tensors.firstIndex { $0.name == tensor.name })
        manifest.tensors[index].crc32c = checksum
        let complaints = complaints(bytes.replacingManifest(try manifest.encoded))
        #expect(complaints.count == 1)
        #expect(complaints.first?.description.contains("zstd frame 0") == true)
    }
}
