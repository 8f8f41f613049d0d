/// What the expert cache of a model needs, in bytes of slots.
public struct CacheNeeds: Sendable, Equatable {
    /// The least that works: the active experts of one layer at a time, for every size class.
    public var floorBytes: Int
    /// The experts that one token uses: the active experts of every layer. Below it LRU hits
    /// nothing.
    public var activeSetBytes: Int
    /// Every expert in memory; more is never used.
    public var fullBytes: Int
}

/// The memory of an expert cache, worked out before any of it is allocated.
///
/// Slots come in *size classes*: layers whose experts have the same size share slots, and a slot of
/// one class never holds an expert of another. The bytes are shared out in proportion to the
/// classes' weights on disk.
public struct StreamingPlan: Sendable, Equatable {

    /// Equal slots for the layers whose experts have the same size.
    public struct SizeClass: Sendable, Equatable {
        public var slotBytes: Int
        public var slotCount: Int
        /// Experts that share the slots.
        public var expertCount: Int
        public var layerCount: Int
    }

    public let classes: [SizeClass]
    /// Index into `classes`, by layer.
    public let classOfLayer: [Int]
    /// Direct I/O alignment in bytes that the slots were laid out for; a power of two.
    public let alignment: Int
    /// What the model would need; the plan holds at least the floor.
    public let needs: CacheNeeds
    /// Memory for slots; at most what was asked for.
    public let arenaBytes: Int
    /// What comes on top: tables, read queue, what reads through the page cache leave there for a
    /// moment, and the kernel's page tables and pins for the slots.
    public let fixedBytes: Int

    /// Everything the streamer takes, besides the layout.
    public var totalBytes: Int { arenaBytes + fixedBytes }
    public var slotCount: Int { classes.reduce(0) { $0 + $1.slotCount } }
    /// Whether every expert has a slot, so that nothing is ever evicted.
    public var holdsEverything: Bool { classes.allSatisfy { $0.slotCount == $0.expertCount } }
    /// How many times the active set the cache is.
    public var multipleOfActiveSet: Double { Double(arenaBytes) / Double(needs.activeSetBytes) }

    /// Shares `cacheBytes` out over the size classes.
    ///
    /// - Throws: `cacheTooSmall` with the size that would do.
    init(layout: ExpertLayout, alignment: Int, active: Int, cacheBytes: Int) throws(StreamingError)
    {
        precondition(
            alignment > 0 && alignment & (alignment - 1) == 0, "alignment is a power of two")
        precondition(active > 0, "a token needs at least one expert")
        let active = min(active, layout.expertsPerLayer)

        var classes: [SizeClass] = []
        var weights: [Int] = []  // bytes on disk, by class
        var keys: [Int] = []
        var classOfLayer: [Int] = []
        for layer in 0..<layout.layerCount {
            var largest = 0
            var slotBytes = 0
            var total = 0
            for expert in 0..<layout.expertsPerLayer {
                let bytes = layout.byteCount(layer: layer, expert: expert)
                largest = max(largest, bytes)
                total += bytes
                slotBytes = max(
                    slotBytes,
                    layout.slotBytes(
                        expertIndex: layer * layout.expertsPerLayer + expert, alignment: alignment))
            }
            // Layers with equal experts share a class even if their offsets need different slack.
            let index = keys.firstIndex(of: largest) ?? keys.count
            if index == keys.count {
                keys.append(largest)
                weights.append(0)
                classes.append(SizeClass(slotBytes: 0, slotCount: 0, expertCount: 0, layerCount: 0))
            }
            weights[index] += total
            // Every slot starts on a page boundary, and on one of direct I/O.
            let step = max(4096, alignment)
            classes[index].slotBytes = max(
                classes[index].slotBytes, (slotBytes + step - 1) / step * step)
            classes[index].expertCount += layout.expertsPerLayer
            classes[index].layerCount += 1
            classOfLayer.append(index)
        }

        let needs = CacheNeeds(
            floorBytes: classes.reduce(0) { $0 + $1.slotBytes * active },
            activeSetBytes: classes.reduce(0) { $0 + $1.slotBytes * active * $1.layerCount },
            fullBytes: classes.reduce(0) { $0 + $1.slotBytes * $1.expertCount })
        guard cacheBytes >= needs.floorBytes else {
            throw StreamingError(
                .cacheTooSmall,
                "an expert cache of \(ByteSize(bytes: cacheBytes)) cannot hold the \(active) "
                    + "experts that a token uses in one layer; give it at least "
                    + "\(ByteSize(bytes: needs.floorBytes).enoughMegabytes) "
                    + "(\(ByteSize(bytes: needs.activeSetBytes)) are one token's active set)")
        }
        Self.share(cacheBytes, over: &classes, weights: weights, floor: active)

        self.classes = classes
        self.classOfLayer = classOfLayer
        self.alignment = alignment
        self.needs = needs
        arenaBytes = classes.reduce(0) { $0 + $1.slotBytes * $1.slotCount }
        let slots = classes.reduce(0) { $0 + $1.slotCount }
        let pieces = Self.pieceCapacity(layout: layout, classes: classes)
        fixedBytes =
            layout.layerCount * layout.expertsPerLayer * 4 + slots
            * (40 + 4 * layout.partsPerExpert)
            + pieces * (MemoryLayout<ReadPiece>.stride + 8) + Self.kernelBytes(arena: arenaBytes)
            + Self.queueBytes + min(Disk.cachedWindowBytes, arenaBytes)
    }

    /// Page tables (8 bytes) and the pinned page list of a registered buffer (16 bytes), per 4 KiB
    /// page.
    private static func kernelBytes(arena: Int) -> Int { arena / 4096 * 24 }

    /// The ring, or the reader threads' stacks, and the kernel's requests in flight.
    private static let queueBytes = 2 << 20

    /// Read pieces that one acquired set can need at most.
    static func pieceCapacity(layout: ExpertLayout, classes: [SizeClass]) -> Int {
        classes.reduce(0) { most, size in
            let experts = min(size.slotCount, layout.expertsPerLayer)
            let pieces = size.slotBytes / ReadPiece.largestBytes + layout.partsPerExpert
            return max(most, experts * pieces)
        }
    }

    /// Proportional shares, none below `floor` slots and none above one slot per expert; what the
    /// bounds leave over goes to the other classes, and remainders to whichever class they can
    /// still buy a slot in.
    private static func share(
        _ bytes: Int, over classes: inout [SizeClass], weights: [Int], floor: Int
    ) {
        var open = Array(classes.indices)
        var left = bytes
        while !open.isEmpty {
            let weight = open.reduce(0.0) { $0 + Double(weights[$1]) }
            let wanted = open.map { index in
                Int(
                    (Double(left) * Double(weights[index]) / weight)
                        / Double(classes[index].slotBytes))
            }
            // Floors first: what they take beyond their share has to come from the others.
            let low = zip(open, wanted).filter { $0.1 < floor }.map(\.0)
            let high = zip(open, wanted).filter { $0.1 >= classes[$0.0].expertCount }.map(\.0)
            let bound = low.isEmpty ? high : low
            if bound.isEmpty {
                for (index, slots) in zip(open, wanted) {
                    classes[index].slotCount = slots
                    left -= slots * classes[index].slotBytes
                }
                break
            }
            for index in bound {
                classes[index].slotCount = low.isEmpty ? classes[index].expertCount : floor
                left -= classes[index].slotCount * classes[index].slotBytes
            }
            open.removeAll { bound.contains($0) }
        }
        for index in classes.indices.sorted(by: { classes[$0].slotBytes > classes[$1].slotBytes }) {
            let more = min(
                left / classes[index].slotBytes,
                classes[index].expertCount - classes[index].slotCount)
            guard more > 0 else { continue }
            classes[index].slotCount += more
            left -= more * classes[index].slotBytes
        }
    }
}
