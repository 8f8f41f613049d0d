/// Experts that a later layer will probably ask for and that nobody has begun to read, likeliest
/// and nearest first; as many as there is room for.
struct PrefetchQueue: ~Copyable {

    /// One prediction.
    struct Wish: BitwiseCopyable {
        var expertIndex: Int32
        /// Planes to read.
        var planes: UInt8
        /// Place among the predicted of its layer; 0 is the likeliest.
        var rank: UInt16
        /// Layers computed when its layer begins, counted from the start.
        var due: Int64

        /// Whether this one is read before another: nearer layers first.
        func precedes(_ other: Self) -> Bool {
            due < other.due || (due == other.due && rank < other.rank)
        }
    }

    private var wishes: FlatArray<Wish>
    private(set) var count = 0

    init(capacity: Int) {
        wishes = FlatArray(
            repeating: Wish(expertIndex: -1, planes: 0, rank: 0, due: 0), count: capacity)
    }

    /// Adds a prediction; where there is no room, the last one in order goes.
    ///
    /// - Returns: whether every prediction found room.
    mutating func insert(_ wish: Wish) -> Bool {
        guard count == wishes.count else {
            wishes[count] = wish
            count += 1
            return true
        }
        var last = 0
        for index in 1..<count where wishes[last].precedes(wishes[index]) { last = index }
        if wish.precedes(wishes[last]) { wishes[last] = wish }
        return false
    }

    /// Takes the first in order; nil if there is none.
    mutating func removeFirst() -> Wish? {
        guard count > 0 else { return nil }
        var first = 0
        for index in 1..<count where wishes[index].precedes(wishes[first]) { first = index }
        let wish = wishes[first]
        count -= 1
        wishes[first] = wishes[count]
        return wish
    }

    /// Removes what was due at `last` or before; returns how many.
    mutating func removeDue(_ last: Int64) -> Int { removeDue(from: .min, through: last) }

    /// Removes what is due from `first` through `last`; returns how many.
    mutating func removeDue(from first: Int64, through last: Int64) -> Int {
        let before = count
        var index = 0
        while index < count {
            if wishes[index].due >= first && wishes[index].due <= last {
                count -= 1
                wishes[index] = wishes[count]
            } else {
                index += 1
            }
        }
        return before - count
    }
}
