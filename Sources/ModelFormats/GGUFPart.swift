// One file of GGUF, read and checked:
//
//   magic "GGUF" | version u32 | tensor count u64 | key count u64
//   per key:     length u64, bytes | value type u32 | value
//   per tensor:  length u64, bytes | dimension count u32 | dimensions u64 each | type u32 | offset u64
//   padding to the alignment
//   data: tensors at their offsets, counted from here, each aligned
//
// Everything is little-endian. Source: the GGUF specification in the ggml repository, docs/gguf.md.

/// The header of one file.
struct GGUFPart {
    let path: String
    let fileSize: UInt64
    let version: UInt32
    let metadata: GGUFMetadata
    let tensors: [GGUFTensor]

    /// Reads the header from `source`, as number `fileIndex` of the model's files.
    init(source: any ByteSource, fileIndex: Int) throws(ModelFileError) {
        path = source.path
        fileSize = UInt64(source.size)

        var cursor = GGUFCursor(source: source)
        version = try Self.takeVersion(&cursor)
        let tensorCount = try Self.takeCount(
            &cursor, "tensor count", limit: GGUFLimits.tensors, smallest: GGUFLimits.smallestTensor)
        let keyCount = try Self.takeCount(
            &cursor, "metadata key count", limit: GGUFLimits.keys,
            smallest: GGUFLimits.smallestEntry)

        let (keys, entries) = try Self.takeEntries(&cursor, count: keyCount)
        var descriptions: [GGUFTensorDescription] = []
        for index in 0..<tensorCount {
            descriptions.append(try GGUFTensorDescription(&cursor, index: index))
        }
        metadata = GGUFMetadata(
            path: source.path, header: cursor.finish(), keys: keys, entries: entries)
        tensors = try Self.place(
            descriptions, after: cursor.position, metadata: metadata, cursor: cursor,
            fileSize: fileSize, fileIndex: fileIndex)
    }

    private static func takeVersion(_ cursor: inout GGUFCursor) throws(ModelFileError) -> UInt32 {
        guard cursor.remaining > 0 else {
            throw cursor.error("magic", at: 0, "expected a GGUF file, found an empty one")
        }
        let magic = try cursor.takeUInt32("magic")
        switch magic {
        case 0x4655_4747: break
        case 0x6767_6d6c, 0x6767_6d66, 0x6767_6a74, 0x6767_6c61:
            throw cursor.error(
                "magic", at: 0,
                "expected \"GGUF\", found the older GGML format; convert the model again")
        default:
            let bytes = cursor.bytes[..<4].map { hexadecimal($0) }.joined(separator: " ")
            throw cursor.error(
                "magic", at: 0,
                "expected \"GGUF\" (47 47 55 46), found \(bytes); this is not a GGUF file")
        }
        let version = try cursor.takeUInt32("version")
        if version == 2 || version == 3 { return version }
        if version & 0xFFFF == 0, version != 0 {
            throw cursor.error(
                "version", at: 4,
                "expected a little-endian file, found a big-endian one (version "
                    + "\(version.byteSwapped)); convert the model for this byte order")
        }
        throw cursor.error(
            "version", at: 4,
            "expected version 2 or 3, found \(version)"
                + (version == 1 ? "; convert the model again with a current converter" : ""))
    }

    /// Takes `count` keys with their values.
    static func takeEntries(
        _ cursor: inout GGUFCursor, count: UInt64
    ) throws(ModelFileError) -> (keys: [String], entries: [String: GGUFMetadata.Entry]) {
        var keys: [String] = []
        var entries: [String: GGUFMetadata.Entry] = [:]
        for index in 0..<count {
            try takeEntry(&cursor, index: index, keys: &keys, entries: &entries)
        }
        return (keys, entries)
    }

    static func takeCount(
        _ cursor: inout GGUFCursor, _ field: String, limit: UInt64, smallest: UInt64
    ) throws(ModelFileError) -> UInt64 {
        let start = cursor.position
        let count = try cursor.takeUInt64(field)
        guard count <= limit else {
            throw cursor.error(field, at: start, "expected at most \(limit), found \(count)")
        }
        guard count * smallest <= cursor.remaining else {
            throw cursor.error(
                field, at: start,
                "\(count) of them do not fit the \(cursor.remaining) bytes that follow; "
                    + "the file is truncated or damaged")
        }
        return count
    }

    private static func takeEntry(
        _ cursor: inout GGUFCursor, index: UInt64, keys: inout [String],
        entries: inout [String: GGUFMetadata.Entry]
    ) throws(ModelFileError) {
        let start = cursor.position
        let key = try cursor.takeName(limit: GGUFLimits.keyBytes, "metadata key \(index)")
        let type = try cursor.takeType("metadata key '\(key)'")
        let entry = GGUFMetadata.Entry(type: type, offset: cursor.position)
        try cursor.skipValue(type, "metadata key '\(key)'")
        guard entries.updateValue(entry, forKey: key) == nil else {
            throw cursor.error("metadata key '\(key)'", at: start, "this key appears twice")
        }
        keys.append(key)
    }

    /// Finds the tensors' places in the file and refuses those that lie outside it or over each other.
    private static func place(
        _ descriptions: [GGUFTensorDescription], after headerEnd: Int, metadata: GGUFMetadata,
        cursor: GGUFCursor, fileSize: UInt64, fileIndex: Int
    ) throws(ModelFileError) -> [GGUFTensor] {
        let alignment = UInt64(try alignment(metadata))
        // No overflow: the header is far below 2^63 bytes.
        let dataStart = (UInt64(headerEnd) + alignment - 1) / alignment * alignment

        var names: Set<String> = []
        var tensors: [GGUFTensor] = []
        tensors.reserveCapacity(descriptions.count)
        for description in descriptions {
            let field = "tensor '\(description.name)'"
            guard names.insert(description.name).inserted else {
                throw cursor.error(field, at: description.nameAt, "this name appears twice")
            }
            guard description.offset % alignment == 0 else {
                throw cursor.error(
                    field, at: description.offsetAt,
                    "expected an offset aligned to \(alignment), found \(description.offset)")
            }
            let (first, overflow) = dataStart.addingReportingOverflow(description.offset)
            guard !overflow, first <= fileSize,
                UInt64(description.byteCount) <= fileSize - first
            else {
                throw cursor.error(
                    field, at: description.offsetAt,
                    "\(description.byteCount) bytes at \(description.offset) of the data, which "
                        + "begins at \(dataStart), go past the end of the file of \(fileSize); "
                        + "it is truncated or damaged: fetch it again")
            }
            tensors.append(
                GGUFTensor(
                    name: description.name, shape: description.shape, format: description.format,
                    fileIndex: fileIndex, fileOffset: first, byteCount: description.byteCount,
                    elementCount: description.elementCount))
        }
        try refuseOverlaps(tensors, descriptions, cursor)
        return tensors
    }

    private static func refuseOverlaps(
        _ tensors: [GGUFTensor], _ descriptions: [GGUFTensorDescription], _ cursor: GGUFCursor
    ) throws(ModelFileError) {
        let order = tensors.indices.sorted { tensors[$0].fileOffset < tensors[$1].fileOffset }
        for (before, after) in zip(order, order.dropFirst()) {
            let end = tensors[before].fileOffset + UInt64(tensors[before].byteCount)
            guard end <= tensors[after].fileOffset else {
                throw cursor.error(
                    "tensor '\(tensors[after].name)'", at: descriptions[after].offsetAt,
                    "its data at byte \(tensors[after].fileOffset) begin inside those of tensor "
                        + "'\(tensors[before].name)', which end at \(end); the file is damaged")
            }
        }
    }

    private static func alignment(_ metadata: GGUFMetadata) throws(ModelFileError) -> Int {
        let key = "general.alignment"
        guard let type = metadata.type(of: key) else { return GGUFLimits.defaultAlignment }
        let allowed = GGUFLimits.alignment
        guard type == .uint32, let value = try metadata.integer(key) else {
            throw metadata.error(key, "expected a value of type uint32, found \(type.name)")
        }
        guard allowed.contains(value), value & (value - 1) == 0 else {
            throw metadata.error(
                key,
                "expected a power of two from \(allowed.lowerBound) to \(allowed.upperBound), "
                    + "found \(value)")
        }
        return value
    }
}

/// Two hexadecimal digits.
private func hexadecimal(_ byte: UInt8) -> String {
    (byte < 16 ? "0" : "") + String(byte, radix: 16)
}
