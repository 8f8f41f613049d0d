// The first page of a package, and what every part of the format shares. PACKAGE.md draws the
// whole.

internal import CHost

/// Numbers of the format.
enum PackageFormat {
    /// "SLUICE", then bytes that a transfer as text would change.
    static let magic: [UInt8] = [0x53, 0x4C, 0x55, 0x49, 0x43, 0x45, 0x0D, 0x0A]
    static let version: UInt32 = 1
    /// Bytes of the header, and the alignment of sections, records and planes: the largest block
    /// that direct reads are known to ask for.
    static let page = 4096
    /// The alignment of parts in a plane and of tensors in the resident region: a cache line.
    static let line = 64
    /// Bytes of a tensor that make one zstd frame.
    static let frameBytes = 4 << 20
    /// Least alignment-rounded value of `bytes`.
    static func padded(_ bytes: Int, to alignment: Int) -> Int {
        (bytes + alignment - 1) / alignment * alignment
    }
}

/// What a package may hold. Beyond, it is damaged or hostile.
enum PackageLimits {
    static let manifestBytes: UInt64 = 64 << 20
    static let profileBytes: UInt64 = 256 << 20
    static let layers = 4096
    static let experts = 65_536
    /// Experts of all layers.
    static let records = 1 << 24
    static let tensors = 262_144
    static let planes = 4
    /// Rows or columns of a matrix.
    static let dimension = 1 << 24
    /// Bytes of a zstd frame: what it holds, and more than zstd ever adds to it.
    static let frameBytes = PackageFormat.frameBytes + PackageFormat.frameBytes / 64
    /// Bytes of an expert's plane: what the kernel takes in one registered buffer.
    static let planeBytes = 1 << 30
}

/// The sections of a package, in the order in which they lie in the file.
enum PackageSection: UInt32, CaseIterable {
    case metadata = 1
    case resident = 2
    case experts = 3
    case table = 4
    case manifest = 5
    /// Optional.
    case profile = 6

    var name: String {
        switch self {
        case .metadata: "metadata section"
        case .resident: "resident region"
        case .experts: "expert region"
        case .table: "expert table"
        case .manifest: "manifest"
        case .profile: "profile"
        }
    }

    /// Most bytes it may have.
    var limit: UInt64 {
        switch self {
        case .metadata: UInt64(GGUFLimits.headerBytes - PackageFormat.page)
        case .manifest: PackageLimits.manifestBytes
        case .profile: PackageLimits.profileBytes
        case .table: 1 << 30
        case .resident, .experts: UInt64(Int.max)
        }
    }
}

/// Where a section lies.
struct PackageExtent: Equatable {
    var offset: UInt64 = 0
    var byteCount: UInt64 = 0
    /// 0 for the two regions, which have finer ones: per tensor, per plane.
    var checksum: UInt32 = 0

    var end: UInt64 { offset + byteCount }
}

/// The header page.
struct PackageHeader {
    var fileSize: UInt64 = 0
    var sections: [PackageSection: PackageExtent] = [:]

    /// The extent of `section`; empty where the package has none.
    subscript(section: PackageSection) -> PackageExtent { sections[section] ?? PackageExtent() }

    /// The page as bytes.
    var encoded: [UInt8] {
        var bytes = PackageFormat.magic
        bytes.appendLittleEndian(PackageFormat.version)
        bytes.appendLittleEndian(UInt32(sections.count))
        bytes.appendLittleEndian(fileSize)
        for section in PackageSection.allCases {
            guard let extent = sections[section] else { continue }
            bytes.appendLittleEndian(section.rawValue)
            bytes.appendLittleEndian(extent.checksum)
            bytes.appendLittleEndian(extent.offset)
            bytes.appendLittleEndian(extent.byteCount)
        }
        bytes += [UInt8](repeating: 0, count: PackageFormat.page - 4 - bytes.count)
        bytes.appendLittleEndian(checksum32C(bytes[...]))
        return bytes
    }

    /// Reads and checks the page, and that its sections lie in the file, in order and apart.
    init(_ source: any ByteSource) throws(ModelFileError) {
        func failure(_ offset: Int?, _ message: String) -> ModelFileError {
            ModelFileError(
                path: source.path, field: "package header", offset: offset.map { UInt64($0) },
                message: message)
        }
        guard source.size >= PackageFormat.page else {
            throw failure(
                nil, "\(PackageFormat.page) bytes expected, \(source.size) found; it is truncated")
        }
        let page = try source.bytes(at: 0, count: PackageFormat.page)
        guard page.starts(with: PackageFormat.magic) else {
            throw failure(0, "expected the magic bytes of a package, found others")
        }
        let version = UInt32(page.littleEndian(at: 8, byteCount: 4))
        guard version == PackageFormat.version else {
            throw failure(
                8,
                "expected version \(PackageFormat.version), found \(version); pack the model again, "
                    + "or use the Sluice that made the package")
        }
        let end = PackageFormat.page - 4
        let stored = UInt32(page.littleEndian(at: end, byteCount: 4))
        let found = checksum32C(page[..<end])
        guard stored == found else {
            throw failure(
                end,
                "checksum \(hexadecimal(stored)) stored, \(hexadecimal(found)) found: "
                    + "the header is damaged; fetch or pack the package again")
        }
        fileSize = page.littleEndian(at: 16, byteCount: 8)
        // An interrupted change of the profile leaves bytes behind the end, which mean nothing.
        guard fileSize <= UInt64(source.size),
            UInt64(source.size) - fileSize
                <= PackageLimits.profileBytes + UInt64(2 * PackageFormat.page)
        else {
            throw failure(
                16,
                "a file of \(fileSize) bytes expected, \(source.size) found; it is truncated or "
                    + "was appended to: fetch or pack the package again")
        }
        let count = Int(page.littleEndian(at: 12, byteCount: 4))
        guard count >= 5, count <= PackageSection.allCases.count else {
            throw failure(12, "expected 5 or 6 sections, found \(count)")
        }
        var previousEnd = UInt64(PackageFormat.page)
        var previous: UInt32 = 0
        for index in 0..<count {
            let at = 24 + 24 * index
            let kind = UInt32(page.littleEndian(at: at, byteCount: 4))
            guard let section = PackageSection(rawValue: kind), kind == previous + 1 else {
                throw failure(at, "expected section \(previous + 1), found \(kind)")
            }
            previous = kind
            let extent = PackageExtent(
                offset: page.littleEndian(at: at + 8, byteCount: 8),
                byteCount: page.littleEndian(at: at + 16, byteCount: 8),
                checksum: UInt32(page.littleEndian(at: at + 4, byteCount: 4)))
            guard extent.offset % UInt64(PackageFormat.page) == 0 else {
                throw failure(
                    at + 8,
                    "the \(section.name) begins at \(extent.offset), which is no multiple of "
                        + "\(PackageFormat.page)")
            }
            guard extent.offset >= previousEnd, extent.offset <= fileSize,
                extent.byteCount <= fileSize - extent.offset
            else {
                throw failure(
                    at + 8,
                    "the \(section.name), \(extent.byteCount) bytes at \(extent.offset), does not lie "
                        + "between \(previousEnd) and the file's end at \(fileSize)")
            }
            guard extent.byteCount <= section.limit else {
                throw failure(
                    at + 16,
                    "the \(section.name) has \(extent.byteCount) bytes; at most "
                        + "\(section.limit) are allowed")
            }
            previousEnd = extent.end
            sections[section] = extent
        }
        guard previousEnd == fileSize else {
            throw failure(
                16, "the sections end at \(previousEnd), the file at \(fileSize); it is damaged")
        }
        guard self[.metadata].offset == UInt64(PackageFormat.page) else {
            throw failure(
                32,
                "expected the metadata at \(PackageFormat.page), found \(self[.metadata].offset)")
        }
        guard page[(24 + 24 * count)..<end].allSatisfy({ $0 == 0 }) else {
            throw failure(24 + 24 * count, "expected zeros behind the sections, found other bytes")
        }
    }

    init() {}
}

/// CRC-32C of `bytes`, continuing from `crc`.
func checksum32C(_ bytes: ArraySlice<UInt8>, from crc: UInt32 = 0) -> UInt32 {
    unsafe bytes.withUnsafeBytes { buffer in
        unsafe host_crc32c(crc, buffer.baseAddress, buffer.count)
    }
}

/// Eight hexadecimal digits.
func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
}

extension [UInt8] {
    mutating func appendLittleEndian(_ value: some FixedWidthInteger) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
}
