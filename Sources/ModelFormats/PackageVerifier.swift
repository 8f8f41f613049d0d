internal import CHost

/// Reads every byte of a package and finds those that are not what was written: tensors and planes by
/// their checksums, everything between them by being zero.
public struct PackageVerifier {
    /// The package; opening it has checked the header and the sections with checksums.
    public let package: Package
    /// Every damaged thing, with its place: at most `limit` of them.
    public private(set) var damages: [ModelFileError] = []
    /// Damages are no longer listed beyond so many.
    public static let limit = 100

    private let source: any ByteSource
    private var buffer = [UInt8](repeating: 0, count: 4 << 20)
    private let zstd: Decompression

    /// A run of bytes with a checksum.
    private struct Span {
        let name: String
        let offset: UInt64
        let byteCount: Int
        let checksum: UInt32
        let tensor: GGUFTensor?
    }

    /// - Throws: `ModelFileError` where the damage is such that the package cannot be opened.
    public init(path: String) throws(ModelFileError) {
        try self.init(source: try FileSource(path: path))
    }

    /// Checks a package in memory, for tests; errors call it `name`.
    public init(bytes: [UInt8], name: String = "memory") throws(ModelFileError) {
        try self.init(source: MemorySource(path: name, bytes: bytes))
    }

    private init(source: any ByteSource) throws(ModelFileError) {
        self.source = source
        package = try Package(source: source)
        zstd = Decompression()
    }

    /// Checks the weights.
    ///
    /// - Parameter progress: Called with the share done, 0 ... 1.
    /// - Throws: `ModelFileError` where the file cannot be read.
    public mutating func run(progress: (Double) -> Void = { _ in }) throws(ModelFileError) {
        var end = UInt64(PackageFormat.page)
        var before = "the header"
        // Sections in the order of the file; so are tensors, and the records once sorted.
        for section in PackageSection.allCases {
            let extent = package.header[section]
            guard extent.offset > 0 else { continue }
            switch section {
            case .resident:
                for tensor in package.tensors {
                    guard let storage = tensor.storage else { continue }
                    try check(
                        Span(
                            name: "tensor '\(tensor.name)'", offset: tensor.fileOffset,
                            byteCount: storage.storedBytes(tensor.byteCount),
                            checksum: storage.checksum, tensor: tensor), &end, &before)
                    progress(Double(end) / Double(package.fileSize))
                }
            case .experts:
                var users = [Int?](repeating: nil, count: package.table.offsets.count)
                for (expert, record) in package.table.recordNumbers.enumerated().reversed() {
                    users[Int(record)] = expert
                }
                for record in package.table.recordsByPlace {
                    for plane in planes(ofRecord: record, users[record]) {
                        try check(plane, &end, &before)
                    }
                    progress(Double(end) / Double(package.fileSize))
                }
            default:
                // A profile that gave way to a longer one leaves its bytes before that.
                if section == .profile,
                    extent.offset > UInt64(PackageFormat.padded(Int(end), to: PackageFormat.page))
                {
                    end = extent.offset
                }
                try check(
                    Span(
                        name: section.name, offset: extent.offset,
                        byteCount: Int(extent.byteCount), checksum: extent.checksum, tensor: nil),
                    &end, &before)
            }
            try checkZeros(from: end, to: extent.end, before)
            end = max(end, extent.end)
        }
        progress(1)
    }

    private func planes(ofRecord record: Int, _ user: Int?) -> [Span] {
        let table = package.table
        let layer = Int(table.layers[record])
        let expert = user.map {
            "expert \($0 % table.expertCount) of layer \($0 / table.expertCount)"
        }
        var offset = table.offsets[record]
        return package.manifest.layers[layer].planes.enumerated().map { index, plane in
            defer { offset += UInt64(PackageFormat.padded(plane.bytes, to: PackageFormat.page)) }
            return Span(
                name: (expert ?? "record \(record), which no expert uses,") + " plane \(index)",
                offset: offset, byteCount: plane.bytes,
                checksum: table.checksums[record * table.planeCount + index], tensor: nil)
        }
    }

    /// Checks a span and the gap before it, which begins at `end`.
    private mutating func check(
        _ span: Span, _ end: inout UInt64, _ before: inout String
    ) throws(ModelFileError) {
        try checkZeros(from: end, to: span.offset, before)
        end = span.offset + UInt64(span.byteCount)
        before = span.name
        var found: UInt32 = 0
        try eachPiece(from: span.offset, byteCount: span.byteCount) { piece, _ in
            found = checksum32C(piece, from: found)
            return true
        }
        if found != span.checksum {
            add(
                span.name, span.offset,
                "checksum \(hexadecimal(span.checksum)) stored, \(hexadecimal(found)) found: its "
                    + "\(span.byteCount) bytes are damaged")
        } else if let tensor = span.tensor, let frames = tensor.storage?.frames, !frames.isEmpty {
            try checkFrames(tensor, frames)
        }
    }

    private mutating func checkFrames(
        _ tensor: GGUFTensor, _ frames: [Int]
    ) throws(ModelFileError) {
        var at = tensor.fileOffset
        var left = tensor.byteCount
        for (index, count) in frames.enumerated() {
            let frame = try source.bytes(at: Int(at), count: count)
            let expected = min(left, TensorStorage.frameBytes)
            guard zstd.holds(expected, frame, scratch: &buffer) else {
                add(
                    "tensor '\(tensor.name)'", at,
                    "zstd frame \(index) does not hold \(expected) bytes; pack the model again")
                return
            }
            at += UInt64(count)
            left -= expected
        }
    }

    private mutating func checkZeros(
        from start: UInt64, to end: UInt64, _ before: String
    ) throws(ModelFileError) {
        guard end > start else { return }
        var damage: UInt64?
        try eachPiece(from: start, byteCount: Int(end - start)) { piece, offset in
            guard let index = piece.firstIndex(where: { $0 != 0 }) else { return true }
            damage = offset + UInt64(index)
            return false
        }
        if let damage {
            add("padding behind \(before)", damage, "expected zeros, found other bytes")
        }
    }

    /// Reads a run of the file in pieces; `body` ends it by returning false.
    private mutating func eachPiece(
        from start: UInt64, byteCount: Int,
        _ body: (ArraySlice<UInt8>, _ offset: UInt64) -> Bool
    ) throws(ModelFileError) {
        let source = source
        for done in stride(from: 0, to: byteCount, by: buffer.count) {
            let count = min(buffer.count, byteCount - done)
            var failure: ModelFileError?
            unsafe buffer.withUnsafeMutableBytes { all in
                do throws(ModelFileError) {
                    unsafe try source.read(
                        into: UnsafeMutableRawBufferPointer(rebasing: all[..<count]),
                        at: Int(start) + done)
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            source.forget(from: Int(start) + done, byteCount: count)
            guard body(buffer[..<count], start + UInt64(done)) else { return }
        }
    }

    private mutating func add(_ field: String, _ offset: UInt64, _ message: String) {
        guard damages.count < Self.limit else { return }
        damages.append(
            ModelFileError(path: source.path, field: field, offset: offset, message: message))
    }
}

/// The working memory of zstd.
@safe private final class Decompression {
    private let zstd = unsafe host_zstd_create()

    deinit { unsafe host_zstd_destroy(zstd) }

    /// Whether `frame` is one of exactly `byteCount` bytes, which go to `scratch`.
    func holds(_ byteCount: Int, _ frame: [UInt8], scratch: inout [UInt8]) -> Bool {
        guard let zstd = unsafe zstd else { return false }
        return unsafe scratch.withUnsafeMutableBytes { into in
            unsafe frame.withUnsafeBytes { from in
                unsafe host_zstd_decompress(
                    zstd, into.baseAddress, into.count, from.baseAddress, from.count)
                    == Int64(byteCount)
            }
        }
    }
}
