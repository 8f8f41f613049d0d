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
    /// Whether the model divides the k chosen weights by their sum.
    let normalisesWeights: Bool

    /// (experts): proportional to the router's probabilities.
    var probabilities: [Float]
    /// (experts): the router's output as it is, only for policies that compare it; they leave their
    /// own there.
    var logits: [Float]
    /// (experts): complete planes in memory.
    var resident: [UInt8]

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
        expertsPerToken: Int, planes: Int, normalisesWeights: Bool, tokens: Int = 1
    ) {
        self.policy = policy
        self.layerCount = layerCount
        self.expertCount = expertCount
        self.expertsPerToken = expertsPerToken
        self.planes = planes
        self.normalisesWeights = normalisesWeights
        probabilities = Array(repeating: 0, count: expertCount)
        logits = Array(repeating: 0, count: policy.comparesLogits ? expertCount : 0)
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

    /// Applies the policy to a token's choice in `layer`.
    ///
    /// - Parameters:
    ///   - token: which of the step's.
    ///   - tokens: of the step; only one alone is deferred, because what is late keeps the input of
    ///     one token.
    mutating func decide(layer: Int, token: Int = 0, of tokens: Int = 1) {
        accounting.choices += UInt64(expertsPerToken)
        deferredCount = 0
        firstOpen = token * expertsPerToken
        for rank in 0..<expertsPerToken {
            widths[rank] = UInt8(planes)
            openExperts[firstOpen + rank] = chosen[rank]
            openMass[firstOpen + rank] = weights[rank]
            accounting.mass += Double(weights[rank])
        }
        switch policy {
        case .exact: break
        case .fallback(let full, let prefix, let planes):
            fallBack(layer, full: full, prefix: prefix, planes: planes)
        case .drop(let below):
            let total = totalWeight
            for rank in 1..<max(1, expertsPerToken) where isLight(layer, rank, below, total) {
                skip(rank)
            }
            scale(to: total)
        case .deferred(let below):
            guard tokens == 1, layer < layerCount - 1 else { break }
            let total = totalWeight
            for rank in 1..<max(1, expertsPerToken) where isLight(layer, rank, below, total) {
                postpone(rank)
            }
        case .substitute(let below, let kept):
            let total = totalWeight
            for rank in 1..<max(1, expertsPerToken)
            where rank >= kept && isLight(layer, rank, below, total) {
                replace(rank)
            }
        case .maxRank(let kept, let ranks): preferResident(layer, kept: kept, ranks: ranks)
        case .cumulative(let kept, let probability):
            preferResident(layer, kept: kept, ranks: ranksHolding(probability))
        case .cachePrior(let kept, let bonus): favourResident(layer, kept: kept, bonus: bonus)
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

    private var totalWeight: Double { ExpertSelection.sum(weights) }

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
            && Double(weights[rank]) * Double(expertsPerToken) < factor * total
    }

    private mutating func fallBack(_ layer: Int, full: Double, prefix: Double, planes: Int) {
        let total = totalWeight
        var before = 0.0
        for rank in 0..<expertsPerToken {
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
        for rank in 0..<expertsPerToken {
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
        for rank in 0..<expertsPerToken { isSelected[Int(chosen[rank])] = true }
        for expert in 0..<expertCount where resident[expert] >= planes && !isSelected[expert] {
            if best < 0 || probabilities[expert] > probabilities[best] { best = expert }
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
            if best < 0 || probabilities[expert] > probabilities[best] { best = expert }
        }
        isPassed[best] = true
        return best
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
        for rank in 0..<expertsPerToken where isKept(layer, rank, kept) {
            isSelected[Int(chosen[rank])] = true
            count += 1
        }
        return count
    }

    private mutating func preferResident(_ layer: Int, kept: Int, ranks: Int) {
        var count = selectKept(layer, kept)
        for _ in 0..<min(max(0, ranks), expertCount) where count < expertsPerToken {
            let expert = pass()
            if isSelected[expert] || resident[expert] < planes { continue }
            isSelected[expert] = true
            count += 1
        }
        for expert in 0..<expertCount { isPassed[expert] = false }
        while count < expertsPerToken {
            let expert = pass()
            if isSelected[expert] { continue }
            isSelected[expert] = true
            count += 1
        }
        adoptSelected()
    }

    private mutating func favourResident(_ layer: Int, kept: Int, bonus: Double) {
        // A logit that is not a number makes no range; the router's choice stands then.
        var (least, most) = (Float.infinity, -Float.infinity)
        for expert in 0..<expertCount {
            guard logits[expert].isFinite else { return }
            (least, most) = (min(least, logits[expert]), max(most, logits[expert]))
        }
        rangeCount[layer] += 1
        meanRange[layer] += (Double(most - least) - meanRange[layer]) / rangeCount[layer]
        let added = Float(bonus * meanRange[layer])

        // The best J get the bonus too, and the protected are chosen whatever the others get.
        for expert in 0..<expertCount {
            isPassed[expert] = resident[expert] >= planes
            isSelected[expert] = false
        }
        for rank in 0..<min(max(1, kept), expertsPerToken) { isPassed[Int(chosen[rank])] = true }
        for expert in 0..<expertCount where isPassed[expert] { logits[expert] += added }
        var count = 0
        for rank in 0..<expertsPerToken where isHeld(layer, chosen[rank]) {
            isSelected[Int(chosen[rank])] = true
            count += 1
        }
        while count < expertsPerToken {
            var best = -1
            for expert in 0..<expertCount where !isSelected[expert] {
                if best < 0 || logits[expert] > logits[best] { best = expert }
            }
            isSelected[best] = true
            count += 1
        }
        adoptSelected()
    }

    /// Makes the k selected experts the choice, by rank, with the weights that the router's
    /// probabilities and the model's rule give them.
    private mutating func adoptSelected() {
        var changed = false
        for rank in 0..<expertsPerToken where !isSelected[Int(chosen[rank])] {
            changed = true
            accounting.add(swapped: Double(weights[rank]))
            openExperts[firstOpen + rank] = -1
        }
        // The same experts keep the router's weights, to the bit.
        guard changed else { return }
        let all = ExpertSelection.sum(probabilities)
        var total = 0.0
        for rank in 0..<expertsPerToken {
            var best = -1
            for expert in 0..<expertCount where isSelected[expert] {
                if best < 0 || probabilities[expert] > probabilities[best] { best = expert }
            }
            isSelected[best] = false
            chosen[rank] = Int32(best)
            weights[rank] = Float(Double(probabilities[best]) / all)
            total += Double(probabilities[best]) / all
        }
        guard normalisesWeights else { return }
        for rank in 0..<expertsPerToken { weights[rank] = Float(Double(weights[rank]) / total) }
    }
}
