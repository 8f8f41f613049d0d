internal import Glibc

/// Draws tokens from logits. Its memory is allocated at the start; drawing allocates nothing.
///
/// The vocabulary is never sorted as a whole: one pass finds the m likeliest tokens, with a heap of
/// m and a comparison for blocks of logits that hold none of them. Top-k is that pass with m = k,
/// greedy with m = 1. Where only the candidates themselves tell how many are kept, m is 256, which
/// is nearly always enough; if it is not, all tokens become a heap, of which the next are popped as
/// they are wanted.
///
/// With 152,000 logits on one core of a Zen 5, greedy takes 9 us, and top-k of 40 takes 34.
public struct Sampler: ~Copyable {
    private let settings: SamplerSettings
    private var random: RandomSource
    private let vocabularyCount: Int
    /// The likeliest tokens, the likeliest first, as many as `rankedCount`; or, where
    /// `isHeapOfAll`, those in reverse at the end and a heap of all others before them.
    private var ranked: [Candidate]
    private var rankedCount = 0
    private var isHeapOfAll = false
    /// The logits under bias, penalties and mask; empty without.
    private var changed: [Float]
    private let biases: [Bias]
    /// The last `penaltyWindow` tokens, as a ring, and how often each token is in it.
    private var recent: [Int32]
    private var recentCount = 0
    private var occurrences: [UInt32]

    private struct Candidate {
        var logit: Float
        var id: Int32

        /// Descending logit, ascending id.
        func precedes(_ other: Candidate) -> Bool {
            logit > other.logit || (logit == other.logit && id < other.id)
        }
    }

    private struct Bias {
        var id: Int32
        var value: Float
    }

    /// - Parameters:
    ///   - settings: Tokens that have a bias are below `vocabularyCount`.
    ///   - isMasked: Whether draws will be given a mask.
    public init(settings: SamplerSettings, vocabularyCount: Int, isMasked: Bool = false) {
        self.settings = settings
        self.vocabularyCount = vocabularyCount
        random = RandomSource(seed: settings.seed)
        let most = Self.growsCandidates(settings) ? vocabularyCount : max(1, settings.topK)
        ranked = Array(
            repeating: Candidate(logit: 0, id: 0), count: min(most, vocabularyCount))
        changed = Array(
            repeating: 0, count: settings.changesLogits || isMasked ? vocabularyCount : 0)
        biases = settings.logitBias.map { Bias(id: $0.key, value: $0.value) }
        recent = Array(repeating: 0, count: settings.usesPenalties ? settings.penaltyWindow : 0)
        occurrences = Array(repeating: 0, count: settings.usesPenalties ? vocabularyCount : 0)
    }

    /// Bytes its tables take for a vocabulary, at most.
    public static func byteCount(vocabularyCount: Int) -> Int { vocabularyCount * 16 }

    /// Whether the number of candidates is not known before they are.
    private static func growsCandidates(_ settings: SamplerSettings) -> Bool {
        settings.temperature > 0 && settings.topK == 0
    }

    /// Tells the penalties that `id` is part of the text.
    public mutating func accept(_ id: Int32) {
        guard !recent.isEmpty else { return }
        let place = recentCount % recent.count
        if recentCount >= recent.count { occurrences[Int(recent[place])] -= 1 }
        recent[place] = id
        occurrences[Int(id)] += 1
        recentCount += 1
    }

    /// The next token for `logits`, one per token of the vocabulary. A logit that is not a number
    /// counts as minus infinity.
    ///
    /// - Parameter mask: Bit i % 64 of word i / 64 is set where token i may be drawn, and at least
    ///   one is; empty where all may. Only for a sampler made for masks.
    public mutating func draw(
        _ logits: UnsafeBufferPointer<Float>, mask: [UInt64] = []
    ) -> Int32 {
        precondition(
            logits.count == vocabularyCount,
            "\(logits.count) logits for a vocabulary of \(vocabularyCount)")
        guard settings.changesLogits || !mask.isEmpty else { return unsafe drawUnchanged(logits) }
        precondition(changed.count == vocabularyCount, "a mask for a sampler made without")
        unsafe changed.withUnsafeMutableBufferPointer {
            _ = unsafe $0.update(fromContentsOf: logits)
        }
        for bias in biases { changed[Int(bias.id)] += bias.value }
        if settings.usesPenalties { penalise() }
        if !mask.isEmpty { exclude(mask) }
        // Taken out for the time of the call, because the call changes `self`.
        let own = changed
        changed = []
        defer { changed = own }
        return unsafe own.withUnsafeBufferPointer { unsafe drawUnchanged($0) }
    }

    /// Makes every token impossible that the mask leaves out.
    private mutating func exclude(_ mask: [UInt64]) {
        precondition(mask.count * 64 >= vocabularyCount, "a mask for another vocabulary")
        for (index, word) in mask.enumerated() where word != .max {
            let first = index * 64
            for bit in 0..<max(0, min(64, vocabularyCount - first))
            where word >> UInt64(bit) & 1 == 0 {
                changed[first + bit] = -.infinity
            }
        }
    }

    private mutating func drawUnchanged(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        if settings.temperature == 0 {
            unsafe rank(1, of: logits)
            return ranked[0].id
        }
        let isTypical = settings.typicalP < 1
        // What is typical depends on all candidates.
        let first = isTypical ? vocabularyCount : Self.firstCandidates
        unsafe rank(settings.topK == 0 ? first : settings.topK, of: logits)
        if isTypical, ranked[0].logit.isFinite { keepTypical() }
        let largest = ranked[0].logit
        // Beside an infinite logit, or none that is not minus infinity, nothing else has a share.
        guard largest.isFinite else {
            _ = random.unit()
            return ranked[0].id
        }
        let temperature = Double(settings.temperature)
        func share(_ logit: Float) -> Double { exp(Double(logit - largest) / temperature) }
        let count: Int
        var total = 0.0
        if settings.topK == 0, !isTypical, settings.topP == 1, settings.minP == 0 {
            count = vocabularyCount
            for id in 0..<vocabularyCount where unsafe !logits[id].isNaN {
                total += unsafe share(logits[id])
            }
        } else {
            count = unsafe settings.topK == 0 && !isTypical ? keep(logits) : keepOfRanked()
            for place in 0..<count { total += share(candidate(place).logit) }
        }
        var point = random.unit() * total
        for place in 0..<count {
            if place == rankedCount { unsafe rankMore(of: logits) }
            point -= share(candidate(place).logit)
            if point < 0 { return candidate(place).id }
        }
        return candidate(0).id
    }

    private mutating func penalise() {
        for place in 0..<min(recentCount, recent.count) {
            let id = Int(recent[place])
            // A token's first place in the ring pays for all its occurrences.
            if occurrences[id] & 0x8000_0000 != 0 { continue }
            let count = Float(occurrences[id])
            occurrences[id] |= 0x8000_0000
            let logit = changed[id]
            let repeated =
                logit > 0 ? logit / settings.repetitionPenalty : logit * settings.repetitionPenalty
            changed[id] =
                repeated - settings.presencePenalty - settings.frequencyPenalty * count
        }
        for place in 0..<min(recentCount, recent.count) {
            occurrences[Int(recent[place])] &= 0x7fff_ffff
        }
    }

    // MARK: What is kept

    /// How many of all tokens pass top-p and min-p, and ranks at least as many.
    private mutating func keep(_ logits: UnsafeBufferPointer<Float>) -> Int {
        let largest = ranked[0].logit
        var total = 0.0
        if settings.topP < 1 {
            for id in 0..<vocabularyCount where unsafe !logits[id].isNaN {
                total += unsafe exp(Double(logits[id] - largest))
            }
        }
        var mass = 0.0
        for place in 0..<vocabularyCount {
            if place == rankedCount { unsafe rankMore(of: logits) }
            let gap = Double(candidate(place).logit - largest)
            if place > 0 {
                if settings.topP < 1, mass >= Double(settings.topP) * total { return place }
                if gap < largestGap { return place }
            }
            mass += exp(gap)
        }
        return vocabularyCount
    }

    /// How many of the ranked candidates pass top-p, whose total is theirs, and min-p.
    private func keepOfRanked() -> Int {
        let largest = ranked[0].logit
        var total = 0.0
        for place in 0..<rankedCount { total += exp(Double(ranked[place].logit - largest)) }
        var mass = 0.0
        for place in 0..<rankedCount {
            let gap = Double(ranked[place].logit - largest)
            if place > 0, mass >= Double(settings.topP) * total || gap < largestGap {
                return place
            }
            mass += exp(gap)
        }
        return rankedCount
    }

    /// Leaves of the ranked candidates those of typical surprise, ranked as before.
    private mutating func keepTypical() {
        let largest = ranked[0].logit
        var total = 0.0
        for place in 0..<rankedCount { total += exp(Double(ranked[place].logit - largest)) }
        let logTotal = log(total)
        var entropy = 0.0
        for place in 0..<rankedCount where ranked[place].logit > -.infinity {
            let logarithm = Double(ranked[place].logit - largest) - logTotal
            entropy -= exp(logarithm) * logarithm
        }
        func distance(_ candidate: Candidate) -> Double {
            abs(logTotal - Double(candidate.logit - largest) - entropy)
        }
        let count = rankedCount
        let share = Double(settings.typicalP)
        var kept = 0
        unsafe ranked.withUnsafeMutableBufferPointer { heap in
            unsafe Self.sort(heap, count) {
                let (left, right) = (distance($0), distance($1))
                return left < right || (left == right && $0.precedes($1))
            }
            var mass = 0.0
            while kept < count, mass <= share {
                mass += unsafe exp(Double(heap[kept].logit - largest) - logTotal)
                kept += 1
            }
            unsafe Self.sort(heap, kept) { $0.precedes($1) }
        }
        rankedCount = kept
    }

    /// How far below the largest logit min-p keeps a token; negative.
    private var largestGap: Double {
        settings.minP > 0 ? log(Double(settings.minP)) : -.infinity
    }

    // MARK: Ranking

    /// Candidates ranked at first where the settings do not say how many there are.
    private static let firstCandidates = 256
    /// Logits compared at once with the least of the heap.
    private static let block = 128

    /// The likeliest token but `place`.
    private func candidate(_ place: Int) -> Candidate {
        isHeapOfAll ? ranked[vocabularyCount - 1 - place] : ranked[place]
    }

    /// Ranks one token more, of those that are left.
    private mutating func rankMore(of logits: UnsafeBufferPointer<Float>) {
        let all = vocabularyCount
        let isNew = !isHeapOfAll
        let wanted = rankedCount + 1
        var popped = isNew ? 0 : rankedCount
        unsafe ranked.withUnsafeMutableBufferPointer { heap in
            if isNew { unsafe Self.fill(heap, all, from: logits) { $0.precedes($1) } }
            while popped < wanted {
                popped += 1
                unsafe heap.swapAt(0, all - popped)
                unsafe Self.sink(heap, 0, all - popped) { $0.precedes($1) }
            }
        }
        rankedCount = wanted
        isHeapOfAll = true
    }

    /// Fills `ranked` with the `count` likeliest tokens, or with all if they are fewer.
    private mutating func rank(_ count: Int, of logits: UnsafeBufferPointer<Float>) {
        let count = min(count, vocabularyCount)
        rankedCount = count
        isHeapOfAll = false
        unsafe ranked.withUnsafeMutableBufferPointer { heap in
            // The root is the one that the others precede, so it is the next to go.
            unsafe Self.fill(heap, count, from: logits) { $1.precedes($0) }
            var least = unsafe heap[0].logit
            var first = count
            while first < logits.count {
                let end = min(first + Self.block, logits.count)
                // Whoever is only as likely as the root has a higher id, and stays outside.
                defer { first = end }
                if end == first + Self.block,
                    unsafe !Self.holdsMore(logits.baseAddress! + first, than: least)
                {
                    continue
                }
                for id in first..<end where unsafe logits[id] > least {
                    unsafe heap[0] = Candidate(logit: logits[id], id: Int32(id))
                    unsafe Self.sink(heap, 0, count) { $1.precedes($0) }
                    least = unsafe heap[0].logit
                }
            }
            unsafe Self.sortHeap(heap, count) { $0.precedes($1) }
        }
    }

    /// Sorts the first `count` tokens in place.
    @inline(__always)
    private static func sort(
        _ heap: UnsafeMutableBufferPointer<Candidate>, _ count: Int,
        _ precedes: (Candidate, Candidate) -> Bool
    ) {
        for root in stride(from: count / 2 - 1, through: 0, by: -1) {
            unsafe sink(heap, root, count) { precedes($1, $0) }
        }
        unsafe sortHeap(heap, count, precedes)
    }

    /// Sorts the first `count` tokens, which are a heap whose root all others precede.
    @inline(__always)
    private static func sortHeap(
        _ heap: UnsafeMutableBufferPointer<Candidate>, _ count: Int,
        _ precedes: (Candidate, Candidate) -> Bool
    ) {
        for last in stride(from: count - 1, to: 0, by: -1) {
            unsafe heap.swapAt(0, last)
            unsafe sink(heap, 0, last) { precedes($1, $0) }
        }
    }

    /// Whether any logit of a block is greater than `least`. A fixed number of them, no branch for
    /// each and a function of its own, so that the compiler takes many at a time: inlined it does
    /// not, and greedy takes 80 us instead of 9.
    @inline(never)
    private static func holdsMore(_ logits: UnsafePointer<Float>, than least: Float) -> Bool {
        var any: UInt32 = 0
        for index in 0..<block {
            let isGreater: UInt32 = unsafe logits[index] > least ? 1 : 0
            any |= isGreater
        }
        return any > 0
    }

    /// Makes a heap of the first `count` tokens, with the one at its root that is above all others.
    @inline(__always)
    private static func fill(
        _ heap: UnsafeMutableBufferPointer<Candidate>, _ count: Int,
        from logits: UnsafeBufferPointer<Float>, _ isAbove: (Candidate, Candidate) -> Bool
    ) {
        for id in 0..<count {
            let logit = unsafe logits[id]
            unsafe heap[id] = Candidate(logit: logit.isNaN ? -.infinity : logit, id: Int32(id))
        }
        for root in stride(from: count / 2 - 1, through: 0, by: -1) {
            unsafe sink(heap, root, count, isAbove)
        }
    }

    @inline(__always)
    private static func sink(
        _ heap: UnsafeMutableBufferPointer<Candidate>, _ start: Int, _ count: Int,
        _ isAbove: (Candidate, Candidate) -> Bool
    ) {
        guard start < count else { return }
        let moved = unsafe heap[start]
        var root = start
        while true {
            var child = 2 * root + 1
            if child >= count { break }
            if child + 1 < count, unsafe isAbove(heap[child + 1], heap[child]) { child += 1 }
            if unsafe !isAbove(heap[child], moved) { break }
            unsafe heap[root] = heap[child]
            root = child
        }
        unsafe heap[root] = moved
    }
}
