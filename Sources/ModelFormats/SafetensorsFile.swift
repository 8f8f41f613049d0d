// One file of safetensors, read and checked:
//
//   header length u64, little-endian
//   header: a JSON object, {"NAME": {"dtype": "BF16", "shape": [rows, columns],
//           "data_offsets": [first, end]}, ..., "__metadata__": {"KEY": "TEXT", ...}}
//   data: offsets count from here
//
// Source: the format's description in the README of huggingface/safetensors. The data are wholly
// covered: no gaps, no overlaps, nothing after the last tensor.

/// The tensors of a safetensors file, and where their bytes lie.
///
/// Only the header is read, and nothing in it is believed: whatever the bytes are, opening a file
/// ends in a value whose tensors lie inside it, or in an error that names tensor and offset.
public struct SafetensorsFile: Sendable {
    public let path: String
    /// Bytes of the file when it was opened.
    public let fileSize: UInt64
    /// In the header's order; names are unique.
    public let tensors: [SafetensorsTensor]

    /// Most bytes of a header, as the format's own library has it.
    public static let headerBytesLimit = 100_000_000

    public init(path: String) throws(ModelFileError) {
        try self.init(source: try FileSource(path: path))
    }

    /// Reads a file from memory, for tests and fuzzing; errors call it `name`.
    public init(bytes: [UInt8], name: String = "memory") throws(ModelFileError) {
        try self.init(source: MemorySource(path: name, bytes: bytes))
    }

    init(source: any ByteSource) throws(ModelFileError) {
        let header = try Self.header(source)
        let dataStart = 8 + header.count
        var cursor = JSONCursor(path: source.path, bytes: header, base: 8)
        var entries: [SafetensorsEntry] = []
        try cursor.takeObject("header") { cursor, name, nameAt throws(ModelFileError) in
            if name == "__metadata__" {
                try cursor.takeObject("__metadata__") { cursor, key, _ throws(ModelFileError) in
                    _ = try cursor.takeString("__metadata__ '\(key)'")
                }
                return
            }
            guard entries.count < GGUFLimits.tensors else {
                throw cursor.error(
                    "header", at: nameAt, "expected at most \(GGUFLimits.tensors) tensors")
            }
            entries.append(try SafetensorsEntry(&cursor, name: name, nameAt: nameAt))
        }
        try cursor.finish()
        try Self.checkCoverage(
            entries, dataBytes: source.size - dataStart, path: source.path)
        path = source.path
        fileSize = UInt64(source.size)
        tensors = entries.map { $0.tensor(dataStart: dataStart) }
    }

    private static func header(_ source: any ByteSource) throws(ModelFileError) -> [UInt8] {
        func error(_ offset: UInt64, _ message: String) -> ModelFileError {
            ModelFileError(
                path: source.path, field: "header length", offset: offset, message: message)
        }
        guard source.size >= 8 else {
            throw error(
                0,
                "the file has \(source.size) bytes, a safetensors file begins with 8; "
                    + "it is truncated or something else")
        }
        let length = try source.bytes(at: 0, count: 8).littleEndian(at: 0, byteCount: 8)
        guard length <= headerBytesLimit else {
            throw error(
                0,
                "expected at most \(headerBytesLimit) bytes of header, found \(length); "
                    + "this is not a safetensors file, or it is damaged")
        }
        guard length >= 2, length <= source.size - 8 else {
            throw error(
                0,
                "a header of \(length) bytes does not fit the file of \(source.size); "
                    + "it is truncated or damaged: fetch it again")
        }
        return try source.bytes(at: 8, count: Int(length))
    }

    /// Refuses tensors that leave a byte of the data out, or have one twice.
    private static func checkCoverage(
        _ entries: [SafetensorsEntry], dataBytes: Int, path: String
    ) throws(ModelFileError) {
        func error(_ entry: SafetensorsEntry, _ message: String) -> ModelFileError {
            ModelFileError(
                path: path, field: "tensor '\(entry.name)'", offset: UInt64(entry.rangeAt),
                message: message)
        }
        // Empty tensors before others that begin at the same byte.
        let order = entries.sorted { ($0.first, $0.end) < ($1.first, $1.end) }
        var end = 0
        var before: SafetensorsEntry?
        for entry in order {
            guard entry.end <= dataBytes else {
                throw error(
                    entry,
                    "its data end at byte \(entry.end) of the data, which have "
                        + "\(dataBytes); the file is truncated or damaged: fetch it again")
            }
            guard entry.first == end else {
                let neighbour = before.map { "tensor '\($0.name)' ends" } ?? "the data begin"
                throw error(
                    entry,
                    "its data begin at byte \(entry.first) of the data, but \(neighbour) at "
                        + "\(end); there may be neither gaps nor overlaps: the file is damaged")
            }
            end = entry.end
            before = entry
        }
        guard end == dataBytes else {
            throw ModelFileError(
                path: path, field: "header length", offset: 0,
                message: "the tensors end at byte \(end) of the data, which have \(dataBytes); "
                    + "the file is damaged")
        }
    }
}

/// A tensor of a safetensors file. Its range is inside the file.
public struct SafetensorsTensor: Sendable {
    public let name: String
    /// The format's name for its element type, as in `BF16`.
    public let elementType: String
    /// How its elements are stored, where Sluice can compute with them: F32, F16 and BF16. Nil for
    /// others.
    public let format: BlockFormat?
    /// Its dimensions, the fastest-moving last: a matrix is (rows, columns).
    public let shape: [Int]
    /// Its first byte, counted from the start of the file.
    public let fileOffset: UInt64
    public let byteCount: Int
}

/// A tensor as the header describes it.
private struct SafetensorsEntry {
    let name: String
    let elementType: String
    let shape: [Int]
    /// From the start of the data; `first` is at most `end`.
    let first: Int
    let end: Int
    /// Where the offsets stand in the file, for errors.
    let rangeAt: Int

    /// Bits of an element, by the format's name for its type.
    private static let elementBits = [
        "F32": 32, "F16": 16, "BF16": 16, "F64": 64, "BOOL": 8, "U8": 8, "I8": 8, "U16": 16,
        "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64, "F8_E4M3": 8,
        "F8_E5M2": 8,
        "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    ]

    /// Dimensions of a tensor; models have three at most.
    private static let dimensionLimit = 16

    init(_ cursor: inout JSONCursor, name: String, nameAt: Int) throws(ModelFileError) {
        let field = "tensor '\(name)'"
        var elementType: String?
        var shape: [Int]?
        var range: [Int]?
        var rangeAt = nameAt
        var shapeAt = nameAt
        try cursor.takeObject(field) { cursor, key, keyAt throws(ModelFileError) in
            switch key {
            case "dtype": elementType = try cursor.takeString("\(field) dtype")
            case "shape":
                shapeAt = keyAt
                shape = try Self.counts(&cursor, "\(field) shape", limit: Self.dimensionLimit)
            case "data_offsets":
                rangeAt = keyAt
                range = try Self.counts(&cursor, "\(field) data_offsets", limit: 2)
            default:
                throw cursor.error(
                    field, at: keyAt, "'\(key)' is none of dtype, shape and data_offsets")
            }
        }
        guard let elementType, let shape, let range else {
            throw cursor.error(
                field, at: nameAt, "expected dtype, shape and data_offsets, found fewer")
        }
        guard range.count == 2, range[0] <= range[1] else {
            throw cursor.error(
                field, at: rangeAt, "expected data_offsets [first, end], found \(range)")
        }
        guard let bits = Self.elementBits[elementType] else {
            throw cursor.error(field, at: nameAt, "'\(elementType)' is not a known dtype")
        }
        var product = bits
        for length in shape {
            let (next, overflow) = product.multipliedReportingOverflow(by: length)
            guard !overflow else {
                throw cursor.error(
                    field, at: shapeAt, "a shape of \(shape) has more elements than can be counted")
            }
            product = next
        }
        guard product % 8 == 0, product / 8 == range[1] - range[0] else {
            throw cursor.error(
                field, at: rangeAt,
                "shape \(shape) of \(elementType) takes \(product / 8) bytes, but data_offsets "
                    + "\(range) hold \(range[1] - range[0]); the file is damaged")
        }
        self.name = name
        self.elementType = elementType
        self.shape = shape
        self.rangeAt = rangeAt
        first = range[0]
        end = range[1]
    }

    /// Takes an array of integers of 0 and more, `limit` of them at most.
    private static func counts(
        _ cursor: inout JSONCursor, _ field: String, limit: Int
    ) throws(ModelFileError) -> [Int] {
        var counts: [Int] = []
        try cursor.takeArray(field) { cursor, index throws(ModelFileError) in
            let at = cursor.offset
            let value = try cursor.takeInteger(field)
            guard value >= 0, index < limit else {
                throw cursor.error(
                    field, at: at, "expected at most \(limit) integers from 0 on, found \(value)")
            }
            counts.append(value)
        }
        return counts
    }

    func tensor(dataStart: Int) -> SafetensorsTensor {
        let format: BlockFormat? =
            switch elementType {
            case "F32": .f32
            case "F16": .f16
            case "BF16": .bf16
            default: nil
            }
        return SafetensorsTensor(
            name: name, elementType: elementType, format: format, shape: shape,
            // Inside the file, as was checked.
            fileOffset: UInt64(dataStart + first), byteCount: end - first)
    }
}
