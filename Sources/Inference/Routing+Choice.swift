internal import CKernels

/// What a router ranks the experts of one token by.
@unsafe private struct RouterScores {
    let values: UnsafePointer<Float>  // (experts)
    let count: Int
    /// Divides the values where they are compared with the correction.
    var sum: Float = 1
    /// Added for the choice, and never to a weight: (experts).
    var correction: UnsafePointer<Float>?

    subscript(expert: Int) -> Float {
        guard let correction = unsafe correction else { return unsafe values[expert] }
        return unsafe values[expert] / sum + correction[expert]
    }
}

// The choice, on plain memory: allocates nothing and cannot fail.
extension Routing {
    /// Chooses k experts of one token, distinct whatever the logits are; one that is not a number
    /// ranks behind all that are.
    ///
    /// - Parameters:
    ///   - k: At most `experts`.
    ///   - row: (experts): logits, which become the router's probabilities: the sigmoids, or
    ///     proportional to the softmax over all experts.
    ///   - correction: (experts): added to p for the choice; `sparseMixer` has none.
    ///   - chosen: (k): becomes the k best by rank, more of them than are computed under `topP`.
    ///   - weights: (k): becomes their weights; 0 for those not computed.
    /// - Returns: How many are computed, from rank 0 on.
    func choose(
        _ k: Int, of experts: Int, row: UnsafeMutablePointer<Float>,
        correction: UnsafePointer<Float>?, kernels: UnsafePointer<sluice_kernels>,
        chosen: UnsafeMutablePointer<Int32>, weights: UnsafeMutablePointer<Float>
    ) -> Int {
        var scores = unsafe RouterScores(values: row, count: experts)
        switch gating {
        case .always:
            for expert in 0..<experts { unsafe row[expert] = expert == 0 ? 1 : 0 }
            unsafe select(k, by: scores, into: chosen)
            for rank in 0..<k { unsafe weights[rank] = rank == 0 ? 1 : 0 }
            return 1
        case .sparseMixer(let jitter):
            unsafe select(k, by: scores, into: chosen)
            unsafe mix(
                k, logits: row, experts: experts, jitter: jitter, chosen: chosen, weights: weights)
            unsafe scores.sum = makeProbabilities(row, experts, kernels)
            let used = unsafe ranks(k, of: scores, chosen: chosen)
            for rank in used..<k { unsafe weights[rank] = 0 }
            return used
        // Sigmoids of large logits are all 1: what only orders the experts is asked of the logits.
        case .softmaxOfChosen where unsafe correction == nil,
            .sigmoid where unsafe correction == nil && groupsUsed == groupCount:
            unsafe select(k, by: scores, into: chosen)
            unsafe scores.sum = makeProbabilities(row, experts, kernels)
        case .softmax, .softmaxOfChosen, .sigmoid:
            unsafe scores.sum = makeProbabilities(row, experts, kernels)
            unsafe scores.correction = unsafe correction
            unsafe select(k, by: scores, into: chosen)
        }
        let used = unsafe ranks(k, of: scores, chosen: chosen)
        unsafe weigh(
            used, probabilities: row, sum: scores.sum, chosen: chosen, weights: weights)
        for rank in used..<k { unsafe weights[rank] = 0 }
        return used
    }

    /// Makes logits, in place, numbers that experts are ranked by as the router ranks them.
    func makeScores(
        _ row: UnsafeMutablePointer<Float>, _ experts: Int, correction: UnsafePointer<Float>?,
        kernels: UnsafePointer<sluice_kernels>
    ) {
        // Probabilities alone rank as the logits do.
        guard let correction = unsafe correction else { return }
        var scores = unsafe RouterScores(values: row, count: experts)
        unsafe scores.sum = makeProbabilities(row, experts, kernels)
        unsafe scores.correction = correction
        for expert in 0..<experts { unsafe row[expert] = scores[expert] }
    }

    /// Makes probabilities of logits, in place.
    ///
    /// - Returns: What they are to be divided by.
    private func makeProbabilities(
        _ row: UnsafeMutablePointer<Float>, _ experts: Int,
        _ kernels: UnsafePointer<sluice_kernels>
    ) -> Float {
        guard gating == .sigmoid else {
            return unsafe kernels.pointee.softmax_exp(row, UInt32(experts))
        }
        for expert in 0..<experts { unsafe row[expert] = Routing.sigmoid(row[expert]) }
        return 1
    }

    /// Weights of `count` experts, by the router's probabilities of them, which are still to be
    /// divided by `sum`; not for `sparseMixer`.
    func weigh(
        _ count: Int, probabilities: UnsafePointer<Float>, sum: Float,
        chosen: UnsafePointer<Int32>, weights: UnsafeMutablePointer<Float>
    ) {
        var total: Float = 0
        for rank in 0..<count {
            unsafe weights[rank] = unsafe probabilities[Int(chosen[rank])] / sum
            unsafe total += weights[rank]
        }
        if normalises || gating == .softmaxOfChosen {
            total += normEpsilon
            // Not `max`, which would hide a sum that is not a number.
            if total < normFloor { total = normFloor }
            for rank in 0..<count { unsafe weights[rank] /= total }
        }
        for rank in 0..<count { unsafe weights[rank] *= scale }
    }

    /// Weights of `count` experts under `sparseMixer`. Experts of higher logits that are not among
    /// them were passed over, and are as if they were not there.
    func mix(
        _ count: Int, logits: UnsafePointer<Float>, experts: Int, jitter: Float,
        chosen: UnsafePointer<Int32>, weights: UnsafeMutablePointer<Float>
    ) {
        for rank in 0..<count {
            let largest = unsafe logits[Int(chosen[rank])]
            var sum: Float = 0
            for expert in 0..<experts {
                let logit = unsafe logits[expert]
                if logit > largest { continue }
                if (largest - logit) / max(abs(logit), largest) > 2 * jitter { continue }
                if unsafe Routing.isTaken(expert, chosen, rank) { continue }
                sum += Routing.exponential(logit - largest)
            }
            unsafe weights[rank] = scale / sum
        }
    }

    /// The groups whose experts may be chosen, one bit each.
    ///
    /// - Parameter scores: (experts): what experts are ranked by.
    func groups(of experts: Int, by scores: UnsafePointer<Float>) -> UInt64 {
        unsafe groups(by: RouterScores(values: scores, count: experts))
    }

    private func groups(by scores: RouterScores) -> UInt64 {
        guard groupsUsed < groupCount else { return .max }
        let size = unsafe scores.count / groupCount
        var used: UInt64 = 0
        for _ in 0..<groupsUsed {
            var (best, bestScore) = (-1, Float.nan)
            for group in 0..<groupCount where used & 1 << UInt64(group) == 0 {
                let score = unsafe groupScore(of: scores, group * size, size)
                if best < 0 || Routing.beats(score, bestScore) {
                    (best, bestScore) = (group, score)
                }
            }
            used |= 1 << UInt64(best)
        }
        return used
    }

    /// The k best experts of the best groups, by rank. Where these are too few, those of the other
    /// groups follow.
    private func select(
        _ k: Int, by scores: RouterScores, into chosen: UnsafeMutablePointer<Int32>
    ) {
        let used = unsafe groups(by: scores)
        let size = unsafe scores.count / max(groupCount, 1)
        var inside = 0
        for expert in unsafe 0..<scores.count where Routing.has(used, expert, size) {
            unsafe Routing.insert(expert, by: scores, among: chosen, after: 0, &inside, k)
        }
        guard inside < k else { return }
        var count = inside
        for expert in unsafe 0..<scores.count where !Routing.has(used, expert, size) {
            unsafe Routing.insert(expert, by: scores, among: chosen, after: inside, &count, k)
        }
    }

    /// Puts an expert where it belongs among the best `count` so far, at most k of them, the first
    /// `after` of which stay where they are. Experts come in ascending order, so that equals keep it.
    private static func insert(
        _ expert: Int, by scores: RouterScores, among best: UnsafeMutablePointer<Int32>,
        after: Int, _ count: inout Int, _ k: Int
    ) {
        let score = unsafe scores[expert]
        if count < k {
            count += 1
        } else if unsafe !beats(score, scores[Int(best[k - 1])]) {
            return
        }
        var place = count - 1
        while place > after, unsafe beats(score, scores[Int(best[place - 1])]) {
            unsafe best[place] = best[place - 1]
            place -= 1
        }
        unsafe best[place] = Int32(expert)
    }

    /// Experts that hold `topP`, from the best of `k` chosen on.
    private func ranks(
        _ k: Int, of scores: RouterScores, chosen: UnsafePointer<Int32>
    ) -> Int {
        guard let topP else { return k }
        var all = unsafe scores.sum
        if gating == .sigmoid {
            all = 0
            for rank in 0..<k { unsafe all += scores.values[Int(chosen[rank])] }
        }
        var held: Float = 0
        for rank in 0..<k {
            unsafe held += scores.values[Int(chosen[rank])]
            if held >= topP * all { return rank + 1 }
        }
        return k
    }

    private func groupScore(of scores: RouterScores, _ first: Int, _ size: Int) -> Float {
        var (best, second) = (-Float.infinity, -Float.infinity)
        for expert in first..<(first + size) {
            let score = unsafe scores[expert]
            if score > best {
                (best, second) = (score, best)
            } else if score > second {
                second = score
            }
        }
        return groupScore == .maximum ? best : best + second
    }

    /// Whether an expert is of one of the groups, which have `size` experts each.
    static func has(_ groups: UInt64, _ expert: Int, _ size: Int) -> Bool {
        groups == .max || groups >> UInt64(expert / size) & 1 == 1
    }

    /// Whether a score ranks before another of a lower index.
    static func beats(_ score: Float, _ other: Float) -> Bool {
        score > other || (other.isNaN && !score.isNaN)
    }

    private static func isTaken(
        _ expert: Int, _ chosen: UnsafePointer<Int32>, _ ranks: Int
    ) -> Bool {
        for rank in 0..<ranks where unsafe chosen[rank] == Int32(expert) { return true }
        return false
    }

    static func sigmoid(_ logit: Float) -> Float { 1 / (1 + exponential(-logit)) }

    /// exp as the kernels compute it, which CKernels.h defines: the same bits on every machine.
    static func exponential(_ exponent: Float) -> Float {
        if exponent < -87 { return 0 }
        let x = exponent > 88 ? 88 : exponent
        let shifted = x * 1.44269504 + 12_582_912  // k in the low bits
        let k = shifted - 12_582_912  // [-126 ... 127]
        let r = (x - k * 0.693359375) - k * -2.12194440e-4
        var p: Float = 1.9875691500e-4
        p = p * r + 1.3981999507e-3
        p = p * r + 8.3334519073e-3
        p = p * r + 4.1665795894e-2
        p = p * r + 1.6666665459e-1
        p = p * r + 5.0000001201e-1
        let power = Float(
            bitPattern: ((shifted.bitPattern & 0x7f_ffff) &- 0x40_0000 &+ 127) << 23)
        return ((p * (r * r) + r) + 1) * power
    }
}
