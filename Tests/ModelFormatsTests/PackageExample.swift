// A small package, made as `pack` makes them, and what is needed to damage it knowingly.

import Glibc

@testable import ModelFormats

/// The tensors of formats.gguf as resident ones, and two layers of three experts of made-up bytes: the
/// first of one plane, the second of two, of which the gate has only the first.
struct PackageExample {
    static let source = Fixture.path("formats.gguf")
    static let expertCount = 3
    static let layers = [
        layer(block: 0, formats: ["Q8_0", "Q8_0", "F16"], bits: [nil, nil, nil], planes: 1),
        layer(
            block: 1, formats: ["F32", "Q8_0", "Q4_0"], bits: [nil, [4, 4], [2, 2]], planes: 2),
    ]

    var contents: PackageContents

    init(compressionLevel: Int? = nil, profile: [UInt8]? = nil) throws {
        let file = try GGUFFile(path: Self.source)
        contents = PackageContents(
            architecture: "example", name: "Example", packedBy: "a test", planes: "2+2",
            expertCount: Self.expertCount, layers: Self.layers, metadata: file.metadata,
            tensors: file.tensors, sources: [try PackageSource(path: Self.source)])
        contents.compressionLevel = compressionLevel
        if compressionLevel != nil { contents.tensors.append(Self.compressible) }
        contents.profile = profile
    }

    /// A tensor of two frames, every byte of which is 7.
    static let compressible = GGUFTensor(
        name: "sevens", shape: [1_100_000], format: .f32, fileIndex: 0, fileOffset: 0,
        byteCount: 4_400_000, elementCount: 1_100_000)

    private static func layer(
        block: Int, formats: [String], bits: [[Int]?], planes: Int
    ) -> PackageManifest.Layer {
        let parts = zip(["gate", "up", "down"], zip(formats, bits)).map { role, part in
            PackageManifest.Part(
                role: role, format: part.0, rows: 3, columns: 32, bits: part.1)
        }
        return PackageManifest.Layer(
            block: block, parts: parts,
            planes: (0..<planes).map { plane in
                PackageManifest.Plane(
                    partBytes: parts.map { part in
                        // Sizes of planes are not this room's business: any will do.
                        if part.bits != nil { return plane == 0 ? 70 : 48 }
                        let format = BlockFormat.allCases.first { $0.name == part.format }!
                        return plane == 0 ? format.byteCount(elements: 32) * 3 : 0
                    })
            })
    }

    /// The bytes of a part of a plane: none like another.
    static func piece(layer: Int, expert: Int, part: Int, plane: Int) -> [UInt8] {
        let count = layers[layer].planes[plane].parts[part].bytes
        var random = SplitMix64(
            seed: UInt64(layer * 1000 + expert * 100 + part * 10 + plane + 1))
        return (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
    }

    /// Writes what is missing, but at most `experts` experts; finishes if nothing is missing then.
    ///
    /// - Returns: Pieces that were asked for.
    @discardableResult
    func write(_ path: String, experts limit: Int = .max) throws -> Int {
        let writer = try PackageWriter(path: path, contents: contents)
        if writer.digests == nil { try writer.note(digests: ["00ff"]) }
        let bytes = try readFile(Self.source)
        while writer.tensorsWritten < contents.tensors.count {
            let tensor = contents.tensors[writer.tensorsWritten]
            try unsafe writer.writeTensor { buffer, offset in
                if tensor.name == Self.compressible.name {
                    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 7)
                    return
                }
                let start = Int(tensor.fileOffset) + offset
                unsafe buffer.copyBytes(from: bytes[start..<start + buffer.count])
            }
        }
        var asked = 0
        let count = Self.layers.count * Self.expertCount
        while writer.expertsWritten < min(limit, count) {
            let layer = writer.expertsWritten / Self.expertCount
            let expert = writer.expertsWritten % Self.expertCount
            try writer.writeExpert { part in
                asked += 1
                return Self.layers[layer].planes.indices.map {
                    Self.piece(layer: layer, expert: expert, part: part, plane: $0)
                }
            }
        }
        if writer.expertsWritten == count { try writer.finish() }
        return asked
    }

    /// The bytes of the whole package.
    func bytes() throws -> [UInt8] {
        let directory = try TemporaryDirectory()
        let path = directory.file("example.sluice")
        try write(path)
        return try readFile(path)
    }
}

extension [UInt8] {
    /// The place of the section numbered `kind` in the header's list, and where its checksum stands.
    func packageSection(_ kind: Int) -> (range: Range<Int>, checksumAt: Int)? {
        let at = 24 + 24 * (kind - 1)
        let offset = littleEndian(at: at + 8, byteCount: 8)
        let count = littleEndian(at: at + 16, byteCount: 8)
        guard offset <= UInt64(self.count), count <= UInt64(self.count) - offset else { return nil }
        return (Int(offset)..<Int(offset + count), at + 4)
    }

    /// The package with checksums of its sections and its header that fit what they hold.
    var resealed: [UInt8] {
        var bytes = self
        for kind in [1, 4, 5] {
            guard let section = packageSection(kind) else { continue }
            bytes.set(checksum32C(self[section.range]), at: section.checksumAt)
        }
        bytes.set(checksum32C(bytes[..<4092]), at: 4092)
        return bytes
    }

    mutating func set(_ value: some FixedWidthInteger, at offset: Int) {
        for index in 0..<value.bitWidth / 8 {
            self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
        }
    }

    /// The package with another manifest, which goes to the end of the file.
    func replacingManifest(_ manifest: [UInt8]) -> [UInt8] {
        guard let section = packageSection(5) else { return self }
        var bytes = Array(self[..<section.range.lowerBound]) + manifest
        bytes.set(UInt64(manifest.count), at: section.checksumAt + 12)
        bytes.set(UInt64(bytes.count), at: 16)
        return bytes.resealed
    }
}
