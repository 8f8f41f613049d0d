import Glibc

/// What a package is to hold, before it is written.
public struct PackageContents: Sendable {
    /// The manifest as far as it is known: shapes and names, without tensors and sources.
    public var manifest: PackageManifest
    /// Keys and values, which the package takes over byte for byte.
    public var metadata: GGUFMetadata
    /// The tensors of the resident region, in order; their places are those of the source.
    public var tensors: [GGUFTensor]
    /// A profile to carry along.
    public var profile: [UInt8]?
    /// zstd level for the resident region; nil for none.
    public var compressionLevel: Int?
    /// The files that are packed.
    public var sources: [PackageSource]

    public init(
        architecture: String, name: String, packedBy: String, planes: String, expertCount: Int,
        layers: [PackageManifest.Layer], metadata: GGUFMetadata, tensors: [GGUFTensor],
        sources: [PackageSource], nested: Bool = true
    ) {
        manifest = PackageManifest(
            architecture: architecture, name: name, packedBy: packedBy, planes: planes,
            nested: nested,
            expertCount: expertCount, layers: layers, tensors: [], sources: [])
        self.metadata = metadata
        self.tensors = tensors
        self.sources = sources
    }

    /// Bytes of the file, at most: compression only makes it smaller.
    public var largestFileBytes: Int {
        let page = PackageFormat.page
        let resident = tensors.reduce(0) {
            $0 + PackageFormat.padded($1.byteCount, to: PackageFormat.line)
        }
        let records = manifest.layers.reduce(0) { $0 + $1.recordBytes } * manifest.expertCount
        let table =
            manifest.layers.count * manifest.expertCount * (16 + 4 * manifest.planeCount)
        // A manifest takes some 200 bytes for a tensor and 600 for a layer.
        let manifestBytes = 4096 + 400 * tensors.count + 2000 * manifest.layers.count
        return 8 * page + metadata.encoded.count + resident + records + table + manifestBytes
            + (profile?.count ?? 0)
    }

    /// A text that is the same when what was written can be gone on with.
    func identity() throws -> String {
        let parts =
            [
                String(decoding: try manifest.encoded, as: UTF8.self),
                "zstd \(compressionLevel ?? 0)",
                "metadata \(checksum32C(metadata.encoded))",
                "profile \(checksum32C((profile ?? [])[...]))",
            ] + sources.map { "\($0.path) \($0.byteCount) \($0.modificationNanoseconds)" }
            + tensors.map { "\($0.name) \($0.fileIndex) \($0.fileOffset) \($0.byteCount)" }
        return parts.joined(separator: "\n")
    }
}

/// A file that is packed, as it was when packing began.
public struct PackageSource: Sendable, Equatable {
    public let path: String
    public let byteCount: UInt64
    /// When it was last changed, in nanoseconds since 1970.
    public let modificationNanoseconds: Int

    public init(path: String) throws(ModelFileError) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            throw ModelFileError(path: path, message: "cannot be examined: \(systemMessage(errno))")
        }
        self.path = path
        byteCount = UInt64(status.st_size)
        modificationNanoseconds = status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
    }

    /// Its name, without folders.
    public var name: String {
        String(path[(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)...])
    }
}
