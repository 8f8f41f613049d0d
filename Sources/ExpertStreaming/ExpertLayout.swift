/// Where one part (the gate, up or down matrix) of one expert lies on disk.
public struct ExpertExtent: Sendable, BitwiseCopyable, Equatable {
    /// Index of the file, in the order in which the streamer is given the paths.
    public var fileIndex: Int
    /// First byte, counted from the start of the file. Needs no alignment.
    public var offset: UInt64
    /// Length in bytes; more than zero.
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
/// number of experts and every expert the same number of parts, but their sizes may differ: in a
/// Q4_K_M file some layers store one matrix wider than others.
public struct ExpertLayout: Sendable {
    public let layerCount: Int
    public let expertsPerLayer: Int
    public let partsPerExpert: Int
    /// Planes of every expert, most significant first; 1 where weights are not cut into planes.
    public var planesPerExpert: Int { 1 }
    /// Layer-major, then expert, then part.
    public let extents: [ExpertExtent]
    /// Sizes in bytes of the files that the extents name by index.
    public let fileSizes: [UInt64]

    /// Largest expert that can be streamed, all parts together: 1 GiB, the kernel's limit for a
    /// registered buffer.
    public static let largestExpertBytes = 1 << 30

    /// Checks that every extent lies inside its file.
    ///
    /// - Throws: `StreamingError` naming the first extent that does not fit, or the count that is
    ///   wrong.
    public init(
        layerCount: Int, expertsPerLayer: Int, partsPerExpert: Int, extents: [ExpertExtent],
        fileSizes: [UInt64]
    ) throws(StreamingError) {
        guard layerCount > 0, expertsPerLayer > 0, partsPerExpert > 0, partsPerExpert <= 16,
            layerCount <= 1 << 16, expertsPerLayer <= 1 << 16,
            layerCount * expertsPerLayer <= 1 << 24
        else {
            throw StreamingError(
                .invalidLayout,
                "\(layerCount) layers of \(expertsPerLayer) experts in \(partsPerExpert) parts: "
                    + "not a shape that can be streamed")
        }
        guard extents.count == layerCount * expertsPerLayer * partsPerExpert else {
            throw StreamingError(
                .invalidLayout,
                "\(extents.count) extents given for \(layerCount) layers of \(expertsPerLayer) "
                    + "experts in \(partsPerExpert) parts")
        }
        for (index, extent) in extents.enumerated() {
            let fits =
                extent.fileIndex >= 0 && extent.fileIndex < fileSizes.count && extent.byteCount > 0
                && extent.byteCount <= Self.largestExpertBytes / partsPerExpert
                && extent.offset <= fileSizes[extent.fileIndex]
                && UInt64(extent.byteCount) <= fileSizes[extent.fileIndex] - extent.offset
            guard fits else {
                let expert = index / partsPerExpert
                throw StreamingError(
                    .invalidLayout,
                    "expert \(expert % expertsPerLayer) of layer \(expert / expertsPerLayer), "
                        + "part \(index % partsPerExpert): \(extent.byteCount) bytes at offset "
                        + "\(extent.offset) of file \(extent.fileIndex) do not lie inside a file "
                        + "(or the expert exceeds 1 GiB); is the file truncated?")
            }
        }
        self.layerCount = layerCount
        self.expertsPerLayer = expertsPerLayer
        self.partsPerExpert = partsPerExpert
        self.extents = extents
        self.fileSizes = fileSizes
    }

    /// Bytes of weights of one expert, without any slack.
    public func byteCount(layer: Int, expert: Int) -> Int {
        let first = firstExtent(expertIndex: layer * expertsPerLayer + expert)
        return extents[first..<first + partsPerExpert].reduce(0) { $0 + $1.byteCount }
    }

    func firstExtent(expertIndex: Int) -> Int { expertIndex * partsPerExpert }

    /// The aligned file range that must be read for part `part` of an expert and for as many of the
    /// following parts as touch it.
    func range(expertIndex: Int, part: Int, alignment: Int) -> AlignedRange {
        let mask = UInt64(alignment - 1)
        let first = firstExtent(expertIndex: expertIndex)
        let extent = extents[first + part]
        let start = extent.offset & ~mask
        var wantedEnd = extent.offset + UInt64(extent.byteCount)
        var next = part + 1
        while next < partsPerExpert {
            let following = extents[first + next]
            guard following.fileIndex == extent.fileIndex, following.offset >= wantedEnd,
                following.offset & ~mask <= (wantedEnd + mask) & ~mask
            else { break }
            wantedEnd = following.offset + UInt64(following.byteCount)
            next += 1
        }
        return AlignedRange(
            fileIndex: extent.fileIndex, start: start, end: (wantedEnd + mask) & ~mask,
            wantedEnd: wantedEnd, nextPart: next)
    }

    /// Bytes of memory that an expert takes when its ranges are laid one after the other.
    func slotBytes(expertIndex: Int, alignment: Int) -> Int {
        var bytes = 0
        var part = 0
        while part < partsPerExpert {
            let range = range(expertIndex: expertIndex, part: part, alignment: alignment)
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
