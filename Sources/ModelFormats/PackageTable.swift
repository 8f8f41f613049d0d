/// Where the experts of a package lie:
///
///     layers u32 | experts of a layer u32 | planes u32 | records u32
///     per layer, per expert:  record number u32
///     per record:             offset in the file u64 | layer u32 | CRC-32C u32 per plane
///
/// A record's size follows from its layer's shape. Two experts may share a record, in layers of equal
/// shape. The checksum of a plane covers what `PackageManifest.Plane.bytes` counts; 0 for a plane that
/// the layer does not have.
struct PackageTable: Sendable {
    var layerCount: Int
    var expertCount: Int
    var planeCount: Int
    /// By layer, then expert.
    var recordNumbers: [UInt32]
    /// By record.
    var offsets: [UInt64]
    var layers: [UInt32]
    /// By record, then plane.
    var checksums: [UInt32]

    /// A table of one record for every expert, in order, none of them placed yet.
    init(layerCount: Int, expertCount: Int, planeCount: Int) {
        let count = layerCount * expertCount
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.planeCount = planeCount
        recordNumbers = (0..<count).map { UInt32($0) }
        offsets = [UInt64](repeating: 0, count: count)
        layers = (0..<count).map { UInt32($0 / expertCount) }
        checksums = [UInt32](repeating: 0, count: count * planeCount)
    }

    /// The record of an expert.
    func record(layer: Int, expert: Int) -> Int { Int(recordNumbers[layer * expertCount + expert]) }

    /// The numbers of the records in the order of their places in the file.
    var recordsByPlace: [Int] {
        let offsets = offsets
        return offsets.indices.sorted { offsets[$0] < offsets[$1] }
    }

    var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(16 + 4 * recordNumbers.count + offsets.count * (12 + 4 * planeCount))
        for number in [layerCount, expertCount, planeCount, offsets.count] {
            bytes.appendLittleEndian(UInt32(number))
        }
        for number in recordNumbers { bytes.appendLittleEndian(number) }
        for record in offsets.indices {
            bytes.appendLittleEndian(offsets[record])
            bytes.appendLittleEndian(layers[record])
            for plane in 0..<planeCount {
                bytes.appendLittleEndian(checksums[record * planeCount + plane])
            }
        }
        return bytes
    }

    /// Reads the section `bytes`, which lies at `extent`, and checks it against the shapes in `manifest`
    /// and the region `experts`: every record lies in it, and none over another.
    init(
        _ bytes: [UInt8], at extent: PackageExtent, manifest: PackageManifest,
        experts region: PackageExtent, path: String
    ) throws(ModelFileError) {
        func failure(_ offset: Int, _ message: String) -> ModelFileError {
            ModelFileError(
                path: path, field: "expert table", offset: extent.offset + UInt64(offset),
                message: message)
        }
        guard bytes.count >= 16 else {
            throw failure(0, "at least 16 bytes expected, \(bytes.count) found; it is damaged")
        }
        func number(_ offset: Int) -> Int { Int(bytes.littleEndian(at: offset, byteCount: 4)) }
        layerCount = manifest.layers.count
        expertCount = manifest.expertCount
        planeCount = manifest.planeCount
        for (index, expected) in [layerCount, expertCount, planeCount].enumerated() {
            guard number(4 * index) == expected else {
                throw failure(
                    4 * index,
                    "\(number(4 * index)) \(["layers", "experts", "planes"][index]) found, "
                        + "\(expected) in the manifest")
            }
        }
        let experts = layerCount * expertCount
        let count = number(12)
        let entryBytes = 12 + 4 * planeCount
        guard count >= 1, count <= experts, bytes.count == 16 + 4 * experts + count * entryBytes
        else {
            throw failure(
                12, "\(count) records of \(experts) experts do not make \(bytes.count) bytes")
        }
        let firstEntry = 16 + 4 * experts
        offsets = []
        layers = []
        checksums = []
        offsets.reserveCapacity(count)
        layers.reserveCapacity(count)
        checksums.reserveCapacity(count * planeCount)
        let recordBytes = manifest.layers.map { UInt64($0.recordBytes) }
        for record in 0..<count {
            let at = firstEntry + record * entryBytes
            let offset = bytes.littleEndian(at: at, byteCount: 8)
            let layer = number(at + 8)
            guard layer < layerCount else {
                throw failure(at + 8, "record \(record) is of layer \(layer) of \(layerCount)")
            }
            guard offset % UInt64(PackageFormat.page) == 0, offset >= region.offset,
                offset <= region.end, recordBytes[layer] <= region.end - offset
            else {
                throw failure(
                    at,
                    "record \(record), \(recordBytes[layer]) bytes at \(offset), does not lie on a "
                        + "page of the expert region, \(region.byteCount) bytes at \(region.offset)"
                )
            }
            offsets.append(offset)
            layers.append(UInt32(layer))
            for plane in 0..<planeCount {
                checksums.append(UInt32(number(at + 12 + 4 * plane)))
            }
        }
        recordNumbers = []
        recordNumbers.reserveCapacity(experts)
        let order = recordsByPlace
        for (before, after) in zip(order, order.dropFirst()) {
            guard offsets[before] + recordBytes[Int(layers[before])] <= offsets[after] else {
                throw failure(
                    firstEntry + after * entryBytes,
                    "record \(after) at \(offsets[after]) begins inside record \(before)")
            }
        }
        for index in 0..<experts {
            let at = 16 + 4 * index
            let record = number(at)
            guard record < count else {
                throw failure(
                    at,
                    "expert \(index % expertCount) of layer \(index / expertCount) is record "
                        + "\(record) of \(count)")
            }
            let own = manifest.layers[index / expertCount]
            let shared = manifest.layers[Int(layers[record])]
            guard own.parts == shared.parts, own.planes == shared.planes else {
                throw failure(
                    at,
                    "expert \(index % expertCount) of layer \(index / expertCount) is record "
                        + "\(record), which has the shape of layer \(layers[record])")
            }
            recordNumbers.append(UInt32(record))
        }
    }
}
