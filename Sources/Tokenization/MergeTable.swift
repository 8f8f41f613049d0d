/// The merges of a byte-pair encoding: which two tokens become which, and in what order of
/// precedence.
///
/// An array of the merges in the file's order, and an open-addressing table of 32-bit numbers over
/// it, keyed by the two tokens: about 19 bytes per merge.
struct MergeTable: Sendable {
    private struct Entry {
        let left: Int32
        let right: Int32
        let merged: Int32
    }

    /// A merge's place here is its rank: lower goes first.
    private var entries: [Entry] = []
    /// Rank + 1, or 0. The length is a power of two, so that `count - 1` is a mask.
    private var slots: [UInt32] = []
    /// Differs between processes, so that no file can be made whose pairs all collide.
    private let seed = UInt64.random(in: .min ... .max) | 1

    /// A table for up to `capacity` merges.
    init(capacity: Int) {
        var size = 16
        while size < capacity + capacity / 2 { size *= 2 }
        slots = [UInt32](repeating: 0, count: size)
        entries.reserveCapacity(capacity)
    }

    var count: Int { entries.count }

    /// Adds the next merge, unless the pair has one already. More than `capacity` cannot be added.
    mutating func append(left: Int32, right: Int32, merged: Int32) {
        precondition(entries.count < slots.count - 1, "more merges than the table was made for")
        let place = place(left, right)
        guard slots[place] == 0 else { return }
        entries.append(Entry(left: left, right: right, merged: merged))
        slots[place] = UInt32(entries.count)
    }

    /// The merge of two tokens, nil when they stay apart.
    @inline(__always)
    func merge(_ left: Int32, _ right: Int32) -> Merge? {
        let found = slots[place(left, right)]
        guard found != 0 else { return nil }
        return Merge(priority: found - 1, id: entries[Int(found - 1)].merged)
    }

    @inline(__always)
    private func place(_ left: Int32, _ right: Int32) -> Int {
        let mask = slots.count - 1
        let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
        var hash = (key ^ seed) &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ hash >> 32) &* seed
        var place = Int(truncatingIfNeeded: hash >> 24) & mask
        while true {
            let found = slots[place]
            if found == 0 { return place }
            let entry = entries[Int(found - 1)]
            if entry.left == left, entry.right == right { return place }
            place = (place + 1) & mask
        }
    }
}
