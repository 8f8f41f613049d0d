/// Writes keys and values as a GGUF header holds them, for metadata that come from elsewhere: what
/// reads them later need not know from where.
struct GGUFMetadataWriter {
    /// A header of version 3 without tensors; the number of keys is filled in at the end.
    private var encoded: [UInt8] =
        Array("GGUF".utf8) + [3, 0, 0, 0] + [UInt8](repeating: 0, count: 16)
    private var count: UInt64 = 0

    mutating func add(_ key: String, _ value: String) {
        begin(key, .string)
        append(value)
    }

    mutating func add(_ key: String, _ value: Bool) {
        begin(key, .bool)
        encoded.append(value ? 1 : 0)
    }

    /// Adds an integer as uint32, the type of counts and token numbers.
    mutating func add(_ key: String, _ value: UInt32) {
        begin(key, .uint32)
        append(value)
    }

    mutating func add(_ key: String, _ value: Float) {
        begin(key, .float32)
        append(value.bitPattern)
    }

    mutating func add(_ key: String, _ values: [String]) {
        beginArray(key, .string, values.count)
        for value in values { append(value) }
    }

    mutating func add(_ key: String, _ values: [Int32]) {
        beginArray(key, .int32, values.count)
        for value in values { append(UInt32(bitPattern: value)) }
    }

    mutating func add(_ key: String, _ values: [Float]) {
        beginArray(key, .float32, values.count)
        for value in values { append(value.bitPattern) }
    }

    /// What was added, as metadata; errors about them name `path`, and no offset, since there is no
    /// such place in a file.
    ///
    /// - Throws: `ModelFileError` where it is more than a header may hold.
    mutating func metadata(path: String) throws(ModelFileError) -> GGUFMetadata {
        for byte in 0..<8 { encoded[16 + byte] = UInt8(truncatingIfNeeded: count >> (8 * byte)) }
        let part = try GGUFPart(source: MemorySource(path: path, bytes: encoded), fileIndex: 0)
        return part.metadata.withoutOffsets
    }

    private mutating func begin(_ key: String, _ type: GGUFValueType) {
        append(key)
        append(type.rawValue)
        count += 1
    }

    private mutating func beginArray(_ key: String, _ element: GGUFValueType, _ length: Int) {
        begin(key, .array)
        append(element.rawValue)
        encoded.appendLittleEndian(UInt64(length))
    }

    private mutating func append(_ value: UInt32) { encoded.appendLittleEndian(value) }

    private mutating func append(_ text: String) {
        encoded.appendLittleEndian(UInt64(text.utf8.count))
        encoded += text.utf8
    }
}
