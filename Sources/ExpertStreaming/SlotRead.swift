/// How far the reading of one plane into its slot is.
///
/// Its ranges are cut into pieces only as the disk has room for them, so that what waits costs no
/// more than its place in a queue.
struct SlotRead: BitwiseCopyable {
    /// Pieces that have not arrived, those not cut yet included; above zero when one has failed.
    var missing: Int32 = 0
    /// Pieces that are in flight, or wait to be sent again.
    var flying: Int32 = 0
    /// Where cutting goes on: the part that begins the next range, the bytes of that range which
    /// are cut already, and its place in the slot.
    var part: Int32 = 0
    var done: Int32 = 0
    var place: Int32 = 0
    /// Times the plane was read again because it did not match its checksum.
    var rereads: UInt8 = 0
}

/// Slots that wait to be read, first come, first served.
struct SlotQueue: ~Copyable {
    private var slots: FlatArray<Int32>
    private var head = 0
    private(set) var count = 0

    init(capacity: Int) {
        slots = FlatArray(repeating: -1, count: capacity)
    }

    var first: Int { Int(slots[head]) }

    mutating func append(_ slot: Int) {
        precondition(count < slots.count, "a queue of slots overflows")
        slots[(head + count) % slots.count] = Int32(slot)
        count += 1
    }

    mutating func removeFirst() {
        precondition(count > 0, "a queue of slots is empty")
        head = (head + 1) % slots.count
        count -= 1
    }

    mutating func removeAll() {
        head = 0
        count = 0
    }
}
