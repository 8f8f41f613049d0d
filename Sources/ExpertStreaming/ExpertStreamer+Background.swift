// Reads that nobody waits for: upgrades of experts in use, and predicted experts.
//
// They begin when no read of the acquired set waits, and little of it is in flight; a small window
// of them is in flight at a time, so that whatever is asked for next waits little behind them. They
// go on while layers and tokens pass. When their expert is asked for, they become urgent.
//
//     prefetch -> wishes ----+                       +-> promoted -> demand
//                            +-> background -> disk -+-> resident
//     requestUpgrade --------+                       +-> failed: forgotten
extension ExpertStreamer {

    /// Bytes of background reads in flight at which further ones wait: 2.4 ms of a disk of 0.86
    /// GB/s, 0.7 ms of one of 3 GB/s.
    static let backgroundWindowBytes = 2 << 20
    /// Bytes of the set's reads in flight above which nothing is sent in the background.
    static let quietBytes = 1 << 20

    /// Says which experts a layer to come will probably ask for, likeliest first. They are read
    /// when the disk has nothing better to do, as far as they are absent, and those in memory stay
    /// until the layer has passed; nothing is promised, and the governor may allow only the first
    /// of them, or none, to be read. Replaces what was said of that layer before.
    ///
    /// - Parameters:
    ///   - layer: the next layer of this number: of this token if it is still to come, else of the
    ///     next.
    ///   - experts: each below `layout.expertsPerLayer`. Not read again after the call.
    ///   - planes: planes to read of each, 1 ... `layout.planesPerExpert`; nil asks for all.
    public mutating func prefetch(
        layer: Int, experts: UnsafePointer<Int32>, planes: UnsafePointer<UInt8>?, count: Int
    ) {
        precondition(layer >= 0 && layer < layout.layerCount && count >= 0, "no layer \(layer)")
        let due = cache.due(layer: layer)
        counters.prefetchDropped += UInt64(wishes.removeDue(from: due, through: due))
        let allowed = governor?.allowedRanks ?? layout.expertsPerLayer
        for rank in 0..<min(count, layout.expertsPerLayer) {
            let expert = unsafe Int(experts[rank])
            precondition(expert >= 0 && expert < layout.expertsPerLayer, "no expert \(expert)")
            var wanted = layout.planesPerExpert
            if let planes = unsafe planes { wanted = unsafe Int(planes[rank]) }
            precondition(
                wanted >= 1 && wanted <= layout.planesPerExpert, "no width of \(wanted) planes")
            let expertIndex = layer * layout.expertsPerLayer + expert
            cache.predict(expertIndex: expertIndex, due: due)
            guard rank < allowed, needsReading(expertIndex: expertIndex, planes: wanted) else {
                continue
            }
            let wish = PrefetchQueue.Wish(
                expertIndex: Int32(expertIndex), planes: UInt8(wanted), rank: UInt16(rank), due: due
            )
            if !wishes.insert(wish) { counters.prefetchDropped += 1 }
        }
        poll()
    }

    /// Counts a token for the governor, and shows it the window when that is full.
    mutating func govern() {
        guard governor != nil else { return }
        windowTokens += 1
        guard windowTokens > PrefetchGovernor.windowTokens else { return }
        let now = statistics
        let done = now - windowStart
        governor?.end(
            PrefetchGovernor.Window(
                tokens: windowTokens - 1, stallNanoseconds: done.stallNanoseconds,
                usefulBytes: done.usefulSpeculativeBytes, wastedBytes: done.wastedSpeculativeBytes))
        windowStart = now
        windowTokens = 1
    }

    /// Asks for the missing planes of an expert that is in memory at a narrower width. They are
    /// read after all that is acquired and before all that is predicted, if room for them can be
    /// taken from experts that deserve it less; nothing is promised.
    public mutating func requestUpgrade(layer: Int, expert: Int) {
        precondition(
            layer >= 0 && layer < layout.layerCount && expert >= 0
                && expert < layout.expertsPerLayer, "no expert \(expert) in layer \(layer)")
        let expertIndex = layer * layout.expertsPerLayer + expert
        for index in 0..<upgrades.count where upgrades[index] == expertIndex { return }
        guard !upgrades.isFull,
            needsReading(expertIndex: expertIndex, planes: layout.planesPerExpert)
        else { return }
        upgrades.append(expertIndex)
        poll()
    }

    /// Deals with reads that have arrived, and sends what waits in the background. `acquire`,
    /// `next` and `release` do it too; call it between the steps of a long computation, so that the
    /// disk does not run dry.
    public mutating func poll() {
        if failure == nil, hasBackgroundWork || hasPiecesWaiting || inFlight > 0 { move(wait: 0) }
    }

    /// Whether anything waits to be read in the background.
    var hasBackgroundWork: Bool { background.count > 0 || upgrades.count > 0 || wishes.count > 0 }

    /// Whether a plane of a width is neither there nor on its way.
    private func needsReading(expertIndex: Int, planes: Int) -> Bool {
        for plane in 0..<planes
        where cache.isMissing(expertIndex: expertIndex, plane: plane, for: planes)
            && cache.slot(expertIndex: expertIndex, plane: plane) < 0
        {
            return true
        }
        return false
    }

    /// Gives the next expert in line slots for its missing planes and queues their reads.
    ///
    /// - Returns: false if nobody is in line.
    mutating func beginBackgroundRead() -> Bool {
        while upgrades.count > 0 {
            let expertIndex = upgrades[0]
            upgrades.removeFirst()
            // It may have left since.
            guard cache.usablePlanes(expertIndex: expertIndex) > 0 else { continue }
            // Who is leased is in use now, whatever the ranking knows of it yet.
            let begun = begin(
                expertIndex: expertIndex, planes: layout.planesPerExpert, .upgrade,
                setIndex[expertIndex] < 0 ? .upgrade(expertIndex: expertIndex) : .speculation)
            counters.upgradeBytes += UInt64(begun)
            if begun > 0 { return true }
        }
        while let wish = wishes.removeFirst() {
            let begun = begin(
                expertIndex: Int(wish.expertIndex), planes: Int(wish.planes), .speculation,
                .speculation)
            counters.speculativeBytes += UInt64(begun)
            if begun > 0 {
                counters.prefetchIssued += 1
                return true
            }
            counters.prefetchDropped += 1
        }
        return false
    }

    /// - Returns: bytes of weights that will be read; 0 if there is no room or nothing to read.
    private mutating func begin(
        expertIndex: Int, planes: Int, _ priority: ReadPriority, _ purpose: ExpertCache.Purpose
    ) -> Int {
        var begun = 0
        cache.hold(expertIndex: expertIndex)
        defer { cache.unhold(expertIndex: expertIndex) }
        for plane in 0..<planes
        where cache.isMissing(expertIndex: expertIndex, plane: plane, for: planes)
            && cache.slot(expertIndex: expertIndex, plane: plane) < 0
        {
            let pool = cache.pool(layer: expertIndex / layout.expertsPerLayer, plane: plane)
            guard cache.makeRoom(pool: pool, count: 1, for: purpose) else { break }
            let planeIndex = expertIndex * layout.planesPerExpert + plane
            let slot = cache.takeSlot(planeIndex: planeIndex)
            let bytes = layout.byteCount(planeIndex: planeIndex)
            if priority == .speculation { cache.doubt(slot: slot, byteCount: bytes) }
            begun += bytes
            if beginRead(slot: slot, priority) {
                background.append(slot)
            } else {
                arrive(slot: slot)
            }
        }
        return begun
    }

    /// A slot that is read in the background is wanted now.
    mutating func promote(slot: Int) {
        guard reads[slot].priority != .demand else { return }
        reads[slot].priority = .demand
        // What was given up is in no queue; it is read anew when the last of it has arrived.
        if background.remove(slot) { demand.append(slot) }
    }

    /// Gives up the reading of a slot in the background.
    mutating func abandon(slot: Int) {
        _ = background.remove(slot)
        reads[slot].isAbandoned = true
        settle(slot: slot)
    }

    /// A slot whose reading was given up is free when nothing more of it is in flight; unless it
    /// was asked for since.
    mutating func settle(slot: Int) {
        guard reads[slot].flying == 0 else { return }
        if reads[slot].priority == .demand {
            if isReleasing { return }
            _ = beginRead(slot: slot, .demand)
            demand.append(slot)
        } else {
            cache.discard(slot: slot)
        }
    }

    /// Gives up what is being read in the background, to have its slots back.
    ///
    /// - Returns: false if there is nothing to give up.
    mutating func reclaim() -> Bool {
        if background.count > 0 {
            abandon(slot: background[0])
            return true
        }
        guard backgroundInFlight > 0 || retryCount > 0 else { return false }
        move(wait: 1)
        return true
    }
}
