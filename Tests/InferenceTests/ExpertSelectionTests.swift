import ExpertStreaming
import Testing

@testable import Inference

/// Definitions, on cases worked by hand. Weights are sums of powers of two, so that thresholds are
/// met exactly.
@Suite struct ExpertSelectionTests {
    /// Four of eight experts, 4, 5, 6 and 7 by rank with 1/2, 1/4, 1/8 and 1/8; all others have
    /// probabilities below those.
    private static func selection(
        _ policy: String, protected: Set<LayerExpert> = [], resident: [Int: Int] = [:],
        planes: Int = 1, routing: Routing = Routing()
    ) throws -> ExpertSelection {
        var selection = ExpertSelection(
            policy: try MissPolicy(policy), protected: protected, layerCount: 3, expertCount: 8,
            expertsPerToken: 4, planes: planes, routing: routing)
        selection.chosen = [4, 5, 6, 7]
        selection.weights = [0.5, 0.25, 0.125, 0.125]
        // Of 2: the first four take 1/2, 1/4, 1/8, 1/8 of 1, the rest 1.
        selection.probabilities = [0.0625, 0.03125, 0.09375, 0.0625, 0.5, 0.25, 0.125, 0.125]
        for (expert, width) in resident { selection.resident[expert] = UInt8(width) }
        return selection
    }

    /// Decides layer 0, computes what is asked for, and returns the accounts.
    private static func accounts(_ selection: inout ExpertSelection, layer: Int = 0)
        -> MissAccounting
    {
        selection.decide(layer: layer)
        for (rank, width) in selection.widths.enumerated() where width > 0 {
            selection.use(expert: Int(selection.chosen[rank]), planes: Int(width))
        }
        selection.account()
        return selection.accounting
    }

    @Test func exactTouchesNothing() throws {
        var selection = try Self.selection("exact")
        let accounts = Self.accounts(&selection)
        #expect(selection.chosen == [4, 5, 6, 7])
        #expect(selection.weights == [0.5, 0.25, 0.125, 0.125])
        #expect(selection.widths == [1, 1, 1, 1])
        #expect(accounts.choices == 4 && accounts.mass == 1 && accounts.widthMass[1] == 1)
    }

    /// Sums of better ranks: 0, 1/2, 3/4, 7/8.
    @Test func fallbackComparesTheSumOfBetterRanks() throws {
        // On the boundary is still inside: s <= T1, s <= T2.
        var selection = try Self.selection("fallback,T1=0.5,T2=0.75", planes: 2)
        let accounts = Self.accounts(&selection)
        #expect(selection.widths == [2, 2, 1, 0])
        #expect(accounts.widthMass[2] == 0.75 && accounts.widthMass[1] == 0.125)
        #expect(accounts.skippedMass == 0.125 && accounts.skippedCount == 1)
        // What is left, 7/8, is scaled to 1.
        let scaled: [Float] = [0.5 / 0.875, 0.25 / 0.875, 0.125 / 0.875, 0]
        #expect(selection.weights == scaled)

        selection = try Self.selection("fallback,T1=0.49,T2=0.74", planes: 2)
        selection.decide(layer: 0)
        #expect(selection.widths == [2, 1, 0, 0])
        selection = try Self.selection("fallback,T1=0,T2=0", planes: 2)
        selection.decide(layer: 0)
        #expect(selection.widths == [2, 0, 0, 0])
        #expect(selection.weights == [1, 0, 0, 0])
        selection = try Self.selection("fallback,T1=1,T2=1", planes: 2)
        selection.decide(layer: 0)
        #expect(selection.widths == [2, 2, 2, 2])
        #expect(selection.weights == [0.5, 0.25, 0.125, 0.125])
    }

    @Test func fallbackUsesPrefixesThatAreHere() throws {
        // Beyond T2 a prefix serves, and is not skipped; below, the wider of W and what is here.
        var selection = try Self.selection(
            "fallback,T1=0.5,T2=0.75", resident: [6: 2, 7: 1], planes: 3)
        selection.decide(layer: 0)
        #expect(selection.widths == [3, 3, 2, 1])
        #expect(selection.weights == [0.5, 0.25, 0.125, 0.125])
        // At T1 and before, a prefix is not enough.
        selection = try Self.selection("fallback,T1=0.5,T2=0.75", resident: [5: 1], planes: 3)
        selection.decide(layer: 0)
        #expect(selection.widths == [3, 3, 1, 0])
    }

    @Test func hitsRankZeroAndProtectedExpertsStayWhole() throws {
        for policy in ["fallback,T1=0,T2=0", "drop,F=1", "defer,F=1"] {
            // Everything is here.
            var selection = try Self.selection(policy, resident: [4: 1, 5: 1, 6: 1, 7: 1])
            #expect(Self.accounts(&selection).widthMass[1] == 1, "\(policy)")
            // Only the lightest is missing, and protected.
            selection = try Self.selection(
                policy, protected: [LayerExpert(layer: 0, expert: 7)],
                resident: [4: 1, 5: 1, 6: 1])
            #expect(Self.accounts(&selection).widthMass[1] == 1, "\(policy)")
            // Protected in layer 0 is not protected in layer 1.
            #expect(Self.accounts(&selection, layer: 1).widthCount[1] == 7, "\(policy)")
        }
        // One expert per token is always rank 0.
        for policy in MissPolicy.names {
            var single = ExpertSelection(
                policy: try MissPolicy(policy), protected: [], layerCount: 2, expertCount: 2,
                expertsPerToken: 1, planes: 1, routing: .notNormalised)
            single.chosen = [1]
            single.weights = [0.25]
            single.probabilities = [0.25, 0.75]
            if single.readsLogits { single.logits = [0, 1] }
            single.resident = [1, 0]
            single.decide(layer: 0)
            #expect(single.chosen == [1] && single.weights == [0.25], "\(policy)")
            #expect(single.widths == [1], "\(policy)")
        }
    }

    @Test func dropSkipsMissesBelowAShareOfTheMean() throws {
        // F / k = 1/4: strictly below it are 1/8 and 1/8.
        var selection = try Self.selection("drop,F=1", resident: [6: 1])
        let accounts = Self.accounts(&selection)
        #expect(selection.widths == [1, 1, 1, 0])
        #expect(accounts.skippedMass == 0.125 && accounts.widthMass[1] == 0.875)
        let scaled: [Float] = [0.5 / 0.875, 0.25 / 0.875, 0.125 / 0.875, 0]
        #expect(selection.weights == scaled)
        // F / k = 1/8: equal is not below.
        selection = try Self.selection("drop,F=0.5")
        selection.decide(layer: 0)
        #expect(selection.widths == [1, 1, 1, 1])
        // Weights that do not sum to 1 are compared as shares, and keep their sum.
        selection = try Self.selection("drop,F=1")
        selection.weights = [0.25, 0.125, 0.0625, 0.0625]
        selection.decide(layer: 0)
        #expect(selection.widths == [1, 1, 0, 0])
        #expect(abs(selection.weights.reduce(0, +) - 0.5) < 1e-7)
        #expect(selection.weights[0] == 2 * selection.weights[1])
    }

    @Test func deferralLeavesLightMissesToTheNextLayer() throws {
        var selection = try Self.selection("defer,F=1", resident: [6: 1])
        let accounts = Self.accounts(&selection)
        #expect(selection.widths == [1, 1, 1, 0])
        // The others keep their weights: nothing is lost, only late.
        #expect(selection.weights == [0.5, 0.25, 0.125, 0])
        #expect(selection.deferredCount == 1)
        #expect(selection.deferredExperts[0] == 7 && selection.deferredWeights[0] == 0.125)
        #expect(accounts.deferredMass == 0.125 && accounts.deferredCount == 1)
        // The last layer has no next one.
        selection = try Self.selection("defer,F=1")
        selection.decide(layer: 2)
        #expect(selection.widths == [1, 1, 1, 1] && selection.deferredCount == 0)
        // Several tokens together have none to spare.
        selection = try Self.selection("defer,F=1")
        selection.decide(layer: 0, of: 2)
        #expect(selection.widths == [1, 1, 1, 1] && selection.deferredCount == 0)
    }

    @Test func substitutesAreTheLikeliestThatAreHere() throws {
        // Experts 0 and 3 tie at 1/16: the lower index wins, then the other; 2 is likelier, but not
        // here. 7 stays in memory and is not given out twice.
        var selection = try Self.selection("substitute,F=1,J=1", resident: [0: 1, 1: 1, 3: 1])
        let accounts = Self.accounts(&selection)
        #expect(selection.chosen == [4, 5, 0, 3])
        #expect(selection.weights == [0.5, 0.25, 0.125, 0.125])
        #expect(selection.widths == [1, 1, 1, 1])
        #expect(accounts.swappedMass == 0.25 && accounts.swappedCount == 2)
        #expect(accounts.widthMass[1] == 0.75)
        // J = 3 leaves only the last rank to it.
        selection = try Self.selection("substitute,F=1,J=3", resident: [2: 1])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 6, 2])
        // Nothing here, or only experts that were chosen anyway: the misses are read.
        selection = try Self.selection("substitute,F=1", resident: [4: 1, 7: 1])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 6, 7] && selection.widths == [1, 1, 1, 1])
        // A prefix is no substitute.
        selection = try Self.selection("substitute,F=1", resident: [2: 1], planes: 2)
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 6, 7])
    }

    /// Ranks of all experts: 4, 5, 6, 7, then 2 (3/32), 0 and 3 (1/16 each, lower index first), 1.
    @Test func maxRankFillsUpWithExpertsThatAreHere() throws {
        // J = 1 keeps expert 4; of ranks below 6 there are 7 and 0; one place is left, for rank 1.
        var selection = try Self.selection("max-rank,J=1,M=6", resident: [7: 1, 0: 1, 3: 1])
        let accounts = Self.accounts(&selection)
        #expect(selection.chosen == [4, 5, 7, 0])
        // Weights of the router over the selected: 1/2, 1/4, 1/8, 1/16 of 15/16.
        let expected: [Float] = [8, 4, 2, 1].map { $0 / 15 }
        #expect(zip(selection.weights, expected).allSatisfy { abs($0 - $1) < 1e-7 })
        #expect(accounts.swappedMass == 0.125 && accounts.swappedCount == 1)
        #expect(accounts.widthMass[1] == 0.875)
        // One rank more lets 3 in too, in the place of 5.
        selection = try Self.selection("max-rank,J=1,M=7", resident: [7: 1, 0: 1, 3: 1])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 7, 0, 3])
        // Better ranks come first: with 2 here as well, 3 stays out.
        selection = try Self.selection("max-rank,J=1,M=8", resident: [7: 1, 0: 1, 3: 1, 2: 1])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 7, 2, 0])
        // The top J and protected experts stay.
        selection = try Self.selection(
            "max-rank,J=2,M=8", protected: [LayerExpert(layer: 0, expert: 6)],
            resident: [0: 1, 1: 1, 2: 1, 3: 1])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 6, 2])
        // M = k changes nothing, and neither does a cache that holds nothing or all.
        for resident in [[:], [0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1]] {
            selection = try Self.selection("max-rank,J=1,M=8", resident: resident)
            selection.decide(layer: 0)
            #expect(selection.chosen == [4, 5, 6, 7])
            #expect(selection.weights == [0.5, 0.25, 0.125, 0.125])
        }
        selection = try Self.selection("max-rank,J=1,M=4", resident: [0: 1, 1: 1, 2: 1])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 6, 7])
    }

    @Test func modelsThatDoNotNormaliseKeepTheRoutersProbabilities() throws {
        var selection = try Self.selection(
            "max-rank,J=1,M=8", resident: [2: 1, 0: 1, 3: 1], routing: .notNormalised)
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 2, 0, 3])
        let expected: [Float] = [0.5, 0.09375, 0.0625, 0.0625].map { $0 / 1.25 }
        #expect(zip(selection.weights, expected).allSatisfy { abs($0 - $1) < 1e-7 })
    }

    /// Cumulative probabilities by rank, of 1.25: 0.5, 0.75, 0.875, 1, 1.09375, 1.15625, ...
    @Test func cumulativeTakesTheRanksThatHoldTheProbability() throws {
        func chosen(_ probability: Double) throws -> [Int32] {
            var selection = try Self.selection(
                "cumulative,J=1,P=\(probability)", resident: [2: 1, 0: 1, 3: 1])
            selection.decide(layer: 0)
            return selection.chosen
        }
        // 0.8 x 1.25 = 1 is reached by four experts, exactly.
        #expect(try chosen(0.8) == [4, 5, 6, 7])
        // Five: 2 is among them.
        #expect(try chosen(0.81) == [4, 5, 6, 2])
        #expect(try chosen(0.875) == [4, 5, 6, 2])
        #expect(try chosen(0.9) == [4, 5, 2, 0])
        #expect(try chosen(1) == [4, 2, 0, 3])
        #expect(try chosen(0) == [4, 5, 6, 7])
    }

    @Test func cachePriorAddsItsShareOfTheMeanRange() throws {
        func selection(_ lambda: Double, kept: Int, resident: [Int: Int]) throws -> ExpertSelection
        {
            var selection = try Self.selection(
                "cache-prior,lambda=\(lambda),J=\(kept)", resident: resident)
            // Range 8; the ranks are 4, 5, 6, 7, then 2, 0, 3, 1.
            selection.logits = [2, 0, 3, 1, 8, 7, 6, 5]
            return selection
        }
        // Bonus 2: expert 2 gets 5, as much as 7, and has the lower index.
        var tie = try selection(0.25, kept: 1, resident: [2: 1])
        let accounts = Self.accounts(&tie)
        #expect(tie.chosen == [4, 5, 6, 2])
        #expect(accounts.swappedMass == 0.125 && accounts.widthMass[1] == 0.875)
        // Bonus 1: nothing moves, and the weights stay as they were.
        var small = try selection(0.125, kept: 1, resident: [2: 1])
        small.decide(layer: 0)
        #expect(small.chosen == [4, 5, 6, 7] && small.weights == [0.5, 0.25, 0.125, 0.125])
        // The top J get it too.
        var kept = try selection(1, kept: 3, resident: [0: 1, 2: 1, 3: 1])
        kept.decide(layer: 0)
        #expect(kept.chosen == [4, 5, 6, 2])
        var bold = try selection(1, kept: 1, resident: [0: 1, 2: 1, 3: 1])
        bold.decide(layer: 0)
        #expect(bold.chosen == [4, 2, 0, 3])
        // The range is the mean over the tokens of its layer: 8, then (8 + 0) / 2 = 4.
        var mean = try selection(0.5, kept: 1, resident: [2: 1])
        mean.decide(layer: 1)
        mean.chosen = [4, 5, 6, 7]
        mean.weights = [0.5, 0.25, 0.125, 0.125]
        mean.logits = [Float](repeating: 1, count: 8)
        mean.decide(layer: 1)
        // All logits alike: 4 is kept by its bonus, 2 by its own, then the lowest indices.
        #expect(Set(mean.chosen) == [4, 2, 0, 1])
        // Another layer has a mean of its own, and what is no number makes none.
        mean.logits[3] = .nan
        mean.chosen = [4, 5, 6, 7]
        mean.decide(layer: 0)
        #expect(mean.chosen == [4, 5, 6, 7])
    }

    /// Three ranks are left by top-p: 1/2, 1/4, 1/8 of 7/8, and the fourth is nobody's.
    @Test func ranksBeyondTopPHaveNoPartInAnything() throws {
        for policy in MissPolicy.names {
            var selection = try Self.selection(policy, resident: [7: 1])
            if selection.readsLogits { selection.logits = [2, 0, 3, 1, 8, 7, 6, 5] }
            selection.rankCount = 3
            selection.weights = [0.5, 0.25, 0.125, 0]
            let accounts = Self.accounts(&selection)
            #expect(selection.widths[3] == 0 && selection.weights[3] == 0, "\(policy)")
            #expect(accounts.choices == 3 && accounts.mass == 0.875, "\(policy)")
            let mass =
                accounts.widthMass[1] + accounts.skippedMass + accounts.swappedMass
                + accounts.deferredMass
            #expect(mass == 0.875, "\(policy)")
        }
        // Expert 7 is as good as any other that was not chosen, and k is 3: 1/8 is below 7/8 / 3.
        var selection = try Self.selection("substitute,F=0.5,J=1", resident: [7: 1])
        selection.rankCount = 3
        selection.weights = [0.5, 0.25, 0.125, 0]
        selection.decide(layer: 0)
        #expect(selection.chosen[..<3] == [4, 5, 7])
    }

    /// Scores with the correction: 4 (0.9), 5 (0.8), 0 (0.7), 1 (0.65), 2 (0.6), then 3, 6, 7. The
    /// router's own choice of rank 2 and 3 has the larger sigmoids elsewhere.
    private static func corrected(_ policy: String, resident: [Int]) throws -> ExpertSelection {
        var routing = Routing()
        routing.gating = .sigmoid
        routing.normEpsilon = 0.25
        routing.scale = 2
        var selection = try selection(
            policy, resident: Dictionary(uniqueKeysWithValues: resident.map { ($0, 1) }),
            routing: routing)
        selection.probabilities = [0.25, 0.25, 0.5, 0.25, 0.75, 0.5, 0.5, 0.5]
        selection.correction = [0.45, 0.4, 0.1, 0, 0.15, 0.3, -0.4, -0.4]
        selection.isCorrected = true
        selection.chosen = [4, 5, 0, 1]
        selection.weights = [0.75, 0.5, 0.25, 0.25]
        return selection
    }

    @Test func policiesRankAsTheRouterDoes() throws {
        // In memory are 2 and 6: 2 is in reach of M = 5, 6 is not; it takes the place of rank 3.
        var selection = try Self.corrected("max-rank,J=1,M=5", resident: [4, 5, 0, 2, 6])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 0, 2])
        // Sigmoids of the chosen by their sum and epsilon, 2 + 1/4, times 2.
        let expected: [Float] = [0.75, 0.5, 0.25, 0.5].map { $0 * 2 / 2.25 }
        #expect(zip(selection.weights, expected).allSatisfy { abs($0 - $1) < 1e-6 })
        // Scores range over 0.8; a quarter of that lifts 2 over 0 and 1, and 6 not.
        selection = try Self.corrected("cache-prior,J=1,lambda=0.25", resident: [2, 6])
        selection.logits = [Float](repeating: .nan, count: 8)
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 0, 2])
        // The best in memory, not the likeliest.
        selection = try Self.corrected("substitute,F=1,J=3", resident: [3, 6])
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 0, 3])
    }

    /// Of two groups of four the second is the router's.
    @Test func policiesStayInTheRoutersGroups() throws {
        var routing = Routing()
        routing.groupCount = 2
        routing.groupsUsed = 1
        for policy in ["max-rank,J=1,M=8", "cumulative,J=1,P=1", "cache-prior,J=1,lambda=1"] {
            var selection = try Self.selection(
                policy, resident: [0: 1, 1: 1, 2: 1, 3: 1], routing: routing)
            if selection.readsLogits { selection.logits = [2, 0, 3, 1, 8, 7, 6, 5] }
            selection.decide(layer: 0)
            #expect(selection.chosen == [4, 5, 6, 7], "\(policy)")
            #expect(selection.weights == [0.5, 0.25, 0.125, 0.125], "\(policy)")
        }
        var selection = try Self.selection(
            "substitute,F=1,J=1", resident: [0: 1, 2: 1], routing: routing)
        selection.decide(layer: 0)
        #expect(selection.chosen == [4, 5, 6, 7])
    }

    /// Expert 1 takes the place of expert 2. Its logit, 2, is near that of expert 0.
    @Test func aNewChoiceIsWeighedByTheSparseMixer() throws {
        var routing = Routing()
        routing.gating = .sparseMixer(jitter: 0.05)
        var selection = ExpertSelection(
            policy: try MissPolicy("max-rank,J=1,M=4"), protected: [], layerCount: 1,
            expertCount: 4, expertsPerToken: 2, planes: 1, routing: routing)
        selection.logits = [1.9, 2, 3, 5]
        selection.probabilities = selection.logits.map { Routing.exponential($0 - 5) }
        selection.chosen = [3, 2]
        selection.weights = [1, 1]
        selection.resident = [0, 1, 0, 0]
        selection.decide(layer: 0)
        #expect(selection.chosen == [3, 1])
        #expect(selection.weights == [1, 1 / (1 + Routing.exponential(1.9 - 2))])
    }

    /// Whatever a policy does, and to whatever, every gram of gate mass is accounted for, experts
    /// are distinct, and the weights keep their sum.
    @Test(arguments: MissPolicy.names)
    func theAccountsAddUp(name: String) throws {
        var state: UInt64 = 88_172_645_463_325_252
        func random(_ count: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(count))
        }
        var selection = ExpertSelection(
            policy: try MissPolicy(name),
            protected: [LayerExpert(layer: 0, expert: 3), LayerExpert(layer: 1, expert: 0)],
            layerCount: 2, expertCount: 16, expertsPerToken: 6, planes: 3,
            routing: Routing())
        for step in 0..<500 {
            let layer = step % 2
            // From a handful of values, so that there are ties.
            let logits = (0..<16).map { _ in Float(random(5)) }
            let ranked = (0..<16).sorted { (logits[$1], $0) < (logits[$0], $1) }
            selection.probabilities = logits.map { $0 / 4 + 0.25 }
            if selection.readsLogits { selection.logits = logits }
            let total = ranked[..<6].reduce(0) { $0 + selection.probabilities[$1] }
            selection.chosen = ranked[..<6].map { Int32($0) }
            selection.weights = ranked[..<6].map { selection.probabilities[$0] / total }
            for expert in 0..<16 { selection.resident[expert] = UInt8(random(4)) }
            let (before, asked) = (selection.weights, selection.chosen)
            selection.decide(layer: layer)

            #expect(Set(selection.chosen).count == 6)
            #expect(selection.chosen[0] == asked[0] && selection.widths[0] == 3)
            if let rank = asked.firstIndex(of: layer == 0 ? 3 : 0) {
                let place = try #require(selection.chosen.firstIndex(of: asked[rank]))
                #expect(selection.widths[place] == 3)
            }
            let late = selection.deferredWeights[..<selection.deferredCount].reduce(0, +)
            #expect(abs(selection.weights.reduce(0, +) + late - before.reduce(0, +)) < 1e-5)
            for (rank, width) in selection.widths.enumerated() where width > 0 {
                #expect(selection.weights[rank] > 0)
                selection.use(expert: Int(selection.chosen[rank]), planes: Int(width))
            }
            selection.account()
        }
        let all = selection.accounting
        #expect(all.choices == 3000)
        let mass =
            (1...4).reduce(0) { $0 + all.widthMass[$1] } + all.skippedMass + all.swappedMass
            + all.deferredMass
        #expect(abs(mass - all.mass) < 1e-9 * all.mass)
        let count =
            (1...4).reduce(0) { $0 + all.widthCount[$1] } + all.skippedCount + all.swappedCount
            + all.deferredCount
        #expect(count == all.choices)
        #expect((name == "exact") == (all.widthMass[3] == all.mass))
        #expect(all - all == MissAccounting())
    }
}

extension Routing {
    fileprivate static var notNormalised: Routing {
        var routing = Routing()
        routing.normalises = false
        return routing
    }
}
