/// What a model's experts need of a cache, in bytes of slots.
public struct CacheNeeds: Sendable, Equatable {
    /// The least that works: the active experts of one layer at a time, with all their planes, for
    /// every size class.
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
/// one class never holds an expert of another. In each class every plane has a *pool* of equal
/// slots. The bytes are shared out over the classes in proportion to their weights on disk, and in
/// a class so that every plane has as many slots as the others, or as the options' shares say.
public struct StreamingPlan: Sendable, Equatable {

    /// Equal slots for one plane.
    public struct Pool: Sendable, Equatable {
        public var slotBytes: Int
        public var slotCount: Int
    }

    /// The slots of the layers whose experts have the same size.
    public struct SizeClass: Sendable, Equatable {
        /// By plane; planes that have no bytes in these layers have no pool.
        public internal(set) var pools: [Pool]
        /// Experts that share the slots.
        public internal(set) var expertCount: Int
        public internal(set) var layerCount: Int

        /// Memory of one expert with all its planes, in bytes.
        public var slotBytes: Int { pools.reduce(0) { $0 + $1.slotBytes } }
        /// Experts that can be in memory, at least with their first plane.
        public var slotCount: Int { pools[0].slotCount }
        /// Experts that can be in memory with all their planes.
        public var fullSlotCount: Int { pools.reduce(Int.max) { min($0, $1.slotCount) } }
        public var byteCount: Int { pools.reduce(0) { $0 + $1.slotBytes * $1.slotCount } }
    }

    public internal(set) var classes: [SizeClass]
    /// Index into `classes`, by layer.
    public let classOfLayer: [Int]
    /// Direct I/O alignment in bytes that the slots were laid out for; a power of two.
    public let alignment: Int
    /// What the model would need; the plan holds at least the floor.
    public let needs: CacheNeeds
    /// Tables and read queue, in bytes.
    private let tableBytes: Int

    /// Memory for slots; at most what was asked for.
    public var arenaBytes: Int { classes.reduce(0) { $0 + $1.byteCount } }
    /// What comes on top: tables, read queue, what reads through the page cache leave there for a
    /// moment, and the kernel's page tables and pins for the slots.
    public var fixedBytes: Int {
        tableBytes + Self.kernelBytes(arena: arenaBytes) + min(Disk.cachedWindowBytes, arenaBytes)
    }
    /// Everything the streamer takes, besides the layout.
    public var totalBytes: Int { arenaBytes + fixedBytes }
    /// Experts that can be in memory, at least with their first plane.
    public var slotCount: Int { classes.reduce(0) { $0 + $1.slotCount } }
    /// Whether every plane of every expert has a slot, so that nothing is ever evicted.
    public var holdsEverything: Bool { classes.allSatisfy { $0.fullSlotCount == $0.expertCount } }
    /// How many times the active set the cache is.
    public var multipleOfActiveSet: Double { Double(arenaBytes) / Double(needs.activeSetBytes) }

    /// Shares `cacheBytes` out over size classes and planes.
    ///
    /// - Parameter planeShares: as in `StreamingOptions`.
    /// - Throws: `cacheTooSmall` with the size that would do.
    init(
        layout: ExpertLayout, alignment: Int, active: Int, cacheBytes: Int,
        planeShares: [Double] = []
    ) throws(StreamingError) {
        precondition(
            alignment > 0 && alignment & (alignment - 1) == 0, "alignment is a power of two")
        precondition(active > 0, "a token needs at least one expert")
        guard planeShares.allSatisfy({ $0 > 0 && $0 <= 1 }), planeShares.first ?? 1 == 1,
            planeShares.count <= layout.planesPerExpert
        else {
            throw StreamingError(
                .invalidLayout,
                "shares of \(planeShares) for \(layout.planesPerExpert) planes: the first is 1, "
                    + "and no other is larger or 0")
        }
        let active = min(active, layout.expertsPerLayer)
        let (classes, weights, classOfLayer) = Self.classes(of: layout, alignment: alignment)
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
        let shares =
            planeShares
            + [Double](repeating: 1, count: layout.planesPerExpert - planeShares.count)
        self.classes = Self.share(
            cacheBytes, over: classes, weights: weights, floor: active, planeShares: shares)
        self.classOfLayer = classOfLayer
        self.alignment = alignment
        self.needs = needs
        let experts = layout.layerCount * layout.expertsPerLayer
        // A pool may be resized to hold every expert, and the tables are made for that.
        tableBytes =
            experts * Self.tableBytesPerExpert + experts * layout.planesPerExpert
            * (Self.tableBytesPerPlane + 4 * layout.partsPerExpert) + Self.queueBytes
    }

    /// Takes other slot counts, given by class and plane.
    mutating func setSlotCounts(_ counts: [Int]) {
        var pool = 0
        for index in classes.indices {
            for plane in classes[index].pools.indices {
                classes[index].pools[plane].slotCount = counts[pool]
                pool += 1
            }
        }
    }

    /// The layers by the sizes of their experts, with nothing shared out yet; the bytes of each
    /// class on disk; and the class of every layer.
    private static func classes(
        of layout: ExpertLayout, alignment: Int
    ) -> (classes: [SizeClass], weights: [Int], classOfLayer: [Int]) {
        var classes: [SizeClass] = []
        var weights: [Int] = []
        var keys: [[Int]] = []
        var classOfLayer: [Int] = []
        // Every slot starts on a page boundary, and on one of direct I/O.
        let step = max(4096, alignment)
        for layer in 0..<layout.layerCount {
            let width = layout.width(layer: layer)
            var largest = [Int](repeating: 0, count: width)
            var slotBytes = [Int](repeating: step, count: width)
            var total = 0
            for expert in 0..<layout.expertsPerLayer {
                let first = (layer * layout.expertsPerLayer + expert) * layout.planesPerExpert
                for plane in 0..<width {
                    let bytes = layout.byteCount(planeIndex: first + plane)
                    largest[plane] = max(largest[plane], bytes)
                    total += bytes
                    let needed = layout.slotBytes(planeIndex: first + plane, alignment: alignment)
                    slotBytes[plane] = max(slotBytes[plane], (needed + step - 1) / step * step)
                }
            }
            // Layers with equal experts share a class even if their offsets need different slack.
            let index = keys.firstIndex(of: largest) ?? keys.count
            if index == keys.count {
                keys.append(largest)
                weights.append(0)
                let pools = slotBytes.map { Pool(slotBytes: $0, slotCount: 0) }
                classes.append(SizeClass(pools: pools, expertCount: 0, layerCount: 0))
            }
            weights[index] += total
            for plane in 0..<width {
                classes[index].pools[plane].slotBytes = max(
                    classes[index].pools[plane].slotBytes, slotBytes[plane])
            }
            classes[index].expertCount += layout.expertsPerLayer
            classes[index].layerCount += 1
            classOfLayer.append(index)
        }
        return (classes, weights, classOfLayer)
    }

    /// Page tables (8 bytes) and the pinned page list of a registered buffer (16 bytes), per 4 KiB
    /// page.
    private static func kernelBytes(arena: Int) -> Int { arena / 4096 * 24 }

    /// The ring, or the reader threads' stacks, and the kernel's requests in flight.
    private static let queueBytes = 2 << 20
    /// What the cache, the ranking and the set keep of an expert.
    private static let tableBytesPerExpert = 96
    /// What the cache, the arena and the reader keep of a plane and of its slot, without the places
    /// of its parts.
    private static let tableBytesPerPlane = 64

    /// Proportional shares, none below `floor` slots in every pool and none above one slot per
    /// expert; what the bounds leave over goes to the other classes, and remainders to whichever
    /// class they can still buy a slot in.
    private static func share(
        _ bytes: Int, over classes: [SizeClass], weights: [Int], floor: Int, planeShares: [Double]
    ) -> [SizeClass] {
        var classes = classes
        var open = Array(classes.indices)
        var left = bytes
        while !open.isEmpty {
            let weight = open.reduce(0.0) { $0 + Double(weights[$1]) }
            let wanted = open.map { Double(left) * Double(weights[$0]) / weight }
            // Floors first: what they take beyond their share has to come from the others.
            let low = zip(open, wanted).filter {
                $0.1 < Double(classes[$0.0].slotBytes * floor)
            }.map(\.0)
            let high = zip(open, wanted).filter {
                $0.1 >= Double(classes[$0.0].slotBytes * classes[$0.0].expertCount)
            }.map(\.0)
            let bound = low.isEmpty ? high : low
            let settled = bound.isEmpty ? open : bound
            for (index, bytes) in zip(open, wanted) where settled.contains(index) {
                let size = classes[index]
                let allowed =
                    bound.isEmpty
                    ? Int(bytes) : size.slotBytes * (low.isEmpty ? size.expertCount : floor)
                classes[index].divide(allowed, floor: floor, planeShares: planeShares)
                left -= classes[index].byteCount
            }
            open.removeAll { settled.contains($0) }
        }
        for index in classes.indices.sorted(by: { classes[$0].slotBytes > classes[$1].slotBytes }) {
            left += classes[index].byteCount
            classes[index].divide(left, floor: floor, planeShares: planeShares)
            left -= classes[index].byteCount
        }
        return classes
    }
}

extension StreamingPlan.SizeClass {

    /// Shares `bytes` out over the planes: as many slots of plane 0 as fit with those of the others
    /// that go with them, and what is left to the later ones. `bytes` hold at least `floor` slots
    /// of every pool.
    fileprivate mutating func divide(_ bytes: Int, floor: Int, planeShares: [Double]) {
        func count(_ plane: Int, _ slots: Int) -> Int {
            min(expertCount, max(floor, Int(Double(slots) * planeShares[plane])))
        }
        func cost(_ slots: Int) -> Int {
            pools.indices.reduce(0) { $0 + pools[$1].slotBytes * count($1, slots) }
        }
        var fits = floor
        var tooMany = expertCount + 1
        while tooMany - fits > 1 {
            let middle = (fits + tooMany) / 2
            if cost(middle) <= bytes { fits = middle } else { tooMany = middle }
        }
        var left = bytes - cost(fits)
        for plane in pools.indices {
            let planned = count(plane, fits)
            // With all experts at low width in memory, more of them can be there at full width.
            let more =
                fits == expertCount
                ? min(left / pools[plane].slotBytes, expertCount - planned) : 0
            pools[plane].slotCount = planned + more
            left -= more * pools[plane].slotBytes
        }
    }
}
