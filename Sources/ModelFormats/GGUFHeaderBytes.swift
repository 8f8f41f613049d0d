// Values as they lie in the header's bytes: little-endian, unaligned.
//
// Used on bytes that the reader has already checked; an offset outside them stops the program at the
// array's bounds check rather than reading elsewhere.

extension [UInt8] {
    /// The integer of 1, 2, 4 or 8 bytes at `offset`, zero-extended.
    func littleEndian(at offset: Int, byteCount: Int) -> UInt64 {
        unsafe withUnsafeBytes { bytes in
            precondition(
                offset >= 0 && byteCount <= bytes.count && offset <= bytes.count - byteCount)
            // Inside the bytes, as just checked.
            return switch byteCount {
            case 1: unsafe UInt64(bytes[offset])
            case 2: unsafe UInt64(UInt16(littleEndian: load(bytes, offset)))
            case 4: unsafe UInt64(UInt32(littleEndian: load(bytes, offset)))
            default: unsafe UInt64(littleEndian: load(bytes, offset))
            }
        }
    }

    private func load<T: BitwiseCopyable>(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> T {
        unsafe bytes.loadUnaligned(fromByteOffset: offset, as: T.self)
    }

    /// The number of type `type` at `offset`; strings and arrays are read by their owners.
    func scalar(at offset: Int, type: GGUFValueType) -> GGUFValue? {
        guard let byteCount = type.byteCount else { return nil }
        let bits = littleEndian(at: offset, byteCount: byteCount)
        return switch type {
        case .uint8: .uint8(UInt8(truncatingIfNeeded: bits))
        case .int8: .int8(Int8(truncatingIfNeeded: bits))
        case .uint16: .uint16(UInt16(truncatingIfNeeded: bits))
        case .int16: .int16(Int16(truncatingIfNeeded: bits))
        case .uint32: .uint32(UInt32(truncatingIfNeeded: bits))
        case .int32: .int32(Int32(truncatingIfNeeded: bits))
        case .uint64: .uint64(bits)
        case .int64: .int64(Int64(bitPattern: bits))
        case .float32: .float32(Float(bitPattern: UInt32(truncatingIfNeeded: bits)))
        case .float64: .float64(Double(bitPattern: bits))
        case .bool: .bool(bits != 0)
        case .string, .array: nil
        }
    }

    /// The value of type `type` whose first byte is at `offset`.
    func value(at offset: Int, type: GGUFValueType) -> GGUFValue {
        switch type {
        case .string: .string(String(decoding: string(at: offset), as: UTF8.self))
        case .array: .array(GGUFArray(header: self, offset: offset))
        default: scalar(at: offset, type: type)!
        }
    }

    /// The bytes of the string whose length stands at `offset`.
    func string(at offset: Int) -> ArraySlice<UInt8> {
        let length = Int(littleEndian(at: offset, byteCount: 8))
        return self[offset + 8..<offset + 8 + length]
    }

    /// Bytes that the value of type `type` at `offset` takes.
    func byteCount(at offset: Int, type: GGUFValueType) -> Int {
        switch type {
        case .string:
            return 8 + Int(littleEndian(at: offset, byteCount: 8))
        case .array:
            guard
                let element = GGUFValueType(
                    rawValue: UInt32(littleEndian(at: offset, byteCount: 4)))
            else { preconditionFailure("unchecked array at offset \(offset)") }
            let count = Int(littleEndian(at: offset + 4, byteCount: 8))
            if let width = element.byteCount { return 12 + count * width }
            var end = offset + 12
            for _ in 0..<count { end += byteCount(at: end, type: element) }
            return end - offset
        default:
            return type.byteCount!
        }
    }
}
