import CAllocationCounter
import CKernels
import FoundationEssentials
import ModelFormats
import Testing

@testable import Inference

@Suite struct RoutingTests {
    /// What a router left behind.
    struct Choice: Equatable {
        var experts: [Int]
        /// Bits, so that NaNs compare.
        var weights: [UInt32]
        var probabilities: [UInt32]
        var used: Int

        var gates: [Float] { weights.map { Float(bitPattern: $0) } }
        var row: [Float] { probabilities.map { Float(bitPattern: $0) } }
    }

    static func choose(
        _ routing: Routing, _ k: Int, _ logits: [Float], correction: [Float]? = nil,
        kernels: String = "scalar"
    ) throws -> Choice {
        let table = try unsafe #require(sluice_kernels_named(kernels))
        var row = logits
        var chosen = [Int32](repeating: -1, count: k)
        var weights = [Float](repeating: -1, count: k)
        let used = unsafe row.withUnsafeMutableBufferPointer { row in
            unsafe chosen.withUnsafeMutableBufferPointer { chosen in
                unsafe weights.withUnsafeMutableBufferPointer { weights in
                    unsafe (correction ?? []).withUnsafeBufferPointer { correction in
                        unsafe routing.choose(
                            k, of: row.count, row: row.baseAddress!,
                            correction: correction.isEmpty ? nil : correction.baseAddress!,
                            kernels: table, chosen: chosen.baseAddress!,
                            weights: weights.baseAddress!)
                    }
                }
            }
        }
        return Choice(
            experts: chosen.map { Int($0) }, weights: weights.map(\.bitPattern),
            probabilities: row.map(\.bitPattern), used: used)
    }

    // MARK: Against transformers

    /// A case of Tests/Fixtures/routing/routers.json.
    struct Case: Decodable {
        struct Settings: Decodable {
            var norm_topk_prob: Bool?
            var routed_scaling_factor: Float?
            var n_group: Int?
            var topk_group: Int?
            var topk_method: String?
            var router_jitter_noise: Float?
            var moe_norm_min: Float?
        }

        struct Row: Decodable {
            var logits: [Float]
            var experts: [Int]
            var weights: [Float]
        }

        var family: String
        var k: Int
        var settings: Settings
        var correction: [Float]?
        var rows: [Row]

        var routing: Routing {
            var routing = Routing()
            routing.normalises = settings.norm_topk_prob ?? (family == "mixtral")
            routing.scale = settings.routed_scaling_factor ?? 1
            if settings.topk_method != "greedy" {
                routing.groupCount = settings.n_group ?? 1
                routing.groupsUsed = settings.topk_group ?? 1
            }
            switch family {
            case "deepseek_v3", "glm4_moe":
                routing.gating = .sigmoid
                routing.groupScore = .sumOfTwoLargest
                routing.normEpsilon = 1e-20
            case "lfm2_moe":
                routing.gating = .sigmoid
                routing.normEpsilon = 1e-6
            case "ernie4_5_moe":
                routing.normalises = true
                routing.normFloor = settings.moe_norm_min ?? 0
            case "gpt_oss", "granitemoe": routing.gating = .softmaxOfChosen
            case "phimoe":
                routing.gating = .sparseMixer(jitter: settings.router_jitter_noise ?? 0)
            default: break
            }
            return routing
        }
    }

    static func cases() throws -> [Case] {
        let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
        let path = tests.joined(separator: "/") + "/Fixtures/routing/routers.json"
        return try JSONDecoder().decode(
            [Case].self, from: Data(try WholeFile.read(path, limit: 1 << 20)))
    }

    /// The experts and the weights of every family, as tools/make_routing_fixtures.py has them from
    /// transformers; the same bits by every instruction set.
    @Test func everyFamilyRoutesAsTransformersDoes() throws {
        let cases = try Self.cases()
        #expect(Set(cases.map(\.family)).count == 13)
        for one in cases {
            let experts = one.rows[0].logits.count
            #expect(one.routing.problem(experts: experts, perToken: one.k) == nil)
            for (number, row) in one.rows.enumerated() {
                let name = Comment(rawValue: "\(one.family), \(one.settings), row \(number)")
                let choice = try Self.choose(
                    one.routing, one.k, row.logits, correction: one.correction)
                let order = (0..<one.k).sorted { choice.experts[$0] < choice.experts[$1] }
                #expect(order.map { choice.experts[$0] } == row.experts, name)
                for (rank, weight) in zip(order, row.weights) {
                    // Sums of up to 40 terms in another order, and exponentials of 2 ulps.
                    let error = abs(choice.gates[rank] - weight)
                    #expect(error <= 4e-6 * abs(weight) + 1e-35, name)
                }
                #expect(choice.used == one.k)
                for kernels in InstructionSet.available {
                    let other = try Self.choose(
                        one.routing, one.k, row.logits, correction: one.correction,
                        kernels: kernels)
                    #expect(other == choice, name)
                }
            }
        }
    }

    /// Against the kernels themselves: softmax numerators for exponents up to 0, silu for both signs.
    @Test func theExponentialIsTheKernels() throws {
        var generator = SplitMix(seed: 3)
        var exponents: [Float] = [
            0, -0.0, 1, 87, 87.5, 88, 88.5, 1e30, 1e-30, .infinity, .leastNonzeroMagnitude,
            44.36142,
        ]
        for _ in 0..<4000 { exponents.append(Float.random(in: 0...95, using: &generator)) }
        for name in InstructionSet.available {
            let table = try unsafe #require(sluice_kernels_named(name))
            for exponent in exponents {
                var row = [0, -exponent]
                _ = unsafe table.pointee.softmax_exp(&row, 2)
                #expect(
                    Routing.exponential(-exponent).bitPattern == row[1].bitPattern,
                    "exp(\(-exponent)), \(name)")
                for gate in [exponent, -exponent] where gate.isFinite {
                    var silu: Float = 0
                    var (one, input): (Float, Float) = (1, gate)
                    unsafe table.pointee.swiglu(&input, &one, 1, &silu)
                    let expected = gate / (1 + Routing.exponential(-gate))
                    #expect(silu.bitPattern == expected.bitPattern, "silu(\(gate)), \(name)")
                }
            }
        }
        #expect(Routing.exponential(.nan).isNaN)
    }

    // MARK: Against brute force

    /// Every kind of rule over random logits, from a handful of values so that there are ties, or
    /// with values that are no numbers: the best k of a sorted list.
    @Test(arguments: [
        Routing.Gating.softmax, .sigmoid, .softmaxOfChosen, .sparseMixer(jitter: 0.1),
    ])
    func theBestExpertsAreChosen(gating: Routing.Gating) throws {
        var generator = SplitMix(seed: 5)
        let hostile: [Float] = [
            .nan, .infinity, -.infinity, .greatestFiniteMagnitude, -0.0, .leastNonzeroMagnitude,
        ]
        for round in 0..<600 {
            let size = Int.random(in: 1...5, using: &generator)
            var routing = Routing()
            routing.gating = gating
            routing.groupCount = Int.random(in: 1...6, using: &generator)
            routing.groupsUsed = Int.random(in: 1...routing.groupCount, using: &generator)
            routing.groupScore =
                size > 1 && Bool.random(using: &generator) ? .sumOfTwoLargest : .maximum
            routing.normalises = Bool.random(using: &generator)
            let experts = size * routing.groupCount
            let k = [1, experts, Int.random(in: 1...experts, using: &generator)][round % 3]
            func draw(_ hostility: Int) -> [Float] {
                (0..<experts).map { _ in
                    Int.random(in: 0..<12, using: &generator) < hostility
                        ? hostile.randomElement(using: &generator)!
                        : Float(Int.random(in: -2...2, using: &generator))
                }
            }
            let isHostile = round % 2 == 1
            let logits = draw(isHostile ? 4 : 0)
            let correction =
                round % 5 < 2 && gating != .sparseMixer(jitter: 0.1)
                ? draw(isHostile ? 2 : 0) : nil
            let choice = try Self.choose(routing, k, logits, correction: correction)

            #expect(Set(choice.experts).count == k)
            #expect(choice.experts.allSatisfy { $0 >= 0 && $0 < experts } && choice.used == k)
            var total: Float = 0
            if gating != .sigmoid {
                var row = logits
                total = unsafe sluice_kernels_named("scalar")!.pointee.softmax_exp(
                    &row, UInt32(experts))
            }
            let scores = (0..<experts).map { expert in
                guard let correction else {
                    // Softmax numerators and sigmoids order as the logits do, where these are steps
                    // of 1; of hostile ones some become alike, which groups are ranked by.
                    let ranksRow =
                        gating == .softmax
                        || gating == .sigmoid && routing.groupsUsed < routing.groupCount
                    return ranksRow ? choice.row[expert] : logits[expert]
                }
                let divisor = gating == .sigmoid ? 1 : total
                return choice.row[expert] / divisor + correction[expert]
            }
            let expected = Self.ranked(routing, size: size, scores: scores)
            #expect(choice.experts == Array(expected.prefix(k)), "\(routing), \(logits)")
            if !isHostile {
                #expect(choice.gates.allSatisfy { $0 > 0 && $0.isFinite })
                let normalises = routing.normalises || gating == .softmaxOfChosen
                if normalises, gating != .sparseMixer(jitter: 0.1) {
                    #expect(abs(choice.gates.reduce(0, +) - 1) < 1e-5)
                }
            }
        }
    }

    /// All experts by rank: those of the best groups first, each part by descending score, what is
    /// no number last, equals by index.
    private static func ranked(_ routing: Routing, size: Int, scores: [Float]) -> [Int] {
        func sorted(_ values: [Float]) -> [Int] {
            values.indices.sorted { left, right in
                let (a, b) = (values[left], values[right])
                if a.isNaN || b.isNaN { return a.isNaN == b.isNaN ? left < right : b.isNaN }
                return a == b ? left < right : a > b
            }
        }
        let groups = (0..<routing.groupCount).map { group in
            let members = scores[(group * size)..<((group + 1) * size)].filter { !$0.isNaN }
                .sorted(by: >)
            let padded = members + [-.infinity, -.infinity]
            return routing.groupScore == .maximum ? padded[0] : padded[0] + padded[1]
        }
        let used = Set(sorted(groups).prefix(routing.groupsUsed))
        let order = sorted(scores)
        return order.filter { used.contains($0 / size) }
            + order.filter { !used.contains($0 / size) }
    }

    /// The bits that softmax routers have had from the first: numerators by the kernel, divided by
    /// its sum, then by the sum of the chosen in order of rank.
    @Test(arguments: [true, false])
    func softmaxWeightsHaveTheseBits(normalises: Bool) throws {
        var generator = SplitMix(seed: 11)
        for (experts, k) in [(8, 2), (64, 8), (128, 8), (5, 5), (3, 1)] {
            let logits = (0..<experts).map { _ in Float.random(in: -6...6, using: &generator) }
            var row = logits
            let sum = unsafe sluice_kernels_named("")!.pointee.softmax_exp(&row, UInt32(experts))
            let best = row.indices.sorted { row[$0] > row[$1] }.prefix(k)
            var gates = best.map { row[$0] / sum }
            let total = gates.reduce(0, +)
            if normalises { gates = gates.map { $0 / total } }
            var routing = Routing()
            routing.normalises = normalises
            let choice = try Self.choose(routing, k, logits, kernels: "")
            #expect(choice.experts == Array(best))
            #expect(choice.weights == gates.map(\.bitPattern))
            #expect(choice.row == row)
        }
    }

    // MARK: By hand

    @Test func theRowKeepsTheProbabilities() throws {
        var routing = Routing()
        let logits: [Float] = [1, 3, -2, 0.5]
        let numerators = logits.map { Routing.exponential($0 - 3) }
        for gating in [
            Routing.Gating.softmax, .softmaxOfChosen, .sparseMixer(jitter: 0.01),
        ] {
            routing.gating = gating
            #expect(try Self.choose(routing, 2, logits).row == numerators)
        }
        routing.gating = .sigmoid
        let sigmoids = try Self.choose(routing, 2, logits).row
        #expect(sigmoids == logits.map { 1 / (1 + Routing.exponential(-$0)) })
        routing.gating = .always
        let only = try Self.choose(routing, 1, [17])
        #expect(only.experts == [0] && only.gates == [1] && only.row == [1] && only.used == 1)
    }

    /// A correction decides who is chosen, and has no part in the weights.
    @Test func theCorrectionIsForTheChoiceOnly() throws {
        var routing = Routing()
        routing.gating = .sigmoid
        let choice = try Self.choose(
            routing, 2, [0, 0, 2, 1], correction: [.infinity, 0, -.infinity, 0])
        #expect(choice.experts == [0, 3])
        let third = Routing.sigmoid(1)
        #expect(choice.gates == [0.5 / (0.5 + third), third / (0.5 + third)])
        // The sum is floored: here, 3e-11 to 1.
        routing.gating = .softmax
        routing.normFloor = 1
        let floored = try Self.choose(
            routing, 2, [0, 0, 25, 1], correction: [2, 3, 0, 1.5])
        #expect(floored.experts == [1, 0])
        #expect(floored.gates.allSatisfy { abs($0 - 1.3888e-11) < 1e-14 })
    }

    /// Probabilities 1/2, 1/4, 1/8, 1/16, 1/16, which exp gives within 2 ulps.
    @Test func topPTakesTheFewestThatReachIt() throws {
        let logits: [Float] = [1, 4, 1, 3, 2].map { $0 * 0.69314718 }
        var routing = Routing()
        routing.normalises = false
        func used(_ topP: Float, _ k: Int = 5) throws -> (Int, [Float]) {
            routing.topP = topP
            let choice = try Self.choose(routing, k, logits)
            #expect(choice.experts == Array([1, 3, 4, 0, 2].prefix(k)))
            #expect(choice.gates[choice.used...].allSatisfy { $0 == 0 })
            return (choice.used, Array(choice.gates.prefix(choice.used)))
        }
        #expect(try used(0.4).0 == 1)
        #expect(try used(0.51).0 == 2)
        #expect(try used(0.74).0 == 2)
        #expect(try used(0.76).0 == 3)
        #expect(try used(0.9).0 == 4)
        // At most k.
        #expect(try used(1, 3).0 == 3)
        // As they are, or by the sum of those computed.
        #expect(zip(try used(0.7).1, [0.5, 0.25] as [Float]).allSatisfy { abs($0 - $1) < 1e-6 })
        routing.normalises = true
        let thirds: [Float] = [2.0 / 3, 1.0 / 3]
        #expect(zip(try used(0.7).1, thirds).allSatisfy { abs($0 - $1) < 1e-6 })
        routing.gating = .softmaxOfChosen
        #expect(zip(try used(0.7).1, thirds).allSatisfy { abs($0 - $1) < 1e-6 })
        routing.gating = .sparseMixer(jitter: 0.01)
        #expect(try used(0.7, 2).0 == 2 && used(0.4, 2).0 == 1)
        // Sigmoids 16/17, 8/9, 4/5, 2/3 and 2/3 of odds 16 ... 2: shares of the k best.
        routing.gating = .sigmoid
        #expect(try used(0.5, 2).0 == 1 && used(0.52, 2).0 == 2 && used(0.5, 4).0 == 2)
        // What is no number reaches nothing.
        routing.topP = 0.5
        #expect(try Self.choose(routing, 3, [.nan, .nan, .nan, .nan]).used == 3)
    }

    /// Expert 1 was passed over for expert 2, which is weighed as the best but for expert 0.
    @Test func theSparseMixerWeighsWhatWasTakenInstead() throws {
        let logits: [Float] = [5, 4, 2, 1.9, 1]
        let chosen: [Int32] = [0, 2]
        let routing = Routing()
        var weights: [Float] = [0, 0]
        unsafe routing.mix(
            2, logits: logits, experts: 5, jitter: 0.05, chosen: chosen, weights: &weights)
        #expect(weights == [1, 1 / (1 + Routing.exponential(1.9 - 2))])
    }

    @Test func whatIsNoRuleIsRefused() {
        func problem(
            _ experts: Int = 8, _ k: Int = 2, _ change: (inout Routing) -> Void
        ) -> String {
            var routing = Routing()
            change(&routing)
            return routing.problem(experts: experts, perToken: k) ?? ""
        }
        #expect(problem { _ in } == "")
        #expect(problem(8, 9) { _ in } == "9 of 8 experts cannot be chosen")
        #expect(problem(8, 0) { _ in } == "0 of 8 experts cannot be chosen")
        #expect(problem(1, 1) { $0.gating = .always } == "")
        #expect(problem { $0.gating = .always } == "8 experts need a router")
        #expect(problem { $0.gating = .sparseMixer(jitter: .nan) }.contains("jitter of nan"))
        #expect(problem(8, 3) { $0.gating = .sparseMixer(jitter: 0.1) }.contains("chooses 2"))
        #expect(problem { $0.groupCount = 3 }.contains("3 groups do not divide 8 experts"))
        #expect(problem { $0.groupCount = 0 }.contains("0 groups"))
        #expect(problem(128) { $0.groupCount = 128 }.contains("more than 64"))
        #expect(problem { $0.groupsUsed = 2 }.contains("2 groups used"))
        #expect(problem { $0.groupsUsed = 0 }.contains("0 groups used"))
        #expect(
            problem {
                $0.groupCount = 8
                $0.groupScore = .sumOfTwoLargest
                $0.groupsUsed = 4
            }.contains("groups of one expert"))
        #expect(
            problem(8, 3) { $0.groupCount = 4 } == "3 experts per token, but the groups used have 2"
        )
        #expect(problem { $0.scale = .infinity }.contains("scale of inf"))
        #expect(problem { $0.normEpsilon = -1 }.contains("-1.0"))
        #expect(problem { $0.topP = 0 }.contains("top-p 0.0"))
        #expect(problem { $0.topP = .nan }.contains("top-p nan"))
        #expect(problem { $0.topP = 1 } == "")
    }

    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func choosingAllocatesNothing() throws {
        let table = try unsafe #require(sluice_kernels_named(""))
        var routing = Routing()
        routing.groupCount = 4
        routing.groupsUsed = 2
        routing.topP = 0.9
        var row = [Float](repeating: 0, count: 32)
        let correction = [Float](repeating: 0.1, count: 32)
        var chosen = [Int32](repeating: 0, count: 2)
        var weights = [Float](repeating: 0, count: 2)
        let gatings: [Routing.Gating] = [
            .softmax, .sigmoid, .softmaxOfChosen, .sparseMixer(jitter: 0.01), .always,
        ]
        let before = allocations_of_this_thread()
        for index in 0..<(gatings.count * 2) {
            routing.gating = gatings[index / 2]
            for expert in 0..<32 { row[expert] = Float(expert * 7 % 32) }
            unsafe row.withUnsafeMutableBufferPointer { row in
                unsafe correction.withUnsafeBufferPointer { correction in
                    _ = unsafe routing.choose(
                        2, of: 32, row: row.baseAddress!,
                        correction: index % 2 == 0 ? nil : correction.baseAddress!,
                        kernels: table, chosen: &chosen, weights: &weights)
                }
            }
        }
        #expect(allocations_of_this_thread() == before)
    }
}

/// A generator with a seed (SplitMix64).
private struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
        return bits ^ bits >> 31
    }
}
