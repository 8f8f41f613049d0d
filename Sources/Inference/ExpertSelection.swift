/// One token's choice of experts in one layer, and what a miss policy makes of it.
///
/// The router's choice is written into `chosen` and `weights` (by rank), the planes in memory into
/// `resident`, the router's output into `probabilities` and `logits`; `decide` then rewrites
/// `chosen`, `weights` and `widths`. Allocates nothing after `init`.
struct ExpertSelection {
    let policy: MissPolicy
    let layerCount: Int
    let expertCount: Int
    /// Experts per token, k.
    let expertsPerToken: Int
    /// Planes of an expert at full width.
    let planes: Int
    let routing: Routing

    /// (experts): the router's probabilities, as `Routing.choose` leaves them.
    var probabilities: [Float]
    /// (experts): what is added to them for the choice, if anything is.
    var correction: [Float]
    var isCorrected = false
    /// (experts): the router's output as it is, only where it is read.
    var logits: [Float]
    /// (experts): complete planes in memory.
    var resident: [UInt8]

    /// Ranks of `chosen` that the router wants computed; the others have no part in anything.
    var rankCount: Int
    /// (k): experts by rank.
    var chosen: [Int32]
    /// (k): what their outputs are added with; 0 for those not computed in this layer.
    var weights: [Float]
    /// (k): planes that are wanted; 0 for those not computed in this layer.
    var widths: [UInt8]
    /// What the next layer is to compute and add, by rank.
    private(set) var deferredCount = 0
    private(set) var deferredExperts: [Int32]
    private(set) var deferredWeights: [Float]

    private(set) var accounting = MissAccounting()
    /// (tokens, k): experts of the router's choice that are computed as chosen, and their weights;
    /// -1 where another fate is accounted for already.
    private var openExperts: [Int32]
    private var openMass: [Float]
    /// Where the current token's begin.
    private var firstOpen = 0
    /// (experts): planes that the layer computed with.
    private var usedPlanes: [UInt8]

    /// (layers x experts)
    private var isProtected: [Bool]
    /// (experts): what the router ranks them by, and the same with a policy's bonus.
    private var scores: [Float]
    private var favoured: [Float]
    /// (experts): of the groups that the router chose.
    private var isEligible: [Bool]
    /// Divides the probabilities.
    private var probabilitySum: Float = 1
    /// (experts): chosen anew, and gone past on the way down the ranks.
    private var isSelected: [Bool]
    private var isPassed: [Bool]
    /// (layers): mean range of the logits so far, and of how many tokens.
    private var meanRange: [Double]
    private var rangeCount: [Double]

    /// - Parameters:
    ///   - protected: experts of the model that every approximation leaves alone.
    ///   - tokens: most tokens of one step.
    init(
        policy: MissPolicy, protected: Set<LayerExpert>, layerCount: Int, expertCount: Int,
        expertsPerToken: Int, planes: Int, routing: Routing, tokens: Int = 1
    ) {
        self.policy = policy
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.expertsPerToken = expertsPerToken
        self.planes = planes
        self.routing = routing
        probabilities = Array(repeating: 0, count: expertCount)
        logits = Array(repeating: 0, count: policy.readsLogits(under: routing) ? expertCount : 0)
        correction = Array(repeating: 0, count: expertCount)
        rankCount = expertsPerToken
        scores = Array(repeating: 0, count: expertCount)
        favoured = Array(repeating: 0, count: expertCount)
        isEligible = Array(repeating: true, count: expertCount)
        resident = Array(repeating: 0, count: expertCount)
        chosen = Array(repeating: 0, count: expertsPerToken)
        weights = Array(repeating: 0, count: expertsPerToken)
        widths = Array(repeating: UInt8(planes), count: expertsPerToken)
        deferredExperts = Array(repeating: 0, count: expertsPerToken)
        deferredWeights = Array(repeating: 0, count: expertsPerToken)
        openExperts = Array(repeating: -1, count: tokens * expertsPerToken)
        openMass = Array(repeating: 0, count: tokens * expertsPerToken)
        usedPlanes = Array(repeating: 0, count: expertCount)
        isProtected = Array(repeating: false, count: layerCount * expertCount)
        for name in protected { isProtected[name.layer * expertCount + name.expert] = true }
        isSelected = Array(repeating: false, count: expertCount)
        isPassed = Array(repeating: false, count: expertCount)
        meanRange = Array(repeating: 0, count: layerCount)
        rangeCount = Array(repeating: 0, count: layerCount)
    }

    /// Whether the router's output is read as it is, before the softmax.
    var readsLogits: Bool { !logits.isEmpty }

    /// Applies the policy to a token's choice in `layer`.
    ///
    /// - Parameters:
    ///   - token: which of the step's.
    ///   - tokens: of the step; only one alone is deferred, because what is late keeps the input of
    ///     one token.
    mutating func decide(layer: Int, token: Int = 0, of tokens: Int = 1) {
        accounting.choices += UInt64(rankCount)
        deferredCount = 0
        firstOpen = token * expertsPerToken
        for rank in rankCount..<expertsPerToken {
            widths[rank] = 0
            openExperts[firstOpen + rank] = -1
        }
        for rank in 0..<rankCount {
            widths[rank] = UInt8(planes)
            openExperts[firstOpen + rank] = chosen[rank]
            openMass[firstOpen + rank] = weights[rank]
            accounting.mass += Double(weights[rank])
        }
        if policy.asksOfAllExperts { rankAll() }
        switch policy {
        case .exact: break
        case .fallback(let full, let prefix, let planes):
            fallBack(layer, full: full, prefix: prefix, planes: planes)
        case .drop(let below):
            let total = totalWeight
            for rank in 1..<max(1, rankCount) where isLight(layer, rank, below, total) {
                skip(rank)
            }
            scale(to: total)
        case .deferred(let below):
            guard tokens == 1, layer < layerCount - 1 else { break }
            let total = totalWeight
            for rank in 1..<max(1, rankCount) where isLight(layer, rank, below, total) {
                postpone(rank)
            }
        case .substitute(let below, let kept):
            let total = totalWeight
            for rank in 1..<max(1, rankCount)
            where rank >= kept && isLight(layer, rank, below, total) {
                replace(rank)
            }
        case .maxRank(let kept, let ranks): preferResident(layer, kept: kept, ranks: ranks)
        case .cumulative(let kept, let probability):
            preferResident(layer, kept: kept, ranks: ranksHolding(probability))
        case .cachePrior(let kept, let bonus):
            favourResident(layer, kept: kept, bonus: bonus)
        }
    }

    /// Notes with how many planes the layer computes an expert.
    mutating func use(expert: Int, planes: Int) { usedPlanes[expert] = UInt8(planes) }

    /// Accounts for what the layer computed of the router's choices, once all is computed.
    mutating func account(tokens: Int = 1) {
        for open in 0..<(tokens * expertsPerToken) where openExperts[open] >= 0 {
            accounting.add(
                mass: Double(openMass[open]), width: Int(usedPlanes[Int(openExperts[open])]))
            openExperts[open] = -1
        }
    }

    // MARK: Rules on misses

    private var totalWeight: Double {
        var sum = 0.0
        for rank in 0..<rankCount { sum += Double(weights[rank]) }
        return sum
    }

    /// A loop, because `reduce` allocates where it is not specialised.
    private static func sum(_ values: [Float]) -> Double {
        var sum = 0.0
        for index in values.indices { sum += Double(values[index]) }
        return sum
    }

    /// Whether every approximation leaves the expert alone.
    func isHeld(_ layer: Int, _ expert: Int32) -> Bool {
        isProtected[layer * expertCount + Int(expert)]
    }

    private func isMiss(_ rank: Int) -> Bool { resident[Int(chosen[rank])] < planes }

    /// A miss that may be done without: not protected, and of a share below `factor` / k.
    private func isLight(_ layer: Int, _ rank: Int, _ factor: Double, _ total: Double) -> Bool {
        isMiss(rank) && !isHeld(layer, chosen[rank])
            && Double(weights[rank]) * Double(rankCount) < factor * total
    }

    private mutating func fallBack(_ layer: Int, full: Double, prefix: Double, planes: Int) {
        let total = totalWeight
        var before = 0.0
        for rank in 0..<rankCount {
            let sum = before
            before += Double(weights[rank])
            guard rank > 0, isMiss(rank), !isHeld(layer, chosen[rank]), sum > full * total else {
                continue
            }
            let here = Int(resident[Int(chosen[rank])])
            if sum <= prefix * total {
                widths[rank] = UInt8(min(max(here, planes, 1), self.planes))
            } else if here > 0 {
                widths[rank] = UInt8(here)
            } else {
                skip(rank)
            }
        }
        scale(to: total)
    }

    private mutating func skip(_ rank: Int) {
        accounting.add(skipped: Double(weights[rank]))
        openExperts[firstOpen + rank] = -1
        weights[rank] = 0
        widths[rank] = 0
    }

    /// Scales the weights that are left to a sum of `total`, if any were taken away.
    private mutating func scale(to total: Double) {
        let left = totalWeight
        guard left < total, left > 0 else { return }
        for rank in 0..<rankCount {
            weights[rank] = Float(Double(weights[rank]) * (total / left))
        }
    }

    private mutating func postpone(_ rank: Int) {
        accounting.add(deferred: Double(weights[rank]))
        deferredExperts[deferredCount] = chosen[rank]
        deferredWeights[deferredCount] = weights[rank]
        deferredCount += 1
        openExperts[firstOpen + rank] = -1
        weights[rank] = 0
        widths[rank] = 0
    }

    private mutating func replace(_ rank: Int) {
        var best = -1
        for expert in 0..<expertCount { isSelected[expert] = false }
        for rank in 0..<rankCount { isSelected[Int(chosen[rank])] = true }
        for expert in 0..<expertCount
        where isEligible[expert] && resident[expert] >= planes && !isSelected[expert] {
            if best < 0 || scores[expert] > scores[best] { best = expert }
        }
        guard best >= 0 else { return }
        chosen[rank] = Int32(best)
        accounting.add(swapped: Double(weights[rank]))
        openExperts[firstOpen + rank] = -1
    }

    // MARK: Rules that choose anew

    /// Whether no rule may give up the router's choice of this rank.
    private func isKept(_ layer: Int, _ rank: Int, _ kept: Int) -> Bool {
        rank < max(1, kept) || isHeld(layer, chosen[rank])
    }

    /// The likeliest expert not passed yet, which is passed now; ties to the lower index.
    private mutating func pass() -> Int {
        var best = -1
        for expert in 0..<expertCount where !isPassed[expert] {
            if best < 0 || precedes(expert, best, scores[expert], scores[best]) { best = expert }
        }
        isPassed[best] = true
        return best
    }

    /// Whether an expert ranks before another of a lower index, by their scores.
    private func precedes(
        _ expert: Int, _ other: Int, _ score: Float, _ otherScore: Float
    ) -> Bool {
        isEligible[expert] == isEligible[other]
            ? Routing.beats(score, otherScore) : isEligible[expert]
    }

    /// Ranks all experts as the router does.
    private mutating func rankAll() {
        probabilitySum =
            routing.gating == .sigmoid ? 1 : Float(ExpertSelection.sum(probabilities))
        for expert in 0..<expertCount {
            scores[expert] =
                isCorrected
                ? probabilities[expert] / probabilitySum + correction[expert]
                : probabilities[expert]
        }
        let groups = unsafe routing.groups(of: expertCount, by: scores)
        let size = expertCount / routing.groupCount
        for expert in 0..<expertCount {
            isEligible[expert] = Routing.has(groups, expert, size)
        }
    }

    /// Fewest of the likeliest experts whose probabilities together reach `probability`.
    private mutating func ranksHolding(_ probability: Double) -> Int {
        let all = ExpertSelection.sum(probabilities)
        for expert in 0..<expertCount { isPassed[expert] = false }
        var sum = 0.0
        for rank in 0..<expertCount {
            sum += Double(probabilities[pass()])
            if sum >= probability * all { return rank + 1 }
        }
        return expertCount
    }

    /// Selects what is kept; returns how many that are.
    private mutating func selectKept(_ layer: Int, _ kept: Int) -> Int {
        var count = 0
        for expert in 0..<expertCount {
            isSelected[expert] = false
            isPassed[expert] = false
        }
        for rank in 0..<rankCount where isKept(layer, rank, kept) {
            isSelected[Int(chosen[rank])] = true
            count += 1
        }
        return count
    }

    private mutating func preferResident(_ layer: Int, kept: Int, ranks: Int) {
        var count = selectKept(layer, kept)
        for _ in 0..<min(max(0, ranks), expertCount) where count < rankCount {
            let expert = pass()
            if isSelected[expert] || !isEligible[expert] || resident[expert] < planes { continue }
            isSelected[expert] = true
            count += 1
        }
        for expert in 0..<expertCount { isPassed[expert] = false }
        while count < rankCount {
            let expert = pass()
            if isSelected[expert] { continue }
            isSelected[expert] = true
            count += 1
        }
        adoptSelected()
    }

    private mutating func favourResident(_ layer: Int, kept: Int, bonus: Double) {
        // A score that is not a number makes no range; the router's choice stands then.
        var (least, most) = (Float.infinity, -Float.infinity)
        for expert in 0..<expertCount {
            let score = isCorrected ? scores[expert] : logits[expert]
            guard score.isFinite else { return }
            favoured[expert] = score
            guard isEligible[expert] else { continue }
            (least, most) = (min(least, score), max(most, score))
        }
        rangeCount[layer] += 1
        meanRange[layer] += (Double(most - least) - meanRange[layer]) / rangeCount[layer]
        let added = Float(bonus * meanRange[layer])

        // The best J get the bonus too, and the protected are chosen whatever the others get.
        for expert in 0..<expertCount {
            isPassed[expert] = resident[expert] >= planes
            isSelected[expert] = false
        }
        for rank in 0..<min(max(1, kept), rankCount) { isPassed[Int(chosen[rank])] = true }
        for expert in 0..<expertCount where isPassed[expert] { favoured[expert] += added }
        var count = 0
        for rank in 0..<rankCount where isHeld(layer, chosen[rank]) {
            isSelected[Int(chosen[rank])] = true
            count += 1
        }
        while count < rankCount {
            var best = -1
            for expert in 0..<expertCount where !isSelected[expert] {
                if best < 0 || precedes(expert, best, favoured[expert], favoured[best]) {
                    best = expert
                }
            }
            isSelected[best] = true
            count += 1
        }
        adoptSelected()
    }

    /// Makes the selected experts the choice, by rank, with the weights that the model's rule gives
    /// them.
    private mutating func adoptSelected() {
        var changed = false
        for rank in 0..<rankCount where !isSelected[Int(chosen[rank])] {
            changed = true
            accounting.add(swapped: Double(weights[rank]))
            openExperts[firstOpen + rank] = -1
        }
        // The same experts keep the router's weights, to the bit.
        guard changed else { return }
        for rank in 0..<rankCount {
            var best = -1
            for expert in 0..<expertCount where isSelected[expert] {
                if best < 0 || precedes(expert, best, scores[expert], scores[best]) {
                    best = expert
                }
            }
            isSelected[best] = false
            chosen[rank] = Int32(best)
        }
        if case .sparseMixer(let jitter) = routing.gating {
            unsafe routing.mix(
                rankCount, logits: logits, experts: expertCount, jitter: jitter, chosen: chosen,
                weights: &weights)
        } else {
            unsafe routing.weigh(
                rankCount, probabilities: probabilities, sum: probabilitySum, chosen: chosen,
                weights: &weights)
        }
    }
}
