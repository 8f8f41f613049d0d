private import CHost

/// The memory of all slots: anonymous, backed by pages at start, never returned before the end.
///
/// One mapping (*chunk*) holds up to 1 GiB of slots of one size class: that is the kernel's limit
/// for one registered buffer. Chunks start on a 2 MiB boundary and ask for huge pages, and lie on
/// the NUMA node of the thread that made them.
@safe
struct SlotArena: ~Copyable {
    static let largestChunkBytes = 1 << 30
    private static let hugePageBytes = 2 << 20

    private(set) var chunkCount = 0
    private var bases: FlatArray<UnsafeMutableRawPointer?>
    private var lengths: FlatArray<UInt64>
    private var addressOfSlot: FlatArray<UnsafeMutableRawPointer?>
    private var chunkOfSlot: FlatArray<Int32>
    private var abandoned = FlatArray(repeating: false, count: 1)

    /// An arena without memory; `map` gives it some.
    init(plan: StreamingPlan) {
        let chunks = plan.classes.reduce(0) { sum, size in
            let perChunk = max(1, Self.largestChunkBytes / size.slotBytes)
            return sum + (size.slotCount + perChunk - 1) / perChunk
        }
        unsafe bases = FlatArray(repeating: nil, count: chunks)
        lengths = FlatArray(repeating: 0, count: chunks)
        unsafe addressOfSlot = FlatArray(repeating: nil, count: plan.slotCount)
        chunkOfSlot = FlatArray(repeating: 0, count: plan.slotCount)
    }

    deinit {
        if abandoned[0] { return }
        for chunk in 0..<chunkCount {
            unsafe host_unmap_memory(bases[chunk], Int(lengths[chunk]))
        }
    }

    /// Allocates the chunks and backs them with pages.
    ///
    /// - Throws: `outOfMemory` naming how much was given and refused.
    mutating func map(plan: StreamingPlan) throws(StreamingError) {
        var slot = 0
        for size in plan.classes {
            let perChunk = max(1, Self.largestChunkBytes / size.slotBytes)
            var left = size.slotCount
            while left > 0 {
                let count = min(left, perChunk)
                let bytes = count * size.slotBytes
                let base = unsafe try mapChunk(bytes: bytes, planned: plan.arenaBytes)
                for index in 0..<count {
                    unsafe addressOfSlot[slot] = base + index * size.slotBytes
                    chunkOfSlot[slot] = Int32(chunkCount - 1)
                    slot += 1
                }
                left -= count
            }
        }
    }

    private mutating func mapChunk(
        bytes: Int, planned: Int
    ) throws(StreamingError) -> UnsafeMutableRawPointer {
        var error: Int32 = 0
        let huge: Int32 = bytes >= Self.hugePageBytes ? 1 : 0
        guard let base = unsafe host_map_memory(bytes, huge, &error) else {
            throw Self.refusal(error, bytes: bytes, planned: planned)
        }
        unsafe bases[chunkCount] = base
        lengths[chunkCount] = UInt64(bytes)
        chunkCount += 1
        // Placement first: pages are taken where the policy says when they are first touched.
        _ = unsafe host_bind_to_local_node(base, bytes)
        error = unsafe host_populate_memory(base, bytes)
        if error != 0 { throw Self.refusal(error, bytes: bytes, planned: planned) }
        return unsafe base
    }

    private static func refusal(_ error: Int32, bytes: Int, planned: Int) -> StreamingError {
        StreamingError(
            .outOfMemory,
            "no memory for \(ByteSize(bytes: bytes)) of the \(ByteSize(bytes: planned)) planned "
                + "for experts (\(errnoText(error))); lower --memory or --cache")
    }

    /// Start of a slot.
    func address(slot: Int) -> UnsafeMutableRawPointer {
        guard let address = unsafe addressOfSlot[slot] else {
            preconditionFailure("arena is not mapped")
        }
        return unsafe address
    }

    /// The chunk that holds a slot.
    func chunk(slot: Int) -> Int32 { chunkOfSlot[slot] }

    /// Bases and lengths of the chunks, for registration with the kernel.
    var chunkBases: UnsafeMutablePointer<UnsafeMutableRawPointer?> { unsafe bases.address }
    var chunkLengths: UnsafeMutablePointer<UInt64> { unsafe lengths.address }

    /// Keeps the slots from being swapped out, as far as RLIMIT_MEMLOCK allows. True if all of them
    /// are.
    func lock() -> Bool {
        for chunk in 0..<chunkCount
        where unsafe host_lock_memory(bases[chunk], Int(lengths[chunk])) != 0 {
            return false
        }
        return true
    }

    /// Gives the memory up without unmapping it: for reads that can no longer be waited for.
    func abandon() {
        unsafe abandoned.address.pointee = true
    }
}
