private import CHost

// The way of a layer's experts: acquire, next, release.
extension ExpertStreamer {

    /// Experts of one layer that can be leased at the same time; a larger set must be cut into
    /// waves.
    public func leaseCapacity(layer: Int) -> Int {
        min(plan.classes[plan.classOfLayer[layer]].slotCount, layout.expertsPerLayer)
    }

    /// Whether an expert is in memory, or being read.
    public func resident(layer: Int, expert: Int) -> Bool {
        cache.slot(expertIndex: layer * layout.expertsPerLayer + expert) >= 0
    }

    /// What was done since the start.
    public var statistics: ExpertStreamerStatistics {
        var statistics = counters
        statistics.evictions = cache.evictions
        return statistics
    }

    /// Leases the experts that are in memory, gives the others slots, evicting the least recently
    /// used, and sends all their reads in one submit; when they are more than the disk is given at
    /// once, the rest follows from `next`, as room appears.
    ///
    /// - Parameters:
    ///   - experts: distinct, each below `layout.expertsPerLayer`. Not read again after the call.
    ///   - count: at most `leaseCapacity(layer:)`. The set acquired before must have been released.
    public mutating func acquire(layer: Int, experts: UnsafePointer<Int32>, count: Int) {
        precondition(setCount == 0, "the experts acquired before are not released")
        precondition(
            layer >= 0 && layer < layout.layerCount && count >= 0
                && count <= leaseCapacity(layer: layer),
            "\(count) experts of layer \(layer) cannot be leased at once")
        failure = nil
        setCount = count
        let firstExpert = layer * layout.expertsPerLayer

        // Hits first: no miss may evict an expert of the same set.
        for index in 0..<count {
            let expert = unsafe Int(experts[index])
            precondition(expert >= 0 && expert < layout.expertsPerLayer, "no expert \(expert)")
            let slot = cache.slot(expertIndex: firstExpert + expert)
            setSlots[index] = Int32(slot)
            if slot >= 0 {
                cache.lease(slot: slot)
                indexOfSlot[slot] = Int32(index)
                ready[readyTail] = Int32(index)
                readyTail += 1
            }
        }
        counters.hits += UInt64(readyTail)
        for index in 0..<count where setSlots[index] < 0 {
            let expertIndex = unsafe firstExpert + Int(experts[index])
            precondition(cache.slot(expertIndex: expertIndex) < 0, "an expert is listed twice")
            let slot = cache.takeSlot(expertIndex: expertIndex)
            setSlots[index] = Int32(slot)
            indexOfSlot[slot] = Int32(index)
            counters.misses += 1
            cutIntoPieces(expertIndex: expertIndex, slot: slot)
        }
        if pieceCount > 0 { move(wait: 0) }
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
            if hasPiecesWaiting, failure == nil { move(wait: 0) }
            if readyHead < readyTail {
                readyHead += 1
                return Int(ready[readyHead - 1])
            }
            if failure != nil { return -2 }
            if readyHead == setCount { return -1 }
            move(wait: wait ? readsUntilNextExpert() : 0)
            if !wait, readyHead == readyTail { return failure == nil ? -1 : -2 }
        }
    }

    /// Experts of the acquired set that `next` has not given out.
    public var outstanding: Int { setCount - readyHead }

    /// Where a part of an expert that `next` has given out lies. Valid until `release`; without
    /// alignment.
    ///
    /// - Parameter index: its index in the acquired set.
    public func address(index: Int, part: Int) -> UnsafeRawPointer {
        precondition(index >= 0 && index < setCount && part >= 0 && part < layout.partsPerExpert)
        let slot = Int(setSlots[index])
        let place = Int(partPlaces[slot * layout.partsPerExpert + part])
        return unsafe UnsafeRawPointer(arena.address(slot: slot) + place)
    }

    // MARK: Planes

    /// As `acquire(layer:experts:count:)`, asking for so many planes of each expert.
    ///
    /// - Parameter planes: by index in `experts`, 1 ... `layout.planesPerExpert`; nil asks for all.
    public mutating func acquire(
        layer: Int, experts: UnsafePointer<Int32>, planes: UnsafePointer<UInt8>?, count: Int
    ) {
        unsafe acquire(layer: layer, experts: experts, count: count)
    }

    /// Planes of a given-out expert that can be used; at least as many as were asked for.
    public func planes(index: Int) -> Int { 1 }

    /// Where a part of a plane lies, of an expert that `next` has given out. Valid until `release`.
    public func address(index: Int, plane: Int, part: Int) -> UnsafeRawPointer {
        unsafe address(index: index, part: part)
    }

    /// Planes of an expert that are in memory, complete; 0 while it is absent or being read.
    public func residentPlanes(layer: Int, expert: Int) -> Int {
        resident(layer: layer, expert: expert) ? 1 : 0
    }

    /// A new sequence begins.
    public mutating func beginSequence() {}

    /// A new token begins, at layer 0.
    public mutating func beginToken() {}

    /// Says which experts a later layer of this token will probably ask for, likeliest first. They
    /// are read when the disk has nothing better to do; nothing is promised.
    ///
    /// - Parameter planes: planes to read of each; nil asks for all.
    public mutating func prefetch(
        layer: Int, experts: UnsafePointer<Int32>, planes: UnsafePointer<UInt8>?, count: Int
    ) {}

    /// Asks for all planes of an expert that can wait for them: read behind what is demanded, and
    /// before what is guessed; nothing is promised.
    public mutating func requestUpgrade(layer: Int, expert: Int) {}

    /// Ends the leases of the acquired set.
    ///
    /// Waits for reads in flight. Experts whose reads failed, or were not sent yet, are forgotten;
    /// all others stay, the last of the set as the most recently used.
    public mutating func release() {
        nextPiece = pieceCount
        retryCount = 0
        isReleasing = true
        while inFlight > 0 { move(wait: inFlight) }
        isReleasing = false
        for index in 0..<setCount {
            let slot = Int(setSlots[index])
            if missingPieces[slot] == 0 {
                cache.release(slot: slot)
            } else {
                missingPieces[slot] = 0
                cache.discard(slot: slot)
            }
        }
        setCount = 0
        readyHead = 0
        readyTail = 0
        pieceCount = 0
        nextPiece = 0
    }

    /// The failure that made `next` return -2, which is forgotten.
    public mutating func takeFailure() -> StreamingError? {
        defer { failure = nil }
        return failure
    }
}
