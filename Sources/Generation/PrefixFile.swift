internal import CHost
internal import Glibc

/// A file that holds what an engine has computed of a sequence: its ids, their keys and values, and
/// its state, where the model keeps one.
///
/// ```
///   0   magic "SLUICEKV"
///   8   version (2)                       all numbers are unsigned, little-endian, of 32 bits
///   12  ids, n
///   16  positions per block, p
///   20  bytes per position, b
///   24  bytes of the state, s; 0 without one
///   28  key of the model and its options (32 bytes)
///   60  ids (n)
///       CRC-32C of each block
///       CRC-32C of everything before
///       blocks (n / p, rounded up) of p positions each, the last one of what is left; b bytes for
///         each position
///       blocks of the state, of p * b bytes each but 1024 at least, the last one of what is left
/// ```
/// A block is what `Engine.readPositions` or `readState` gives. The file is as long as this makes it,
/// to the byte. A state covers all positions, so a file that has one is of use as a whole only.
struct PrefixFile: Sendable, Equatable {
    var ids: [Int32]
    let blockPositions: Int
    let bytesPerPosition: Int
    let stateBytes: Int
    let key: [UInt8]
    var checksums: [UInt32]

    static let magic = Array("SLUICEKV".utf8)
    static let version: UInt32 = 2
    static let keyBytes = 32
    private static let fixedBytes = 28 + keyBytes
    /// More than any engine has, so that a damaged number cannot ask for much memory.
    private static let mostIds = 1 << 24

    init(
        ids: [Int32], blockPositions: Int, bytesPerPosition: Int, stateBytes: Int, key: [UInt8]
    ) {
        self.ids = ids
        self.blockPositions = blockPositions
        self.bytesPerPosition = bytesPerPosition
        self.stateBytes = stateBytes
        self.key = key
        checksums = []
        let stateBlocks = (stateBytes + stateBlockBytes - 1) / stateBlockBytes
        checksums = Array(repeating: 0, count: positionBlocks + stateBlocks)
    }

    /// What a block holds.
    enum Block: Equatable {
        case positions(Range<Int>)
        /// Bytes of the state.
        case state(Range<Int>)
    }

    func block(_ index: Int) -> Block {
        guard index >= positionBlocks else {
            return .positions(
                index * blockPositions..<min(ids.count, (index + 1) * blockPositions))
        }
        let first = (index - positionBlocks) * stateBlockBytes
        return .state(first..<min(stateBytes, first + stateBlockBytes))
    }

    func byteCount(_ index: Int) -> Int {
        switch block(index) {
        case .positions(let positions): positions.count * bytesPerPosition
        case .state(let bytes): bytes.count
        }
    }

    /// Where a block begins.
    func offset(_ index: Int) -> Int {
        switch block(index) {
        case .positions(let positions): headerBytes + positions.lowerBound * bytesPerPosition
        case .state(let bytes): headerBytes + ids.count * bytesPerPosition + bytes.lowerBound
        }
    }

    var positionBlocks: Int { (ids.count + blockPositions - 1) / blockPositions }
    private var stateBlockBytes: Int { max(1024, blockPositions * bytesPerPosition) }
    var headerBytes: Int { PrefixFile.fixedBytes + 4 * (ids.count + checksums.count + 1) }
    var fileBytes: Int { headerBytes + ids.count * bytesPerPosition + stateBytes }

    /// The header's bytes.
    var header: [UInt8] {
        var bytes = PrefixFile.magic
        func append(_ number: UInt32) {
            for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(number >> shift & 255)) }
        }
        append(PrefixFile.version)
        append(UInt32(ids.count))
        append(UInt32(blockPositions))
        append(UInt32(bytesPerPosition))
        append(UInt32(stateBytes))
        bytes += key
        for id in ids { append(UInt32(bitPattern: id)) }
        for checksum in checksums { append(checksum) }
        append(PrefixFile.checksum(bytes))
        return bytes
    }

    static func checksum(_ bytes: [UInt8]) -> UInt32 {
        unsafe bytes.withUnsafeBytes { unsafe host_crc32c(0, $0.baseAddress, $0.count) }
    }

    /// Reads and checks the header of an open file.
    ///
    /// - Throws: `PrefixFileError`, saying what is wrong with it.
    init(_ file: OpenFile, key: [UInt8]) throws(PrefixFileError) {
        let size = file.size
        guard let fixed = file.read(PrefixFile.fixedBytes, at: 0) else { throw .truncated }
        func number(_ bytes: [UInt8], _ offset: Int) -> Int {
            (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        guard fixed.starts(with: PrefixFile.magic) else { throw .foreign("it is no such file") }
        guard number(fixed, 8) == PrefixFile.version else {
            throw .foreign("it has version \(number(fixed, 8))")
        }
        guard Array(fixed[28..<60]) == key else {
            throw .foreign("it is of another model, or of other options")
        }
        let count = number(fixed, 12)
        let (blockPositions, bytesPerPosition) = (number(fixed, 16), number(fixed, 20))
        let stateBytes = number(fixed, 24)
        // The size is known before there is memory for a checksum of each block.
        guard (1...PrefixFile.mostIds).contains(count), blockPositions > 0,
            blockPositions <= PrefixFile.mostIds, bytesPerPosition + stateBytes > 0,
            count * bytesPerPosition + stateBytes <= size
        else { throw .damaged }
        self.init(
            ids: Array(repeating: 0, count: count), blockPositions: blockPositions,
            bytesPerPosition: bytesPerPosition, stateBytes: stateBytes, key: key)
        guard size == fileBytes else { throw .truncated }
        guard let bytes = file.read(headerBytes, at: 0) else { throw .truncated }
        guard PrefixFile.checksum(bytes.dropLast(4)) == UInt32(number(bytes, headerBytes - 4))
        else {
            throw .damaged
        }
        for index in ids.indices {
            ids[index] = Int32(
                truncatingIfNeeded: number(bytes, PrefixFile.fixedBytes + 4 * index))
        }
        for index in checksums.indices {
            checksums[index] = UInt32(
                number(bytes, PrefixFile.fixedBytes + 4 * (ids.count + index)))
        }
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 { checksum(Array(bytes)) }
}

/// Why a file of the prefix cache is not used.
enum PrefixFileError: Error, Equatable, CustomStringConvertible {
    case truncated
    case damaged
    case foreign(String)
    /// errno
    case unreadable(Int32)

    var description: String {
        switch self {
        case .truncated: "its length is not what its header says"
        case .damaged: "its checksum is wrong"
        case .foreign(let reason): reason
        case .unreadable(let code): unsafe String(cString: strerror(code))
        }
    }
}

/// A file that is open for reading or writing; closed at the end of its life.
final class OpenFile {
    private let descriptor: Int32

    /// - Throws: the error number.
    init(reading path: String) throws(PrefixFileError) {
        let opened = unsafe host_open_file(path, 0)
        guard opened >= 0 else { throw .unreadable(-opened) }
        descriptor = opened
    }

    /// Makes a file that only its owner may read: prompts are private.
    init(writing path: String) throws(PrefixFileError) {
        let opened = unsafe open(
            path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard opened >= 0 else { throw .unreadable(errno) }
        descriptor = opened
    }

    deinit { close(descriptor) }

    var size: Int { Int(host_file_size(descriptor)) }

    /// Exactly so many bytes; nil if the file does not give them.
    func read(_ count: Int, at offset: Int) -> [UInt8]? {
        var isWhole = false
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, written in
            isWhole = unsafe read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            written = isWhole ? count : 0
        }
        return isWhole ? bytes : nil
    }

    /// Fills the buffer; false if the file does not.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
        var done = 0
        while done < buffer.count {
            let count = unsafe host_read(
                descriptor, buffer.baseAddress! + done, buffer.count - done,
                UInt64(offset + done))
            if count == -Int64(EINTR) { continue }
            guard count > 0 else { return false }
            done += Int(count)
        }
        return true
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(PrefixFileError) {
        var failure: PrefixFileError?
        unsafe bytes.withUnsafeBytes { buffer in
            do throws(PrefixFileError) { unsafe try write(buffer, at: offset) } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// - Throws: the error number.
    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(PrefixFileError) {
        var done = 0
        while done < bytes.count {
            let count = unsafe pwrite(
                descriptor, bytes.baseAddress! + done, bytes.count - done, offset + done)
            if count < 0 {
                if errno == EINTR { continue }
                throw .unreadable(errno)
            }
            done += count
        }
    }

    /// Lets the page cache forget what was read.
    func forget() { host_drop_cached(descriptor, 0, UInt64(max(0, size))) }
}
