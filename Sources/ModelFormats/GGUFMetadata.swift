/// The metadata of a GGUF file: keys and typed values, in the file's order.
///
/// Values stay where they are in the header's bytes until asked for.
public struct GGUFMetadata: Sendable {
    /// Where a value lies.
    struct Entry: Sendable {
        let type: GGUFValueType
        /// Its first byte, in the file.
        let offset: Int
    }

    /// The keys, in the file's order.
    public let keys: [String]

    /// The file, for errors.
    let path: String
    private let header: [UInt8]

    /// Bytes of the header, which stay in memory as long as the metadata do.
    public var headerByteCount: Int { header.count }
    private let entries: [String: Entry]
    /// Whether the offsets are places in a file, which errors may name.
    private var hasOffsets = true

    init(path: String, header: [UInt8], keys: [String], entries: [String: Entry]) {
        self.path = path
        self.header = header
        self.keys = keys
        self.entries = entries
    }

    /// The keys and values as the file holds them, one after the other.
    var encoded: ArraySlice<UInt8> {
        guard let first = keys.first, let last = keys.last, let start = entries[first],
            let end = entries[last]
        else { return [] }
        // Before a value stand its key, with a length of 8 bytes, and the 4 bytes of its type.
        return header[
            (start.offset - 12 - first.utf8.count)..<(end.offset
                + header.byteCount(at: end.offset, type: end.type))]
    }

    /// The same, for metadata that no file holds in this form.
    var withoutOffsets: GGUFMetadata {
        var copy = self
        copy.hasOffsets = false
        return copy
    }

    /// The value of `key`, nil when absent.
    public subscript(key: String) -> GGUFValue? {
        guard let entry = entries[key] else { return nil }
        return header.value(at: entry.offset, type: entry.type)
    }

    /// The type of `key`'s value, nil when absent.
    public func type(of key: String) -> GGUFValueType? { entries[key]?.type }

    /// The text of `key`, nil when absent. Throws when it is not a string or not UTF-8.
    public func string(_ key: String) throws(ModelFileError) -> String? {
        guard let entry = entries[key] else { return nil }
        guard entry.type == .string else { throw wrongType(key, entry, expected: "a string") }
        guard let text = String(validating: header.string(at: entry.offset), as: UTF8.self) else {
            throw error(key, "expected text in UTF-8, found other bytes")
        }
        return text
    }

    /// The integer of `key`, whatever its width, nil when absent. Throws when it is not an integer or
    /// does not fit 63 bits and sign.
    public func integer(_ key: String) throws(ModelFileError) -> Int? {
        guard let entry = entries[key] else { return nil }
        let value = header.scalar(at: entry.offset, type: entry.type)
        if let integer = value?.integer { return integer }
        if case .uint64(let large) = value {
            throw error(key, "expected an integer up to \(Int.max), found \(large)")
        }
        throw wrongType(key, entry, expected: "an integer")
    }

    /// The number of `key`, integer or floating-point, nil when absent. Throws when it is neither or not
    /// finite.
    public func number(_ key: String) throws(ModelFileError) -> Double? {
        guard let entry = entries[key] else { return nil }
        guard let value = header.scalar(at: entry.offset, type: entry.type)?.number else {
            throw wrongType(key, entry, expected: "a number")
        }
        guard value.isFinite else { throw error(key, "expected a finite number, found \(value)") }
        return value
    }

    /// The boolean of `key`, nil when absent. Throws when it is of another type.
    public func bool(_ key: String) throws(ModelFileError) -> Bool? {
        guard let entry = entries[key] else { return nil }
        guard case .bool(let value) = header.scalar(at: entry.offset, type: entry.type) else {
            throw wrongType(key, entry, expected: "a bool")
        }
        return value
    }

    /// The array of `key`, nil when absent. Throws when it is of another type.
    public func array(_ key: String) throws(ModelFileError) -> GGUFArray? {
        guard let entry = entries[key] else { return nil }
        guard entry.type == .array else { throw wrongType(key, entry, expected: "an array") }
        return GGUFArray(header: header, offset: entry.offset)
    }

    /// An error about the value of `key`, for callers that find it impossible or missing.
    public func error(_ key: String, _ message: String) -> ModelFileError {
        ModelFileError(
            path: path, field: "metadata key '\(key)'",
            offset: hasOffsets ? entries[key].map { UInt64($0.offset) } : nil, message: message)
    }

    private func wrongType(_ key: String, _ entry: Entry, expected: String) -> ModelFileError {
        error(key, "expected \(expected), found a value of type \(entry.type.name)")
    }
}
