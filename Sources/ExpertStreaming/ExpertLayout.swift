/// Where one part (the gate, up or down matrix) of one plane of one expert lies on disk.
public struct ExpertExtent: Sendable, BitwiseCopyable, Equatable {
    /// Index of the file, in the order in which the streamer is given the paths.
    public var fileIndex: Int
    /// First byte, counted from the start of the file. Needs no alignment.
    public var offset: UInt64
    /// Length in bytes; 0 for a part that has nothing in this plane.
    public var byteCount: Int

    public init(fileIndex: Int, offset: UInt64, byteCount: Int) {
        self.fileIndex = fileIndex
        self.offset = offset
        self.byteCount = byteCount
    }
}

/// Where all experts of a model lie on disk.
///
/// `layer` counts the layers that have experts; others are not included. Every layer has the same
/// number of experts and every expert the same number of planes and parts, but their sizes may
/// differ: in a Q4_K_M file some layers store one matrix wider than others.
///
/// A *plane* is what is read, cached and given back as one: the whole expert where weights are not
/// cut; else the bits of one significance of all its parts. Two ids may name the same bytes.
public struct ExpertLayout: Sendable {
    public let layerCount: Int
    public let expertsPerLayer: Int
    public let partsPerExpert: Int
    /// Planes of every expert, most significant first, 1 ... 4; 1 where weights are not cut into
    /// planes.
    public let planesPerExpert: Int
    /// Whether a width of w planes needs planes 0 ..< w. If not, there are two: plane 0 is a
    /// complete expert of low precision, plane 1 the complete one, which needs no other.
    public let nested: Bool
    /// Layer-major, then expert, then plane, then part.
    public let extents: [ExpertExtent]
    /// CRC-32C of every plane, by layer, expert, plane: over the bytes of the file from the first
    /// byte of its first part to the last byte of its last one. Empty where there are none.
    public let checksums: [UInt32]
    /// Sizes in bytes of the files that the extents name by index.
    public let fileSizes: [UInt64]
    /// Planes that have bytes, by layer: those after them are empty for all its experts.
    private let widths: [Int]

    /// Largest expert that can be streamed, all parts together: 1 GiB, the kernel's limit for a
    /// registered buffer.
    public static let largestExpertBytes = 1 << 30
    /// Most planes that an expert can be cut into.
    public static let largestPlaneCount = 4
    /// Most bytes between two parts of a plane that has a checksum.
    private static let largestChecksumGap = 512

    /// Checks that every extent lies inside its file.
    ///
    /// - Throws: `StreamingError` naming the first extent that does not fit, or the count that is
    ///   wrong.
    public init(
        layerCount: Int, expertsPerLayer: Int, partsPerExpert: Int, planesPerExpert: Int = 1,
        nested: Bool = true, extents: [ExpertExtent], checksums: [UInt32] = [],
        fileSizes: [UInt64]
    ) throws(StreamingError) {
        guard layerCount > 0, expertsPerLayer > 0, partsPerExpert > 0, partsPerExpert <= 16,
            layerCount <= 1 << 16, expertsPerLayer <= 1 << 16,
            layerCount * expertsPerLayer <= 1 << 24,
            planesPerExpert > 0, planesPerExpert <= Self.largestPlaneCount,
            nested || planesPerExpert == 2
        else {
            throw StreamingError(
                .invalidLayout,
                "\(layerCount) layers of \(expertsPerLayer) experts in \(planesPerExpert) "
                    + "\(nested ? "" : "independent ")planes of \(partsPerExpert) parts: "
                    + "not a shape that can be streamed")
        }
        let planes = layerCount * expertsPerLayer * planesPerExpert
        guard extents.count == planes * partsPerExpert else {
            throw StreamingError(
                .invalidLayout,
                "\(extents.count) extents given for \(layerCount) layers of \(expertsPerLayer) "
                    + "experts in \(planesPerExpert) planes of \(partsPerExpert) parts")
        }
        guard checksums.isEmpty || checksums.count == planes else {
            throw StreamingError(
                .invalidLayout, "\(checksums.count) checksums given for \(planes) planes")
        }
        func name(_ index: Int) -> String {
            let plane = index / partsPerExpert
            let expert = plane / planesPerExpert
            return "expert \(expert % expertsPerLayer) of layer \(expert / expertsPerLayer), "
                + (planesPerExpert > 1 ? "plane \(plane % planesPerExpert), " : "")
                + "part \(index % partsPerExpert)"
        }
        for (index, extent) in extents.enumerated() {
            let empty = extent.byteCount == 0 && nested && planesPerExpert > 1
            let fits =
                extent.fileIndex >= 0 && extent.fileIndex < fileSizes.count && extent.byteCount > 0
                && extent.byteCount <= Self.largestExpertBytes / partsPerExpert / planesPerExpert
                && extent.offset <= fileSizes[extent.fileIndex]
                && UInt64(extent.byteCount) <= fileSizes[extent.fileIndex] - extent.offset
            guard empty || fits else {
                throw StreamingError(
                    .invalidLayout,
                    "\(name(index)): \(extent.byteCount) bytes at offset "
                        + "\(extent.offset) of file \(extent.fileIndex) do not lie inside a file "
                        + "(or the expert exceeds 1 GiB); is the file truncated?")
            }
        }
        var widths = [Int](repeating: 0, count: layerCount)
        for plane in 0..<planes {
            var previous: ExpertExtent?
            for index in plane * partsPerExpert..<(plane + 1) * partsPerExpert {
                let extent = extents[index]
                guard extent.byteCount > 0 else { continue }
                if !checksums.isEmpty, let previous {
                    let end = previous.offset + UInt64(previous.byteCount)
                    guard extent.fileIndex == previous.fileIndex, extent.offset >= end,
                        extent.offset - end < Self.largestChecksumGap
                    else {
                        throw StreamingError(
                            .invalidLayout,
                            "\(name(index)): lies at offset \(extent.offset), not behind the part "
                                + "before it, so that the plane's checksum cannot be checked")
                    }
                }
                previous = extent
            }
            let layer = plane / planesPerExpert / expertsPerLayer
            if previous != nil {
                widths[layer] = max(widths[layer], plane % planesPerExpert + 1)
            } else if plane % planesPerExpert == 0 {
                throw StreamingError(
                    .invalidLayout, "\(name(plane * partsPerExpert)): the first plane is empty")
            }
        }
        self.layerCount = layerCount
        self.expertsPerLayer = expertsPerLayer
        self.partsPerExpert = partsPerExpert
        self.planesPerExpert = planesPerExpert
        self.nested = nested
        self.extents = extents
        self.checksums = checksums
        self.fileSizes = fileSizes
        self.widths = widths
    }

    /// Planes that experts of a layer have bytes in; what comes after them needs no reading.
    func width(layer: Int) -> Int { widths[layer] }

    /// Bytes of weights of one expert at full width, without any slack.
    public func byteCount(layer: Int, expert: Int) -> Int {
        if !nested { return byteCount(layer: layer, expert: expert, plane: planesPerExpert - 1) }
        return (0..<planesPerExpert).reduce(0) {
            $0 + byteCount(layer: layer, expert: expert, plane: $1)
        }
    }

    /// Bytes of weights of one plane of an expert, without any slack.
    public func byteCount(layer: Int, expert: Int, plane: Int) -> Int {
        byteCount(
            planeIndex: (layer * expertsPerLayer + expert) * planesPerExpert + plane)
    }

    /// - Parameter planeIndex: (layer * expertsPerLayer + expert) * planesPerExpert + plane.
    func byteCount(planeIndex: Int) -> Int {
        var bytes = 0
        for index in planeIndex * partsPerExpert..<(planeIndex + 1) * partsPerExpert {
            bytes += extents[index].byteCount
        }
        return bytes
    }

    /// The aligned file range that must be read for part `part` of a plane and for as many of the
    /// following parts as touch it; nil if this part and all after it are empty.
    func range(planeIndex: Int, part: Int, alignment: Int) -> AlignedRange? {
        let mask = UInt64(alignment - 1)
        let first = planeIndex * partsPerExpert
        var next = part
        while next < partsPerExpert, extents[first + next].byteCount == 0 { next += 1 }
        guard next < partsPerExpert else { return nil }
        let extent = extents[first + next]
        let start = extent.offset & ~mask
        var wantedEnd = extent.offset + UInt64(extent.byteCount)
        next += 1
        while next < partsPerExpert {
            let following = extents[first + next]
            if following.byteCount > 0 {
                guard following.fileIndex == extent.fileIndex, following.offset >= wantedEnd,
                    following.offset & ~mask <= (wantedEnd + mask) & ~mask
                else { break }
                wantedEnd = following.offset + UInt64(following.byteCount)
            }
            next += 1
        }
        return AlignedRange(
            fileIndex: extent.fileIndex, start: start, end: (wantedEnd + mask) & ~mask,
            wantedEnd: wantedEnd, nextPart: next)
    }

    /// Bytes of memory that a plane takes when its ranges are laid one after the other.
    func slotBytes(planeIndex: Int, alignment: Int) -> Int {
        var bytes = 0
        var part = 0
        while let range = range(planeIndex: planeIndex, part: part, alignment: alignment) {
            bytes += range.byteCount
            part = range.nextPart
        }
        return bytes
    }
}

/// A file range that direct I/O can read: it starts and ends on multiples of the alignment, so it
/// may reach past the end of the file.
struct AlignedRange: BitwiseCopyable {
    var fileIndex: Int
    var start: UInt64
    var end: UInt64
    /// End of the bytes that are needed; a read that arrives there is complete.
    var wantedEnd: UInt64
    /// First part that is not inside.
    var nextPart: Int

    var byteCount: Int { Int(end - start) }
}
