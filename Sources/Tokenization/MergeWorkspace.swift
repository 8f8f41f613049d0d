/// What two neighbours become, and how urgently.
struct Merge {
    /// Lower goes first; of equals the leftmost. Never `UInt32.max`.
    let priority: UInt32
    /// The token they become.
    let id: Int32
}

/// A stretch of text that is one token so far, or a character that is none.
struct MergeSymbol {
    /// Its token; negative when there is none.
    var id: Int32
    /// Its bytes.
    var start: UInt32
    var end: UInt32
}

/// Knows which neighbours merge.
protocol MergeRules {
    /// What two neighbouring symbols become, nil when they stay apart.
    func merge(_ left: MergeSymbol, _ right: MergeSymbol) -> Merge?
}

/// Merges the symbols of a word, best pair first, until no pair is left: the core of both byte-pair
/// encoding and SentencePiece.
///
/// A short word is an array from which merged symbols are removed; the best pair is found by
/// looking at all. A long one is a linked list with a heap of pairs, so that a megabyte without a
/// space takes time proportional to n log n. Both give the same tokens. The arrays stay allocated
/// from word to word.
struct MergeWorkspace {
    /// Up to here looking at all pairs is faster than keeping a heap.
    static let shortWord = 32

    /// Fill these, then call `mergeAll`: afterwards they are the merged ones.
    var symbols: [MergeSymbol] = []
    /// For each symbol, what it becomes with the next one; `priority` is `UInt32.max` for nothing.
    private var pairs: [Merge] = []
    /// Priority in the upper half, place of the left symbol in the lower. Entries whose pair has
    /// changed since are skipped when they come up.
    private var heap: [UInt64] = []
    private var next: [UInt32] = []
    private var previous: [UInt32] = []

    private static let nothing = Merge(priority: .max, id: -1)
    private static let none = UInt32.max

    mutating func mergeAll(_ rules: some MergeRules) {
        guard symbols.count > 1 else { return }
        pairs.removeAll(keepingCapacity: true)
        for place in 1..<symbols.count {
            pairs.append(rules.merge(symbols[place - 1], symbols[place]) ?? Self.nothing)
        }
        pairs.append(Self.nothing)
        if symbols.count <= Self.shortWord {
            mergeShortWord(rules)
        } else {
            mergeLongWord(rules)
        }
    }

    private mutating func mergeShortWord(_ rules: some MergeRules) {
        while true {
            var best = 0
            var priority = UInt32.max
            for place in 0..<symbols.count where pairs[place].priority < priority {
                priority = pairs[place].priority
                best = place
            }
            guard priority != .max else { return }
            symbols[best].id = pairs[best].id
            symbols[best].end = symbols[best + 1].end
            symbols.remove(at: best + 1)
            pairs.remove(at: best)
            if best + 1 < symbols.count {
                pairs[best] = rules.merge(symbols[best], symbols[best + 1]) ?? Self.nothing
            }
            if best > 0 {
                pairs[best - 1] = rules.merge(symbols[best - 1], symbols[best]) ?? Self.nothing
            }
        }
    }

    private mutating func mergeLongWord(_ rules: some MergeRules) {
        let count = symbols.count
        next.removeAll(keepingCapacity: true)
        previous.removeAll(keepingCapacity: true)
        heap.removeAll(keepingCapacity: true)
        for place in 0..<count {
            next.append(place + 1 < count ? UInt32(place + 1) : Self.none)
            previous.append(place > 0 ? UInt32(place - 1) : Self.none)
            if pairs[place].priority != .max { heap.append(entry(of: place)) }
        }
        for place in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(from: place) }

        while let top = heap.first {
            removeTop()
            // A symbol that was merged into the one before it has `nothing` for a pair, and no
            // entry has the priority of nothing. A pair that changed has another priority, or an
            // equal one, and then the entry is as good as the new pair's own.
            let left = Int(top & 0xFFFF_FFFF)
            guard pairs[left].priority == UInt32(top >> 32) else { continue }
            let right = Int(next[left])
            symbols[left].id = pairs[left].id
            symbols[left].end = symbols[right].end
            pairs[right] = Self.nothing
            symbols[right].end = symbols[right].start
            let after = next[right]
            next[left] = after
            if after != Self.none { previous[Int(after)] = UInt32(left) }
            renewPair(at: left, rules)
            if previous[left] != Self.none { renewPair(at: Int(previous[left]), rules) }
        }

        var kept = 0
        for place in 0..<count where symbols[place].start != symbols[place].end {
            symbols[kept] = symbols[place]
            kept += 1
        }
        symbols.removeLast(count - kept)
    }

    private mutating func renewPair(at left: Int, _ rules: some MergeRules) {
        let right = next[left]
        pairs[left] =
            right == Self.none
            ? Self.nothing : rules.merge(symbols[left], symbols[Int(right)]) ?? Self.nothing
        guard pairs[left].priority != .max else { return }
        heap.append(entry(of: left))
        siftUp(from: heap.count - 1)
    }

    private func entry(of place: Int) -> UInt64 {
        UInt64(pairs[place].priority) << 32 | UInt64(place)
    }

    private mutating func removeTop() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        siftDown(from: 0)
    }

    private mutating func siftUp(from start: Int) {
        var place = start
        let value = heap[place]
        while place > 0, heap[(place - 1) / 2] > value {
            heap[place] = heap[(place - 1) / 2]
            place = (place - 1) / 2
        }
        heap[place] = value
    }

    private mutating func siftDown(from start: Int) {
        var place = start
        let value = heap[place]
        while true {
            var child = 2 * place + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < value else { break }
            heap[place] = heap[child]
            place = child
        }
        heap[place] = value
    }
}
