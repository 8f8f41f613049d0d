private import CHost

/// The memory of all slots: anonymous, backed by pages at start or by `resize`, never elsewhere.
///
/// Slots are numbered pool after pool, as if every expert had one in every pool; those that the
/// plan allows are the first of each pool, and only they are backed. Addresses are reserved in
/// *chunks* of about 64 MiB, of one pool each, which start on a 2 MiB boundary and ask for huge
/// pages as far as they are backed; a chunk is what is registered with the kernel as one buffer and
/// given back as one. Chunks lie on the NUMA node of the thread that backs them.
///
///     pool     [ 0 ............ 1 ............ 2 ........... ]   slots of one size
///     chunks   [ backed ][ backed ][ backed | reserved ][ no address ]
@safe
struct SlotArena: ~Copyable {
    static let chunkBytes = 64 << 20
    private static let hugePageBytes = 2 << 20

    /// Pools, class-major, then plane.
    struct Pool: BitwiseCopyable {
        var firstSlot: Int
        var firstChunk: Int
        var slotsPerChunk: Int
        var slotBytes: Int
        var capacity: Int
    }

    let chunkCount: Int
    let slotCapacity: Int
    private var pools: FlatArray<Pool>
    private var bases: FlatArray<UnsafeMutableRawPointer?>
    /// Bytes that are backed, from the start of a chunk on.
    private var lengths: FlatArray<UInt64>
    private var chunkOfSlot: FlatArray<Int32>
    private var placeOfSlot: FlatArray<UInt32>
    private var abandoned = FlatArray(repeating: false, count: 1)

    /// An arena without memory; `back` gives it some.
    init(plan: StreamingPlan) {
        var list: [Pool] = []
        var slots = 0
        var chunks = 0
        for size in plan.classes {
            for pool in size.pools {
                let perChunk = min(size.expertCount, max(1, Self.chunkBytes / pool.slotBytes))
                list.append(
                    Pool(
                        firstSlot: slots, firstChunk: chunks, slotsPerChunk: perChunk,
                        slotBytes: pool.slotBytes, capacity: size.expertCount))
                slots += size.expertCount
                chunks += (size.expertCount + perChunk - 1) / perChunk
            }
        }
        var pools = FlatArray(repeating: list[0], count: list.count)
        var chunkOfSlot = FlatArray<Int32>(repeating: 0, count: slots)
        var placeOfSlot = FlatArray<UInt32>(repeating: 0, count: slots)
        for (index, pool) in list.enumerated() {
            pools[index] = pool
            for slot in 0..<pool.capacity {
                let (chunk, place) = slot.quotientAndRemainder(dividingBy: pool.slotsPerChunk)
                chunkOfSlot[pool.firstSlot + slot] = Int32(pool.firstChunk + chunk)
                placeOfSlot[pool.firstSlot + slot] = UInt32(place * pool.slotBytes)
            }
        }
        self.pools = pools
        self.chunkOfSlot = chunkOfSlot
        self.placeOfSlot = placeOfSlot
        unsafe bases = FlatArray(repeating: nil, count: chunks)
        lengths = FlatArray(repeating: 0, count: chunks)
        chunkCount = chunks
        slotCapacity = slots
    }

    deinit {
        if abandoned[0] { return }
        for chunk in 0..<chunkCount {
            guard let base = unsafe bases[chunk] else { continue }
            unsafe host_unmap_memory(base, reservedBytes(chunk: chunk))
        }
    }

    /// Backs all slots that a plan allows.
    ///
    /// - Throws: `outOfMemory` naming how much was given and refused.
    mutating func map(plan: StreamingPlan) throws(StreamingError) {
        var pool = 0
        for size in plan.classes {
            for planned in size.pools {
                for chunk in chunks(pool: pool) {
                    let bytes = bytes(chunk: chunk, pool: pool, slots: planned.slotCount)
                    if bytes > 0 { try grow(chunk: chunk, to: bytes, planned: plan.arenaBytes) }
                }
                pool += 1
            }
        }
    }

    /// The chunks of a pool.
    func chunks(pool: Int) -> Range<Int> {
        pools[pool].firstChunk..<(pool + 1 < pools.count ? pools[pool + 1].firstChunk : chunkCount)
    }

    /// Bytes that a chunk has backed when its pool has so many slots.
    func bytes(chunk: Int, pool: Int, slots: Int) -> Int {
        let before = (chunk - pools[pool].firstChunk) * pools[pool].slotsPerChunk
        return min(max(slots - before, 0), pools[pool].slotsPerChunk) * pools[pool].slotBytes
    }

    func slotBytes(pool: Int) -> Int { pools[pool].slotBytes }

    /// Bytes of a chunk that are backed now.
    func backedBytes(chunk: Int) -> Int { Int(lengths[chunk]) }

    private func reservedBytes(chunk: Int) -> Int {
        var pool = 0
        while pool + 1 < pools.count, pools[pool + 1].firstChunk <= chunk { pool += 1 }
        return bytes(chunk: chunk, pool: pool, slots: pools[pool].capacity)
    }

    /// Backs a chunk up to `bytes`, which are more than are backed now.
    ///
    /// - Parameter planned: bytes of all slots, for the error.
    /// - Throws: `outOfMemory`; then the chunk is as it was.
    mutating func grow(chunk: Int, to bytes: Int, planned: Int) throws(StreamingError) {
        var error: Int32 = 0
        if unsafe bases[chunk] == nil {
            guard let base = unsafe host_reserve_memory(reservedBytes(chunk: chunk), &error) else {
                throw Self.refusal(error, bytes: bytes, planned: planned)
            }
            unsafe bases[chunk] = base
        }
        let backed = Int(lengths[chunk])
        guard let base = unsafe bases[chunk] else { preconditionFailure("a chunk has no address") }
        // Placement first: pages are taken where the policy says when they are first touched.
        _ = unsafe host_bind_to_local_node(base, bytes)
        unsafe host_prefer_huge_pages(base, bytes)
        error = unsafe host_populate_memory(base + backed, bytes - backed)
        if error != 0 {
            _ = unsafe host_give_back_memory(base + backed, bytes - backed)
            if backed == 0 { unmap(chunk: chunk) }
            throw Self.refusal(error, bytes: bytes - backed, planned: planned)
        }
        lengths[chunk] = UInt64(bytes)
    }

    /// Gives back what a chunk has backed beyond `bytes`.
    mutating func shrink(chunk: Int, to bytes: Int) {
        guard let base = unsafe bases[chunk], bytes > 0 else {
            unmap(chunk: chunk)
            return
        }
        let backed = Int(lengths[chunk])
        lengths[chunk] = UInt64(bytes)
        let whole = min((bytes + Self.hugePageBytes - 1) & -Self.hugePageBytes, backed)
        unsafe giveBack(base + whole, backed - whole)
        // A huge page is held to its last byte: the one that is kept in part becomes small pages.
        let kept = bytes & (Self.hugePageBytes - 1)
        if kept == 0 || whole == bytes { return }
        let start = unsafe base + (bytes - kept)
        let copy = UnsafeMutableRawPointer.allocate(byteCount: kept, alignment: 64)
        defer { unsafe copy.deallocate() }
        unsafe copy.copyMemory(from: start, byteCount: kept)
        unsafe giveBack(start, whole - (bytes - kept))
        unsafe host_prefer_huge_pages(base, bytes)
        unsafe start.copyMemory(from: copy, byteCount: kept)
    }

    private func giveBack(_ base: UnsafeMutableRawPointer, _ bytes: Int) {
        if bytes == 0 { return }
        let error = unsafe host_give_back_memory(base, bytes)
        precondition(error == 0, "memory is not given back (\(errnoText(error)))")
    }

    private mutating func unmap(chunk: Int) {
        guard let base = unsafe bases[chunk] else { return }
        unsafe host_unmap_memory(base, reservedBytes(chunk: chunk))
        unsafe bases[chunk] = nil
        lengths[chunk] = 0
    }

    private static func refusal(_ error: Int32, bytes: Int, planned: Int) -> StreamingError {
        StreamingError(
            .outOfMemory,
            "no memory for \(ByteSize(bytes: bytes)) of the \(ByteSize(bytes: planned)) planned "
                + "for experts (\(errnoText(error))); lower --memory or --cache")
    }

    /// Start of a slot, which must be backed.
    func address(slot: Int) -> UnsafeMutableRawPointer {
        guard let base = unsafe bases[Int(chunkOfSlot[slot])] else {
            preconditionFailure("slot \(slot) is not backed")
        }
        return unsafe base + Int(placeOfSlot[slot])
    }

    /// The chunk that holds a slot.
    func chunk(slot: Int) -> Int32 { chunkOfSlot[slot] }

    /// Bases and backed lengths of the chunks, for registration with the kernel.
    var chunkBases: UnsafeMutablePointer<UnsafeMutableRawPointer?> { unsafe bases.address }
    var chunkLengths: UnsafeMutablePointer<UInt64> { unsafe lengths.address }

    /// Keeps the slots from being swapped out, as far as RLIMIT_MEMLOCK allows.
    func lock() {
        for chunk in 0..<chunkCount where lengths[chunk] > 0 {
            guard unsafe host_lock_memory(bases[chunk], Int(lengths[chunk])) == 0 else { return }
        }
    }

    /// Gives the memory up without unmapping it: for reads that can no longer be waited for.
    func abandon() {
        unsafe abandoned.address.pointee = true
    }
}
