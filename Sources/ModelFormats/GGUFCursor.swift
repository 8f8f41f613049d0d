/// A reader's place in a header: takes values from the front and never goes past what the file holds.
///
/// The bytes passed stay, as the metadata are views of them. The buffer grows with what was really read
/// from the source, never by a number the file states.
struct GGUFCursor {
    /// The header so far, from the file's first byte; somewhat more than was taken.
    private(set) var bytes: [UInt8] = []
    /// The next byte to take.
    private(set) var position = 0
    private let source: any ByteSource

    init(source: any ByteSource) { self.source = source }

    /// Bytes of the file not taken yet.
    var remaining: UInt64 { UInt64(source.size - position) }

    /// Takes an unsigned integer of 32 bits.
    mutating func takeUInt32(_ field: @autoclosure () -> String) throws(ModelFileError) -> UInt32 {
        try load(4, field())
        defer { position += 4 }
        return UInt32(truncatingIfNeeded: bytes.littleEndian(at: position, byteCount: 4))
    }

    /// Takes an unsigned integer of 64 bits.
    mutating func takeUInt64(_ field: @autoclosure () -> String) throws(ModelFileError) -> UInt64 {
        try load(8, field())
        defer { position += 8 }
        return bytes.littleEndian(at: position, byteCount: 8)
    }

    /// Takes `count` bytes and returns where they begin.
    mutating func take(
        _ count: UInt64, _ field: @autoclosure () -> String
    ) throws(ModelFileError) -> Int {
        try load(count, field())
        defer { position += Int(count) }
        return position
    }

    /// Takes a name: a length of 1 to `limit`, then as much UTF-8.
    mutating func takeName(
        limit: UInt64, _ field: @autoclosure () -> String
    ) throws(ModelFileError) -> String {
        let start = position
        let length = try takeUInt64(field())
        guard length >= 1, length <= limit else {
            throw error(field(), at: start, "expected a length of 1 to \(limit), found \(length)")
        }
        let first = try take(length, field())
        guard let name = String(validating: bytes[first..<position], as: UTF8.self) else {
            throw error(field(), at: first, "expected a name in UTF-8, found other bytes")
        }
        return name
    }

    /// Takes the number of a value type.
    mutating func takeType(
        _ field: @autoclosure () -> String
    ) throws(ModelFileError) -> GGUFValueType {
        let start = position
        let number = try takeUInt32(field())
        guard let type = GGUFValueType(rawValue: number) else {
            throw error(
                field(), at: start, "expected a value type from 0 to 12, found \(number)")
        }
        return type
    }

    /// Passes over a value of type `type`, checking it; `depth` counts the arrays around it.
    mutating func skipValue(
        _ type: GGUFValueType, depth: Int = 0, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        switch type {
        case .string:
            let length = try takeUInt64(field())
            _ = try take(length, field())
        case .array:
            try skipArray(depth: depth, field())
        case .bool:
            let first = try take(1, field())
            try checkBools(first, field())
        default:
            _ = try take(UInt64(type.smallestByteCount), field())
        }
    }

    private mutating func skipArray(
        depth: Int, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        guard depth < GGUFLimits.arrayDepth else {
            throw error(
                field(), at: position,
                "expected at most \(GGUFLimits.arrayDepth) arrays inside each other, found more")
        }
        let element = try takeType(field())
        let start = position
        let count = try takeUInt64(field())
        let (least, overflow) = count.multipliedReportingOverflow(
            by: UInt64(element.smallestByteCount))
        guard !overflow, least <= remaining else {
            throw error(
                field(), at: start,
                "an array of \(count) elements of type \(element.name) does not fit the "
                    + "\(remaining) bytes that follow; the file is truncated or damaged")
        }
        if element.byteCount != nil {
            let first = try take(least, field())
            if element == .bool { try checkBools(first, field()) }
        } else {
            for _ in 0..<count { try skipValue(element, depth: depth + 1, field()) }
        }
    }

    /// Checks that the bytes from `first` up to the position are 0 or 1.
    private func checkBools(
        _ first: Int, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        guard let wrong = bytes[first..<position].firstIndex(where: { $0 > 1 }) else { return }
        throw error(field(), at: wrong, "expected a bool, 0 or 1, found \(bytes[wrong])")
    }

    /// Gives the header's bytes, cut at the position.
    consuming func finish() -> [UInt8] {
        if bytes.count == position { return bytes }
        return Array(bytes[..<position])
    }

    /// An error about `field` of this file.
    func error(_ field: String?, at offset: Int, _ message: String) -> ModelFileError {
        ModelFileError(path: source.path, field: field, offset: UInt64(offset), message: message)
    }

    /// Makes sure that `count` more bytes are in the buffer.
    private mutating func load(
        _ count: UInt64, _ field: @autoclosure () -> String
    ) throws(ModelFileError) {
        guard count <= remaining else {
            throw error(
                field(), at: position,
                "\(count) bytes expected, \(remaining) left in the file of \(source.size); "
                    + "it is truncated or damaged: fetch it again")
        }
        let end = position + Int(count)
        if end <= bytes.count { return }
        guard end <= GGUFLimits.headerBytes else {
            throw error(
                field(), at: position,
                "\(count) bytes here make a header of more than \(GGUFLimits.headerBytes) bytes; "
                    + "the file is damaged")
        }
        // More than asked for, so that a header of megabytes takes a handful of reads.
        let loaded = bytes.count
        let step = max(GGUFLimits.readBytes, loaded / 4)
        let target = min(source.size, max(end, loaded + step))
        let source = source
        var failure: ModelFileError?
        bytes = unsafe [UInt8](unsafeUninitializedCapacity: target) { buffer, count in
            let all = UnsafeMutableRawBufferPointer(buffer)
            unsafe bytes.withUnsafeBytes { unsafe all.copyMemory(from: $0) }
            do throws(ModelFileError) {
                let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: all[loaded...])
                try unsafe source.read(into: rest, at: loaded)
                count = target
            } catch {
                count = loaded
                failure = error
            }
        }
        if let failure { throw failure }
    }
}
