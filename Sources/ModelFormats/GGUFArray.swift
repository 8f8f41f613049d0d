/// An array among a file's metadata: a view into the header's bytes, not a copy.
///
/// A vocabulary of 151,000 strings costs one table of 600 kB; no Swift object is made per entry. Keep the
/// array while using it: every request to the metadata makes the table anew.
public struct GGUFArray: Sendable {
    /// The type of all elements.
    public let elementType: GGUFValueType
    /// Elements there are.
    public let count: Int

    /// Shared with the metadata.
    private let header: [UInt8]
    /// The first element.
    private let start: Int
    /// For elements of varying length: where each starts, from `start` on. Headers are far below 4 GB.
    private let starts: [UInt32]

    /// The checked array whose type and count stand at `offset`.
    init(header: [UInt8], offset: Int) {
        guard
            let type = GGUFValueType(
                rawValue: UInt32(header.littleEndian(at: offset, byteCount: 4)))
        else { preconditionFailure("unchecked array at offset \(offset)") }
        elementType = type
        count = Int(header.littleEndian(at: offset + 4, byteCount: 8))
        self.header = header
        start = offset + 12
        if type.byteCount == nil {
            var starts: [UInt32] = []
            starts.reserveCapacity(count)
            var end = start
            for _ in 0..<count {
                starts.append(UInt32(end - start))
                end += header.byteCount(at: end, type: type)
            }
            self.starts = starts
        } else {
            starts = []
        }
    }

    /// The element at `index`, which must be in `0..<count`.
    public subscript(index: Int) -> GGUFValue {
        header.value(at: offset(of: index), type: elementType)
    }

    /// The bytes of a string element, which are UTF-8 in a sound file but are not checked; empty when the
    /// elements are not strings.
    public func bytes(at index: Int) -> ArraySlice<UInt8> {
        guard elementType == .string else { return [] }
        return header.string(at: offset(of: index))
    }

    /// The text of a string element; nil when the elements are not strings, or this one is not UTF-8.
    public func string(at index: Int) -> String? {
        guard elementType == .string else { return nil }
        return String(validating: bytes(at: index), as: UTF8.self)
    }

    /// An element of any integer type, when it fits; nil otherwise.
    public func integer(at index: Int) -> Int? {
        header.scalar(at: offset(of: index), type: elementType)?.integer
    }

    /// An element of any integer or floating-point type, which may be infinite or NaN; nil otherwise.
    public func number(at index: Int) -> Double? {
        header.scalar(at: offset(of: index), type: elementType)?.number
    }

    /// A boolean element; nil when the elements are of another type.
    public func bool(at index: Int) -> Bool? {
        guard case .bool(let value) = header.scalar(at: offset(of: index), type: elementType) else {
            return nil
        }
        return value
    }

    /// The offset in the file of the element at `index`, for errors about it.
    public func fileOffset(of index: Int) -> UInt64 { UInt64(offset(of: index)) }

    private func offset(of index: Int) -> Int {
        precondition(index >= 0 && index < count, "element \(index) of an array of \(count)")
        if let width = elementType.byteCount { return start + index * width }
        return start + Int(starts[index])
    }
}
