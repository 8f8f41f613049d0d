private import CHost

// The way of a layer's experts: acquire, next, release; or, where they are more than the cache
// leases at once, acquire, next, release one, acquire more, next, ..., release.
extension ExpertStreamer {

    /// Experts of one layer that can be leased at the same time. Of a larger set the first are
    /// acquired, and the others as leases end: see `acquireMore`.
    public func leaseCapacity(layer: Int) -> Int { cache.leaseCapacity(layer: layer) }

    /// Experts that can be added to the acquired set now.
    public var leasesLeft: Int { leaseCapacity(layer: cache.layer) - leasedCount }

    /// Whether any plane of an expert is in memory, or being read.
    public func resident(layer: Int, expert: Int) -> Bool {
        let expertIndex = layer * layout.expertsPerLayer + expert
        for plane in 0..<layout.planesPerExpert
        where cache.slot(expertIndex: expertIndex, plane: plane) >= 0 {
            return true
        }
        return false
    }

    /// Planes of an expert that can be used at once: the widest version that is complete in memory;
    /// 0 while it is absent or being read. Planes that have no bytes in its layer count as there.
    public func residentPlanes(layer: Int, expert: Int) -> Int {
        cache.usablePlanes(expertIndex: layer * layout.expertsPerLayer + expert)
    }

    /// What was done since the start.
    public var statistics: ExpertStreamerStatistics {
        var statistics = counters
        statistics.evictions = cache.evictions
        statistics.demotions = cache.demotions
        statistics.usefulSpeculativeBytes = cache.usefulBytes
        statistics.wastedSpeculativeBytes = cache.wastedBytes
        statistics.prefetchLevel = governor?.level ?? layout.expertsPerLayer
        return statistics
    }

    /// A new sequence begins: policies that count per sequence forget.
    public mutating func beginSequence() { cache.ranking.beginSequence() }

    /// A new token (or chunk) begins, at layer 0.
    public mutating func beginToken() {
        govern()
        cache.beginToken()
        counters.prefetchDropped += UInt64(wishes.removeDue(cache.clock - 1))
    }

    /// As `acquire(layer:experts:planes:count:)`, asking for all planes of each expert.
    public mutating func acquire(layer: Int, experts: UnsafePointer<Int32>, count: Int) {
        unsafe acquire(layer: layer, experts: experts, planes: nil, count: count)
    }

    /// Leases the experts that are in memory, gives the missing planes of the others slots,
    /// evicting who deserves least to stay, and sends all their reads in one submit; when they are
    /// more than the disk is given at once, the rest follows from `next`, as room appears.
    ///
    /// - Parameters:
    ///   - experts: distinct, each below `layout.expertsPerLayer`. Not read again after the call.
    ///   - planes: how many planes are wanted of each, 1 ... `layout.planesPerExpert`, by index in
    ///     `experts`; nil asks for all. More are used where they are there.
    ///   - count: at most `leaseCapacity(layer:)`. The set acquired before must have been released.
    public mutating func acquire(
        layer: Int, experts: UnsafePointer<Int32>, planes: UnsafePointer<UInt8>?, count: Int
    ) {
        precondition(setCount == 0, "the experts acquired before are not released")
        precondition(
            layer >= 0 && layer < layout.layerCount && count >= 0
                && count <= leaseCapacity(layer: layer),
            "\(count) experts of layer \(layer) cannot be leased at once")
        failure = nil
        cache.enter(layer: layer)
        counters.prefetchDropped += UInt64(wishes.removeDue(cache.clock))
        unsafe lease(experts: experts, planes: planes, count: count)
    }

    /// Adds experts of the same layer to the acquired set, when leases of others have ended: they
    /// take the next indices, and what of them is missing is read behind what is being read. So the
    /// disk has work while what has arrived is computed.
    ///
    /// - Parameters:
    ///   - experts: as for `acquire`, and not in the set before.
    ///   - planes: as for `acquire`.
    ///   - count: at most `leasesLeft`.
    public mutating func acquireMore(
        experts: UnsafePointer<Int32>, planes: UnsafePointer<UInt8>?, count: Int
    ) {
        precondition(
            count >= 0 && count <= leasesLeft && setCount + count <= layout.expertsPerLayer,
            "\(count) more experts of layer \(cache.layer) cannot be leased")
        unsafe lease(experts: experts, planes: planes, count: count)
    }

    private mutating func lease(
        experts: UnsafePointer<Int32>, planes: UnsafePointer<UInt8>?, count: Int
    ) {
        let (layer, first) = (cache.layer, setCount)
        allowsBackground = false
        // All are held first: no miss may evict an expert of the same set.
        for index in first..<(first + count) {
            let expert = unsafe Int(experts[index - first])
            precondition(expert >= 0 && expert < layout.expertsPerLayer, "no expert \(expert)")
            var wanted = layout.planesPerExpert
            if let planes = unsafe planes { wanted = unsafe Int(planes[index - first]) }
            precondition(
                wanted >= 1 && wanted <= layout.planesPerExpert, "no width of \(wanted) planes")
            let expertIndex = layer * layout.expertsPerLayer + expert
            precondition(setIndex[expertIndex] < 0, "an expert is listed twice")
            setExperts[index] = Int32(expertIndex)
            setPlanes[index] = UInt8(wanted)
            setMissing[index] = 0
            setIndex[expertIndex] = Int32(index)
            cache.hold(expertIndex: expertIndex)
            let usable = cache.usablePlanes(expertIndex: expertIndex)
            if usable >= wanted {
                counters.hits += 1
                if proveUse(expertIndex: expertIndex, planes: wanted) {
                    counters.prefetchUseful += 1
                }
                ready[readyTail] = Int32(index)
                readyTail += 1
            } else {
                counters.misses += 1
                if usable > 0 { counters.partialHits += 1 }
                for plane in 0..<layout.planesPerExpert
                where cache.isMissing(expertIndex: expertIndex, plane: plane, for: wanted) {
                    setMissing[index] += 1
                }
                if proveUse(expertIndex: expertIndex, planes: wanted) {
                    counters.prefetchLate += 1
                }
            }
        }
        setCount += count
        leasedCount += count
        for plane in 0..<layout.planesPerExpert { readMissing(plane: plane, from: first) }
        allowsBackground = true
        if hasPiecesWaiting || hasBackgroundWork { move(wait: 0) }
    }

    /// What was read ahead of an expert has turned out to be wanted. True if anything was.
    private mutating func proveUse(expertIndex: Int, planes: Int) -> Bool {
        var proved = false
        for plane in 0..<planes {
            let slot = cache.slot(expertIndex: expertIndex, plane: plane)
            if slot >= 0, cache.prove(slot: slot) { proved = true }
        }
        return proved
    }

    /// Gives the planes of one number that the set misses, from index `first` on, slots, and queues
    /// their reads; those that are being read in the background become urgent.
    private mutating func readMissing(plane: Int, from first: Int) {
        var missing = 0
        for index in first..<setCount where isMissing(index: index, plane: plane) {
            let slot = cache.slot(expertIndex: Int(setExperts[index]), plane: plane)
            if slot >= 0 { promote(slot: slot) } else { missing += 1 }
        }
        if missing == 0 { return }
        let pool = cache.pool(layer: cache.layer, plane: plane)
        while !cache.makeRoom(pool: pool, count: missing) {
            precondition(reclaim(), "more experts leased than the cache has slots")
        }
        for index in first..<setCount where isMissing(index: index, plane: plane) {
            let planeIndex = Int(setExperts[index]) * layout.planesPerExpert + plane
            guard cache.slot(expertIndex: Int(setExperts[index]), plane: plane) < 0 else {
                continue
            }
            let slot = cache.takeSlot(planeIndex: planeIndex)
            let bytes = UInt64(layout.byteCount(planeIndex: planeIndex))
            counters.expertBytesMissed += bytes
            counters.planeBytesMissed[plane + 1] += bytes
            if beginRead(slot: slot, .demand) { demand.append(slot) } else { arrive(slot: slot) }
        }
    }

    private func isMissing(index: Int, plane: Int) -> Bool {
        cache.isMissing(
            expertIndex: Int(setExperts[index]), plane: plane, for: Int(setPlanes[index]))
    }

    /// The next expert of the acquired set that is here, as its index in the set: first those that
    /// were in memory, in order, then the others as they arrive.
    ///
    /// - Parameter wait: sleep until one arrives.
    /// - Returns: the index; -1 if none is here (or all were given out: see `outstanding`); -2 if a
    ///   read failed (see `failure`): the set should be released then.
    public mutating func next(wait: Bool) -> Int {
        while true {
            // Between two experts is the moment to fill the queue again.
            if hasPiecesWaiting || hasBackgroundWork, failure == nil { move(wait: 0) }
            if readyHead < readyTail {
                let index = Int(ready[readyHead])
                readyHead += 1
                setMissing[index] = Self.givenOut
                counters.givenByWidth[planes(index: index)] += 1
                return index
            }
            if failure != nil { return -2 }
            if readyHead == setCount { return -1 }
            move(wait: wait ? readsUntilNextExpert() : 0)
            if !wait, readyHead == readyTail { return failure == nil ? -1 : -2 }
        }
    }

    /// Stands for the missing slots of an expert that `next` has given out.
    private static var givenOut: Int32 { -1 }

    /// Experts of the acquired set that `next` has not given out.
    public var outstanding: Int { setCount - readyHead }

    /// Planes of a given-out expert that can be used; at least as many as were asked for.
    ///
    /// - Parameter index: its index in the acquired set.
    public func planes(index: Int) -> Int {
        precondition(isLeased(index: index), "no expert \(index) in the acquired set")
        return cache.usablePlanes(expertIndex: Int(setExperts[index]))
    }

    private func isLeased(index: Int) -> Bool {
        index >= 0 && index < setCount && setExperts[index] >= 0
    }

    /// Where a part of an expert that `next` has given out lies, of weights that are not cut into
    /// planes. Valid until its lease ends; without alignment.
    ///
    /// - Parameter index: its index in the acquired set.
    public func address(index: Int, part: Int) -> UnsafeRawPointer {
        unsafe address(index: index, plane: 0, part: part)
    }

    /// Where a part of a plane lies, of an expert that `next` has given out. Valid until its lease
    /// ends; without alignment.
    ///
    /// - Parameters:
    ///   - index: its index in the acquired set.
    ///   - plane: below `planes(index:)`, and not empty in this layer; where planes are not nested,
    ///     `planes(index:)` - 1.
    public func address(index: Int, plane: Int, part: Int) -> UnsafeRawPointer {
        precondition(isLeased(index: index) && part >= 0 && part < layout.partsPerExpert)
        let slot = cache.slot(expertIndex: Int(setExperts[index]), plane: plane)
        precondition(
            slot >= 0 && cache.state(slot: slot) == .resident, "plane \(plane) is not in memory")
        let place = Int(partPlaces[slot * layout.partsPerExpert + part])
        return unsafe UnsafeRawPointer(arena.address(slot: slot) + place)
    }

    /// Ends the lease of one expert that `next` has given out: it stays as the most recently used,
    /// until somebody needs its slots.
    ///
    /// - Parameter index: its index in the acquired set; nothing may ask for it again.
    public mutating func release(index: Int) {
        precondition(
            isLeased(index: index) && setMissing[index] == Self.givenOut,
            "expert \(index) of the acquired set was not given out")
        endLease(index: index)
    }

    private mutating func endLease(index: Int) {
        let expertIndex = Int(setExperts[index])
        cache.unhold(expertIndex: expertIndex)
        setIndex[expertIndex] = -1
        setExperts[index] = -1
        leasedCount -= 1
        if setMissing[index] <= 0 {
            let fully = cache.usablePlanes(expertIndex: expertIndex) == layout.planesPerExpert
            cache.ranking.used(expertIndex: expertIndex, fully: fully)
        }
    }

    /// Ends the leases of the acquired set.
    ///
    /// Waits for the set's reads in flight, and for no others. Planes whose reads failed, or were
    /// not sent yet, are forgotten; all others stay, the last of the set as the most recently used.
    ///
    /// - Parameter lastFirst: the first of the set as the most recently used instead.
    public mutating func release(lastFirst: Bool = false) {
        demand.removeAll()
        dropRetries()
        isReleasing = true
        var flying = readsInFlightForSet()
        while flying > 0 {
            move(wait: flying)
            flying = readsInFlightForSet()
        }
        isReleasing = false
        for place in 0..<setCount {
            let index = lastFirst ? setCount - 1 - place : place
            if setExperts[index] < 0 { continue }
            for plane in 0..<layout.planesPerExpert {
                let slot = cache.slot(expertIndex: Int(setExperts[index]), plane: plane)
                if isDemanded(slot: slot) { cache.discard(slot: slot) }
            }
            endLease(index: index)
        }
        setCount = 0
        readyHead = 0
        readyTail = 0
        if hasBackgroundWork, failure == nil { move(wait: 0) }
    }

    /// Whether a slot (or -1) is being read for the acquired set.
    private func isDemanded(slot: Int) -> Bool {
        slot >= 0 && cache.state(slot: slot) == .loading && reads[slot].priority == .demand
    }

    private func readsInFlightForSet() -> Int {
        var count = 0
        for index in 0..<setCount where setExperts[index] >= 0 {
            for plane in 0..<layout.planesPerExpert {
                let slot = cache.slot(expertIndex: Int(setExperts[index]), plane: plane)
                if isDemanded(slot: slot) { count += Int(reads[slot].flying) }
            }
        }
        return count
    }

    /// The failure that made `next` return -2, which is forgotten.
    public mutating func takeFailure() -> StreamingError? {
        defer { failure = nil }
        return failure
    }
}
