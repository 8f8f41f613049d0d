/// How urgent a read is.
enum ReadPriority {
    /// The acquired set waits for it.
    case demand
    /// An expert in use at a prefix shall have its other planes.
    case upgrade
    /// A later layer will probably ask for it.
    case speculation
}

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
    var priority = ReadPriority.demand
    /// A read in the background that failed, or was given up: what is in flight is awaited, and
    /// nothing more is sent.
    var isAbandoned = false
}

/// Numbers in a row, first come, first served; as many as there is room for.
struct NumberQueue: ~Copyable {
    private var numbers: FlatArray<Int32>
    private var head = 0
    private(set) var count = 0

    init(capacity: Int) {
        numbers = FlatArray(repeating: -1, count: capacity)
    }

    var isFull: Bool { count == numbers.count }

    subscript(index: Int) -> Int {
        precondition(index >= 0 && index < count, "no number \(index) in the queue")
        return Int(numbers[(head + index) % numbers.count])
    }

    mutating func append(_ number: Int) {
        precondition(!isFull, "a queue overflows")
        numbers[(head + count) % numbers.count] = Int32(number)
        count += 1
    }

    mutating func removeFirst() {
        precondition(count > 0, "a queue is empty")
        head = (head + 1) % numbers.count
        count -= 1
    }

    /// Removes a number, if it is there, and keeps the order of the others. True if it was.
    mutating func remove(_ number: Int) -> Bool {
        var kept = 0
        for index in 0..<count where self[index] != number {
            numbers[(head + kept) % numbers.count] = Int32(self[index])
            kept += 1
        }
        defer { count = kept }
        return kept < count
    }

    mutating func removeAll() {
        count = 0
    }
}
