internal import Glibc

/// Draws tokens from logits. Its memory is allocated at the start; drawing allocates nothing.
///
/// Candidates sit in a heap ordered by logit, so that the usual settings look at a few dozen of
/// them and never sort the vocabulary.
public struct Sampler: ~Copyable {
    private let settings: SamplerSettings
    private var random: RandomSource
    private var candidates: [Candidate]
    /// The last `penaltyWindow` tokens, as a ring, and how often each token is in it.
    private var recent: [Int32]
    private var recentCount = 0
    private var occurrences: [UInt32]
    private var kept: [Double]

    private struct Candidate {
        var logit: Float
        var id: Int32

        /// Descending logit, ascending id; NaN last.
        func precedes(_ other: Candidate) -> Bool {
            logit > other.logit || (logit == other.logit && id < other.id)
        }
    }

    public init(settings: SamplerSettings, vocabularyCount: Int) {
        self.settings = settings
        random = RandomSource(seed: settings.seed)
        candidates = Array(repeating: Candidate(logit: 0, id: 0), count: vocabularyCount)
        kept = Array(repeating: 0, count: vocabularyCount)
        recent = Array(repeating: 0, count: settings.usesPenalties ? settings.penaltyWindow : 0)
        occurrences = Array(repeating: 0, count: settings.usesPenalties ? vocabularyCount : 0)
    }

    /// Bytes its tables take for a vocabulary.
    public static func byteCount(vocabularyCount: Int) -> Int { vocabularyCount * 20 }

    /// Tells the penalties that `id` is part of the text.
    public mutating func accept(_ id: Int32) {
        guard !recent.isEmpty else { return }
        let place = recentCount % recent.count
        if recentCount >= recent.count { occurrences[Int(recent[place])] -= 1 }
        recent[place] = id
        occurrences[Int(id)] += 1
        recentCount += 1
    }

    /// The next token for `logits`, one per token of the vocabulary.
    public mutating func draw(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
        for id in 0..<candidates.count {
            var logit = unsafe logits[id]
            if logit.isNaN { logit = -.infinity }
            candidates[id] = Candidate(logit: logit, id: Int32(id))
        }
        penalise()
        if settings.temperature == 0 {
            var best = candidates[0]
            for candidate in candidates where candidate.precedes(best) { best = candidate }
            return best.id
        }
        let count = keep()
        let largest = candidates[candidates.count - 1].logit
        var total = 0.0
        for rank in 0..<count {
            let logit = candidates[candidates.count - 1 - rank].logit
            kept[rank] = exp(Double(logit - largest) / Double(settings.temperature))
            total += kept[rank]
        }
        var point = random.unit() * total
        for rank in 0..<count {
            point -= kept[rank]
            if point < 0 { return candidates[candidates.count - 1 - rank].id }
        }
        return candidates[candidates.count - 1].id
    }

    private mutating func penalise() {
        for place in 0..<min(recentCount, recent.count) {
            let id = Int(recent[place])
            // A token's first place in the ring pays for all its occurrences.
            if occurrences[id] & 0x8000_0000 != 0 { continue }
            let count = Float(occurrences[id])
            occurrences[id] |= 0x8000_0000
            let logit = candidates[id].logit
            let repeated =
                logit > 0 ? logit / settings.repetitionPenalty : logit * settings.repetitionPenalty
            candidates[id].logit =
                repeated - settings.presencePenalty - settings.frequencyPenalty * count
        }
        for place in 0..<min(recentCount, recent.count) {
            occurrences[Int(recent[place])] &= 0x7fff_ffff
        }
    }

    /// Moves the candidates that pass top-k, top-p and min-p, likeliest first, to the end of the
    /// array in reverse; returns how many. At least one.
    private mutating func keep() -> Int {
        let count = candidates.count
        for root in stride(from: count / 2 - 1, through: 0, by: -1) { sink(root, count) }
        let limit = settings.topK == 0 ? count : min(settings.topK, count)
        let largest = candidates[0].logit
        // With top-k, top-p's total is that of the k; without, that of all.
        var total = 0.0
        if settings.topK == 0, settings.topP < 1 {
            for candidate in candidates { total += exp(Double(candidate.logit - largest)) }
        }
        var taken = 0
        var mass = 0.0
        let floor = settings.minP > 0 ? log(Double(settings.minP)) : -Double.infinity
        while taken < limit {
            let top = candidates[0]
            if taken > 0, settings.topK == 0 {
                if settings.topP < 1, mass >= Double(settings.topP) * total { break }
                if Double(top.logit - largest) < floor { break }
            }
            mass += exp(Double(top.logit - largest))
            let last = count - 1 - taken
            candidates[0] = candidates[last]
            candidates[last] = top
            sink(0, last)
            taken += 1
        }
        guard settings.topK > 0 else { return taken }
        total = mass
        mass = 0
        for rank in 0..<taken {
            let gap = Double(candidates[count - 1 - rank].logit - largest)
            if rank > 0, mass >= Double(settings.topP) * total || gap < floor { return rank }
            mass += exp(gap)
        }
        return taken
    }

    private mutating func sink(_ start: Int, _ count: Int) {
        var root = start
        while true {
            var child = 2 * root + 1
            if child >= count { return }
            if child + 1 < count, candidates[child + 1].precedes(candidates[child]) { child += 1 }
            if !candidates[child].precedes(candidates[root]) { return }
            candidates.swapAt(root, child)
            root = child
        }
    }
}
