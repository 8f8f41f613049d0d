internal import CHost

/// Writes a package: its tensors, then its experts, in order, then everything that needs their
/// checksums.
///
/// The file grows as `NAME.partial` beside a journal; whatever interrupts it, another writer with the same
/// contents goes on where the journal ends. `NAME` appears when all of it is on the device. Memory is that
/// of the piece in hand, of at most 4 MiB for tensors and one matrix for experts.
public final class PackageWriter {
    /// Tensors and experts that are written, also before this writer.
    public private(set) var tensorsWritten = 0
    public private(set) var expertsWritten = 0
    /// Of them, those that an earlier writer left.
    public private(set) var tensorsFound = 0
    public private(set) var expertsFound = 0
    /// SHA-256 of the sources, in hexadecimal, as soon as somebody has found them.
    public private(set) var digests: [String]?

    private let path: String
    private let contents: PackageContents
    private let file: OutputFile
    private let journal: PackageJournal
    private var manifest: PackageManifest
    private var table: PackageTable
    /// First byte of the resident region.
    private let residentStart: UInt64
    /// First byte that is not written.
    private var end: UInt64

    /// Bytes after which what was written is brought to the device.
    private static let synchronisationBytes: UInt64 = 256 << 20

    /// Begins the package `path`, or goes on with it.
    ///
    /// - Throws: `OutputError` if it cannot be created, or the disk has not enough room.
    public init(path: String, contents: PackageContents) throws {
        self.path = path
        self.contents = contents
        manifest = contents.manifest
        table = PackageTable(
            layerCount: manifest.layers.count, expertCount: manifest.expertCount,
            planeCount: manifest.planeCount)
        let metadataEnd = PackageFormat.page + 8 + contents.metadata.encoded.count
        residentStart = UInt64(PackageFormat.padded(metadataEnd, to: PackageFormat.page))
        end = residentStart
        file = try OutputFile(path: path + ".partial")
        journal = try PackageJournal(
            path: path + ".partial.journal", identity: try contents.identity())
        try takeUp()
        try clear(from: UInt64(metadataEnd), to: residentStart)
        tensorsFound = tensorsWritten
        expertsFound = expertsWritten
        try file.resize(end)
        let needed = UInt64(contents.largestFileBytes) - min(end, UInt64(contents.largestFileBytes))
        if let free = OutputFile.freeBytes(for: path), free < needed {
            throw OutputError(
                path: path,
                "\(needed >> 20) MiB are still to be written, but only \(free >> 20) MiB are free on that "
                    + "file system; make room, or choose another place")
        }
    }

    /// Takes over what the journal says was written, as far as it is true.
    private func takeUp() throws(OutputError) {
        let trusted = journal.entries.lastIndex { $0.synced == true } ?? -1
        for (index, entry) in journal.entries.enumerated() {
            let isTrusted = index <= trusted
            if let digests = entry.digests, digests.count == contents.sources.count {
                self.digests = digests
            } else if let stored = entry.tensor {
                guard tensorsWritten < contents.tensors.count, expertsWritten == 0,
                    isTrusted
                        ? UInt64(file.size) >= tensorStart + UInt64(bytes(of: stored))
                        : holds(stored)
                else { return }
                if !isTrusted { try clear(from: end, to: tensorStart) }
                add(stored)
            } else if let checksums = entry.expert {
                guard tensorsWritten == contents.tensors.count,
                    expertsWritten < table.recordNumbers.count,
                    checksums.count == table.planeCount,
                    isTrusted
                        ? UInt64(file.size) >= expertStart + UInt64(nextLayer.recordBytes)
                        : holds(checksums)
                else { return }
                if !isTrusted { try clearPadding() }
                add(checksums)
            }
        }
    }

    // MARK: Content

    /// Notes the digests of the sources.
    public func note(digests: [String]) throws(OutputError) {
        self.digests = digests
        try journal.append(PackageJournalEntry(digests: digests))
    }

    /// Writes the next tensor, which `read` gives in pieces: it fills the buffer with the tensor's bytes
    /// from an offset on.
    public func writeTensor(
        _ read: (UnsafeMutableRawBufferPointer, _ offset: Int) throws -> Void
    ) throws {
        let tensor = contents.tensors[tensorsWritten]
        var stored = PackageJournalEntry.Stored(checksum: 0, frames: [])
        if let level = contents.compressionLevel {
            stored = unsafe try writeFrames(tensor, level: level, read)
        }
        // Frames that hardly save anything cost time at every start, for nothing.
        if stored.frames.isEmpty || stored.frames.reduce(0, +) * 100 > tensor.byteCount * 97 {
            stored = PackageJournalEntry.Stored(checksum: 0, frames: [])
            try unsafe eachPiece(of: tensor, read) { piece, offset in
                stored.checksum = unsafe host_crc32c(
                    stored.checksum, piece.baseAddress, piece.count)
                unsafe try file.write(piece, at: tensorStart + UInt64(offset))
            }
        }
        try journal.append(PackageJournalEntry(tensor: stored))
        add(stored)
        // Frames that were given up may reach further.
        try file.resize(end)
        try synchroniseIfDue()
    }

    private func writeFrames(
        _ tensor: GGUFTensor, level: Int,
        _ read: (UnsafeMutableRawBufferPointer, _ offset: Int) throws -> Void
    ) throws -> PackageJournalEntry.Stored {
        guard let zstd = unsafe host_zstd_create() else {
            throw OutputError(path: path, "no memory for compression")
        }
        defer { unsafe host_zstd_destroy(zstd) }
        var stored = PackageJournalEntry.Stored(checksum: 0, frames: [])
        var next = tensorStart
        var frame = [UInt8](repeating: 0, count: host_zstd_bound(PackageFormat.frameBytes))
        try unsafe eachPiece(of: tensor, read) { piece, _ in
            try unsafe frame.withUnsafeMutableBytes { buffer in
                let size = unsafe host_zstd_compress(
                    zstd, buffer.baseAddress, buffer.count, piece.baseAddress, piece.count,
                    Int32(level))
                guard size > 0 else {
                    throw OutputError(path: path, "compression failed; pack without --zstd")
                }
                let whole = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<Int(size)])
                unsafe try file.write(whole, at: next)
                stored.checksum = unsafe host_crc32c(
                    stored.checksum, whole.baseAddress, whole.count)
                stored.frames.append(whole.count)
                next += UInt64(whole.count)
            }
        }
        return stored
    }

    private func eachPiece(
        of tensor: GGUFTensor,
        _ read: (UnsafeMutableRawBufferPointer, _ offset: Int) throws -> Void,
        _ body: (UnsafeRawBufferPointer, _ offset: Int) throws -> Void
    ) throws {
        var piece = [UInt8](
            repeating: 0, count: min(tensor.byteCount, PackageFormat.frameBytes))
        for offset in stride(from: 0, to: tensor.byteCount, by: PackageFormat.frameBytes) {
            try unsafe piece.withUnsafeMutableBytes { buffer in
                let count = min(buffer.count, tensor.byteCount - offset)
                let part = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
                try unsafe read(part, offset)
                try unsafe body(UnsafeRawBufferPointer(part), offset)
            }
        }
    }

    /// Writes the next expert, by layer and then number. `cut` gives the planes of its gate, up and down
    /// matrices, asked for in this order; a matrix may have fewer planes than the layer.
    public func writeExpert(_ cut: (_ part: Int) throws -> [[UInt8]]) throws {
        let layer = nextLayer
        var checksums = [UInt32](repeating: 0, count: table.planeCount)
        var ends = [Int](repeating: 0, count: layer.planes.count)
        let zeros = [UInt8](repeating: 0, count: PackageFormat.line)
        for part in layer.parts.indices {
            let pieces = try cut(part)
            var start = expertStart
            for (index, plane) in layer.planes.enumerated() {
                let place = plane.parts[part]
                let piece = index < pieces.count ? pieces[index] : []
                precondition(
                    piece.count == place.bytes,
                    "plane \(index) of part \(part) has \(piece.count) bytes, not \(place.bytes)")
                if place.bytes > 0 {
                    // The gap between parts counts, too.
                    checksums[index] = checksum32C(
                        zeros[..<(place.offset - ends[index])], from: checksums[index])
                    checksums[index] = checksum32C(piece[...], from: checksums[index])
                    try file.write(piece, at: start + UInt64(place.offset))
                    ends[index] = place.offset + place.bytes
                }
                start += UInt64(PackageFormat.padded(plane.bytes, to: PackageFormat.page))
            }
        }
        try journal.append(PackageJournalEntry(expert: checksums))
        add(checksums)
        try synchroniseIfDue()
    }

    /// Writes what remains, brings everything to the device, and gives the file its name.
    ///
    /// - Returns: Bytes of the package.
    @discardableResult
    public func finish() throws -> UInt64 {
        precondition(
            tensorsWritten == contents.tensors.count && expertsWritten == table.recordNumbers.count,
            "a package without all its tensors and experts")
        guard let digests else { preconditionFailure("a package without the sources' digests") }
        manifest.sources = zip(contents.sources, digests).map { source, digest in
            .init(name: source.name, bytes: source.byteCount, sha256: digest)
        }
        var header = PackageHeader()
        let residentEnd = manifest.tensors.last.map {
            $0.offset + UInt64($0.frames?.reduce(0, +) ?? $0.bytes)
        }
        header.sections[.resident] = PackageExtent(
            offset: residentStart, byteCount: (residentEnd ?? residentStart) - residentStart)
        header.sections[.experts] = PackageExtent(
            offset: expertsStart, byteCount: end - expertsStart)
        var metadata: [UInt8] = []
        metadata.appendLittleEndian(UInt64(contents.metadata.keys.count))
        metadata += contents.metadata.encoded
        header.sections[.metadata] = try write(metadata, at: UInt64(PackageFormat.page))

        var next = end
        var sections: [(PackageSection, [UInt8])] = [
            (.table, table.encoded), (.manifest, try manifest.encoded),
        ]
        if let profile = contents.profile, !profile.isEmpty { sections.append((.profile, profile)) }
        for (section, bytes) in sections {
            next = UInt64(PackageFormat.padded(Int(next), to: PackageFormat.page))
            header.sections[section] = try write(bytes, at: next)
            next += UInt64(bytes.count)
        }
        header.fileSize = next
        try file.resize(next)
        // The header last: without it the bytes are no package, whatever their name.
        try file.synchronise()
        try file.write(header.encoded, at: 0)
        try file.synchronise()
        try OutputFile.rename(file.path, to: path)
        OutputFile.remove(path + ".partial.journal")
        return next
    }

    private func write(_ bytes: [UInt8], at offset: UInt64) throws(OutputError) -> PackageExtent {
        try file.write(bytes, at: offset)
        return PackageExtent(
            offset: offset, byteCount: UInt64(bytes.count), checksum: checksum32C(bytes[...]))
    }

    // MARK: Places

    /// Where the next tensor begins.
    private var tensorStart: UInt64 {
        UInt64(PackageFormat.padded(Int(end), to: PackageFormat.line))
    }

    /// Where the next expert begins.
    private var expertStart: UInt64 {
        UInt64(PackageFormat.padded(Int(end), to: PackageFormat.page))
    }

    private var expertsStart: UInt64 {
        expertsWritten == 0 ? expertStart : table.offsets[0]
    }

    /// The layer of the next expert.
    private var nextLayer: PackageManifest.Layer {
        manifest.layers[expertsWritten / table.expertCount]
    }

    /// Bytes in the file of the next tensor, stored so.
    private func bytes(of stored: PackageJournalEntry.Stored) -> Int {
        stored.frames.isEmpty
            ? contents.tensors[tensorsWritten].byteCount : stored.frames.reduce(0, +)
    }

    private func add(_ stored: PackageJournalEntry.Stored) {
        let tensor = contents.tensors[tensorsWritten]
        let start = tensorStart
        manifest.tensors.append(
            .init(
                name: tensor.name, format: tensor.format.name, shape: tensor.shape, offset: start,
                bytes: tensor.byteCount, frames: stored.frames.isEmpty ? nil : stored.frames,
                crc32c: stored.checksum))
        end = start + UInt64(bytes(of: stored))
        tensorsWritten += 1
    }

    private func add(_ checksums: [UInt32]) {
        let start = expertStart
        table.offsets[expertsWritten] = start
        for (plane, checksum) in checksums.enumerated() {
            table.checksums[expertsWritten * table.planeCount + plane] = checksum
        }
        end = start + UInt64(nextLayer.recordBytes)
        expertsWritten += 1
    }

    private func synchroniseIfDue() throws(OutputError) {
        guard file.unsynchronisedBytes >= Self.synchronisationBytes else { return }
        try synchronise()
    }

    /// Brings what was written so far to the device.
    public func synchronise() throws(OutputError) {
        // A record's padding may lie behind its last byte.
        try file.resize(end)
        try file.synchronise()
        try journal.append(PackageJournalEntry(synced: true))
        try journal.synchronise()
    }

    // MARK: What an earlier writer left

    private func holds(_ stored: PackageJournalEntry.Stored) -> Bool {
        checksum(at: tensorStart, byteCount: bytes(of: stored)) == stored.checksum
    }

    /// Makes sure that the next expert's padding is zero, which no checksum says.
    private func clearPadding() throws(OutputError) {
        var start = expertStart
        try clear(from: end, to: start)
        for plane in nextLayer.planes {
            let next = start + UInt64(PackageFormat.padded(plane.bytes, to: PackageFormat.page))
            try clear(from: start + UInt64(plane.bytes), to: next)
            start = next
        }
    }

    /// Writes zeros, where anything else may lie.
    private func clear(from start: UInt64, to end: UInt64) throws(OutputError) {
        guard end > start, start < file.size else { return }
        try file.write([UInt8](repeating: 0, count: Int(end - start)), at: start)
    }

    private func holds(_ checksums: [UInt32]) -> Bool {
        var start = expertStart
        for (plane, expected) in zip(nextLayer.planes, checksums) {
            guard checksum(at: start, byteCount: plane.bytes) == expected else { return false }
            start += UInt64(PackageFormat.padded(plane.bytes, to: PackageFormat.page))
        }
        return true
    }

    /// The checksum of bytes of the file; nil where it ends before.
    private func checksum(at offset: UInt64, byteCount: Int) -> UInt32? {
        var crc: UInt32 = 0
        var buffer = [UInt8](repeating: 0, count: min(byteCount, PackageFormat.frameBytes))
        for done in stride(from: 0, to: byteCount, by: PackageFormat.frameBytes) {
            let count = min(buffer.count, byteCount - done)
            let isRead = unsafe buffer.withUnsafeMutableBytes {
                unsafe file.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: $0[..<count]),
                    at: offset + UInt64(done))
            }
            guard isRead else { return nil }
            crc = checksum32C(buffer[..<count], from: crc)
        }
        return crc
    }
}
