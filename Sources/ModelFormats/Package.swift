/// A package: a model in one file whose experts can be read straight from disk, plane by plane.
///
/// Opening reads the header, the metadata, the manifest and the expert table, and checks their checksums
/// and then everything they say against the file's real size. Weights are not looked at: `PackageVerifier`
/// does that, and their readers have the checksums.
public struct Package: Sendable {
    public let path: String
    /// Bytes of the file when it was opened.
    public let fileSize: UInt64
    /// The format's version.
    public let version: UInt32
    public let manifest: PackageManifest
    /// Keys and values, as in the file that was packed.
    public let metadata: GGUFMetadata
    /// The tensors of the resident region, by place.
    public let tensors: [GGUFTensor]

    let header: PackageHeader
    let table: PackageTable

    public init(path: String) throws(ModelFileError) {
        try self.init(source: try FileSource(path: path))
    }

    /// Reads a package from memory, for tests and fuzzing; errors call it `name`.
    public init(bytes: [UInt8], name: String = "memory") throws(ModelFileError) {
        try self.init(source: MemorySource(path: name, bytes: bytes))
    }

    init(source: any ByteSource) throws(ModelFileError) {
        let header = try PackageHeader(source)
        let manifestBytes = try Self.section(.manifest, of: header, source)
        let manifest = try PackageManifest(
            manifestBytes, path: source.path, offset: header[.manifest].offset)
        let reader = PackageManifestReader(
            manifest: manifest, path: source.path, offset: header[.manifest].offset)
        try reader.checkShapes()
        tensors = try reader.tensors(in: header[.resident])
        table = try PackageTable(
            try Self.section(.table, of: header, source), at: header[.table], manifest: manifest,
            experts: header[.experts], path: source.path)
        metadata = try Self.metadata(header, source)
        path = source.path
        fileSize = header.fileSize
        version = PackageFormat.version
        self.manifest = manifest
        self.header = header
    }

    /// Whether `source` begins as a package does.
    static func begins(_ source: any ByteSource) -> Bool {
        guard source.size >= PackageFormat.magic.count else { return false }
        return (try? source.bytes(at: 0, count: PackageFormat.magic.count)) == PackageFormat.magic
    }

    public var layerCount: Int { manifest.layers.count }
    public var expertCount: Int { manifest.expertCount }
    /// Planes of an expert: of the layer that has most.
    public var planesPerExpert: Int { table.planeCount }

    /// Where part `part` of a plane of an expert lies. A part that has no bytes in this plane lies where
    /// the plane begins.
    public func extent(
        layer: Int, expert: Int, plane: Int, part: Int
    ) -> (offset: UInt64, byteCount: Int) {
        let planes = manifest.layers[layer].planes
        var offset = table.offsets[table.record(layer: layer, expert: expert)]
        guard plane < planes.count else { return (offset, 0) }
        for before in planes[..<plane] {
            offset += UInt64(PackageFormat.padded(before.bytes, to: PackageFormat.page))
        }
        let piece = planes[plane].parts[part]
        return (offset + UInt64(piece.offset), piece.bytes)
    }

    /// CRC-32C of a plane of an expert: over its bytes from the first of its first part to the last of
    /// its last part. 0 for a plane that the layer does not have.
    public func checksum(layer: Int, expert: Int, plane: Int) -> UInt32 {
        table.checksums[table.record(layer: layer, expert: expert) * planesPerExpert + plane]
    }

    /// The profile that was packed with the model, nil where there is none.
    public func profile() throws(ModelFileError) -> [UInt8]? {
        guard header[.profile].byteCount > 0 else { return nil }
        return try Self.section(.profile, of: header, try FileSource(path: path))
    }

    /// The bytes of a section, checked.
    private static func section(
        _ section: PackageSection, of header: PackageHeader, _ source: any ByteSource
    ) throws(ModelFileError) -> [UInt8] {
        let extent = header[section]
        // In the file, as the header's reader has checked, and below the section's limit.
        let bytes = try source.bytes(at: Int(extent.offset), count: Int(extent.byteCount))
        let found = checksum32C(bytes[...])
        guard found == extent.checksum else {
            throw ModelFileError(
                path: source.path, field: section.name, offset: extent.offset,
                message:
                    "checksum \(hexadecimal(extent.checksum)) stored, \(hexadecimal(found)) found: "
                    + "its \(extent.byteCount) bytes are damaged; fetch or pack the package again")
        }
        return bytes
    }

    /// Reads the metadata section: the number of keys, then keys and values as in a GGUF file.
    private static func metadata(
        _ header: PackageHeader, _ source: any ByteSource
    ) throws(ModelFileError) -> GGUFMetadata {
        // With the page before, so that offsets in errors are those of the file.
        let page = try source.bytes(at: 0, count: PackageFormat.page)
        let bytes = page + (try section(.metadata, of: header, source))
        var cursor = GGUFCursor(source: MemorySource(path: source.path, bytes: bytes))
        _ = try cursor.take(UInt64(page.count), "package header")
        let count = try GGUFPart.takeCount(
            &cursor, "metadata key count", limit: GGUFLimits.keys,
            smallest: GGUFLimits.smallestEntry)
        let (keys, entries) = try GGUFPart.takeEntries(&cursor, count: count)
        guard cursor.remaining == 0 else {
            throw cursor.error(
                "metadata section", at: cursor.position,
                "\(cursor.remaining) bytes follow the last of \(count) keys; it is damaged")
        }
        return GGUFMetadata(
            path: source.path, header: cursor.finish(), keys: keys, entries: entries)
    }
}
