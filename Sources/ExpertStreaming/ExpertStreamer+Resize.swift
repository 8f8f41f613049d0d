private import CHost

// Experts that stay for ever, and a cache that becomes smaller or larger between tokens.
extension ExpertStreamer {

    /// Reads an expert with all its planes and keeps it for ever.
    ///
    /// - Throws: `cacheTooSmall` if too few slots would be left to a token's other experts; the
    ///   error of a failed read. Then nothing is pinned.
    public mutating func pin(layer: Int, expert: Int) throws(StreamingError) {
        precondition(setCount == 0, "the experts acquired before are not released")
        precondition(
            layer >= 0 && layer < layout.layerCount && expert >= 0
                && expert < layout.expertsPerLayer, "no expert \(expert) in layer \(layer)")
        let expertIndex = layer * layout.expertsPerLayer + expert
        let kept = active
        guard cache.pin(expertIndex: expertIndex, active: kept) else {
            let size = plan.classes[plan.classOfLayer[layer]]
            throw StreamingError(
                .cacheTooSmall,
                "expert \(expert) of MoE layer \(layer) cannot be pinned: of its layers' "
                    + "\(size.fullSlotCount) slots \(cache.leaseCapacity(layer: layer)) are not "
                    + "pinned, and a token needs \(active) of them; enlarge the cache or pin less")
        }
        var number = Int32(expert)
        unsafe acquire(layer: layer, experts: &number, count: 1)
        while outstanding > 0, next(wait: true) >= 0 {}
        release()
        if let failure = takeFailure() {
            cache.unpin(expertIndex: expertIndex)
            throw failure
        }
    }

    /// Lets a pinned expert be evicted again.
    public mutating func unpin(layer: Int, expert: Int) {
        precondition(
            layer >= 0 && layer < layout.layerCount && expert >= 0
                && expert < layout.expertsPerLayer, "no expert \(expert) in layer \(layer)")
        cache.unpin(expertIndex: layer * layout.expertsPerLayer + expert)
    }

    /// Makes the cache smaller or larger, between tokens: no set may be acquired.
    ///
    /// Waits for reads in flight, and forgets predictions. A smaller cache keeps the planes of the
    /// experts that deserve it most; its memory is the kernel's again when the call returns. While
    /// it works, never more memory is taken than before or after.
    ///
    /// - Parameter cacheBytes: memory for slots, as for `init`.
    /// - Throws: `cacheTooSmall`, and nothing has changed; `outOfMemory`, and the cache is no
    ///   larger than it was (see `plan`). It goes on working either way.
    public mutating func resize(cacheBytes: Int) throws(StreamingError) {
        precondition(setCount == 0, "the experts acquired before are not released")
        var wanted = try StreamingPlan(
            layout: layout, alignment: plan.alignment, active: active, cacheBytes: cacheBytes,
            planeShares: planeShares)
        var pool = 0
        for size in wanted.classes {
            for planned in size.pools {
                let pinned = cache.pinnedCount(pool: pool)
                guard planned.slotCount >= pinned + active else {
                    throw StreamingError(
                        .cacheTooSmall,
                        "an expert cache of \(ByteSize(bytes: cacheBytes)) has "
                            + "\(planned.slotCount) slots for layers of which \(pinned) experts "
                            + "are pinned, and a token needs \(active) more; pin less, or give more"
                    )
                }
                pool += 1
            }
        }
        finishBackground()
        // What is given back comes first, so that what is taken fits beside what is left.
        let before = (0..<pool).map { cache.slotCount(pool: $0) }
        let after = wanted.classes.flatMap { $0.pools.map(\.slotCount) }
        for pool in before.indices where after[pool] < before[pool] {
            shrink(pool: pool, to: after[pool])
        }
        var refusal: StreamingError?
        for pool in before.indices where after[pool] > before[pool] && refusal == nil {
            do throws(StreamingError) {
                try grow(pool: pool, to: after[pool], planned: wanted.arenaBytes)
            } catch {
                refusal = error
            }
        }
        if refusal != nil {
            for pool in before.indices { shrink(pool: pool, to: min(before[pool], after[pool])) }
        }
        disk.registerBuffers(arena)
        wanted.setSlotCounts((0..<pool).map { cache.slotCount(pool: $0) })
        plan = wanted
        if let refusal { throw refusal }
    }

    /// Waits for the background's reads in flight, and forgets those that did not begin.
    private mutating func finishBackground() {
        failure = nil
        counters.prefetchDropped += UInt64(wishes.count)
        _ = wishes.removeDue(.max)
        upgrades.removeAll()
        while background.count > 0 { abandon(slot: background[0]) }
        while inFlight > 0 || hasPiecesWaiting { move(wait: max(1, inFlight)) }
    }

    /// Moves what a pool keeps into its first slots, and gives the memory of the others back. For a
    /// pool that has no more slots than that, gives back what is backed beyond them.
    private mutating func shrink(pool: Int, to count: Int) {
        let first = cache.firstSlot(pool: pool)
        let old = cache.slotCount(pool: pool)
        if count < old {
            let room = cache.makeRoom(pool: pool, count: old - count)
            precondition(room, "a smaller cache cannot hold what is pinned")
            let parts = layout.partsPerExpert
            var to = first
            for from in first + count..<first + old where cache.planeIndex(slot: from) >= 0 {
                while cache.planeIndex(slot: to) >= 0 { to += 1 }
                unsafe arena.address(slot: to).copyMemory(
                    from: arena.address(slot: from), byteCount: arena.slotBytes(pool: pool))
                for part in 0..<parts {
                    partPlaces[to * parts + part] = partPlaces[from * parts + part]
                }
                cache.relocate(from: from, to: to)
            }
            cache.setSlotCount(pool: pool, to: count)
        }
        for chunk in arena.chunks(pool: pool) {
            let bytes = arena.bytes(chunk: chunk, pool: pool, slots: count)
            guard bytes < arena.backedBytes(chunk: chunk) else { continue }
            disk.dropBuffer(chunk: chunk)
            arena.shrink(chunk: chunk, to: bytes)
        }
    }

    private mutating func grow(pool: Int, to count: Int, planned: Int) throws(StreamingError) {
        for chunk in arena.chunks(pool: pool) {
            let bytes = arena.bytes(chunk: chunk, pool: pool, slots: count)
            guard bytes > arena.backedBytes(chunk: chunk) else { continue }
            disk.dropBuffer(chunk: chunk)
            try arena.grow(chunk: chunk, to: bytes, planned: planned)
        }
        cache.setSlotCount(pool: pool, to: count)
    }
}
