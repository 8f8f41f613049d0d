// Writes GGUF bytes field by field, right or wrong as a test wants them.

import ModelFormats

/// The bytes of a GGUF file in the making.
struct GGUFBuilder {
    private(set) var bytes: [UInt8] = []

    /// Begins with the fixed part of the header.
    init(magic: String = "GGUF", version: UInt32 = 3, tensors: UInt64 = 0, keys: UInt64 = 0) {
        bytes += Array(magic.utf8)
        integer(version)
        integer(tensors)
        integer(keys)
    }

    /// The offset of the next byte.
    var offset: UInt64 { UInt64(bytes.count) }

    mutating func integer(_ value: some FixedWidthInteger) {
        for shift in stride(from: 0, to: type(of: value).bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    mutating func raw(_ values: [UInt8]) { bytes += values }

    mutating func string(_ text: String) {
        integer(UInt64(text.utf8.count))
        bytes += Array(text.utf8)
    }

    /// A key and the number of its value's type; the value is to follow.
    mutating func key(_ key: String, type: UInt32) {
        string(key)
        integer(type)
    }

    mutating func key(_ key: String, _ type: GGUFValueType) { self.key(key, type: type.rawValue) }

    /// The type and count of an array; its elements are to follow.
    mutating func array(_ type: GGUFValueType, count: UInt64) {
        integer(type.rawValue)
        integer(count)
    }

    /// The description of a tensor; returns the offsets of its dimension count, its type and its offset.
    @discardableResult
    mutating func tensor(
        _ name: String, shape: [UInt64], type: UInt32 = 0, at dataOffset: UInt64 = 0
    ) -> (dimensions: UInt64, type: UInt64, offset: UInt64) {
        string(name)
        let dimensionsAt = offset
        integer(UInt32(shape.count))
        for length in shape { integer(length) }
        let typeAt = offset
        integer(type)
        let offsetAt = offset
        integer(dataOffset)
        return (dimensionsAt, typeAt, offsetAt)
    }

    /// Pads to `alignment` and appends `count` bytes of data.
    mutating func data(_ count: Int, alignment: Int = 32) {
        while bytes.count % alignment != 0 { bytes.append(0) }
        bytes += (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    }

    /// Opens what was built.
    func open() throws(ModelFileError) -> GGUFFile { try GGUFFile(bytes: bytes, name: "built") }
}
