internal import CHost
internal import CKernels
internal import ExpertStreaming

/// Experts that a layer left to the next one, by rank. Flat and fixed in size.
struct LateExperts {
    private(set) var count = 0
    /// (k)
    private(set) var experts: [Int32]
    private(set) var weights: [Float]

    init(expertsPerToken: Int) {
        experts = Array(repeating: 0, count: expertsPerToken)
        weights = Array(repeating: 0, count: expertsPerToken)
    }

    mutating func clear() { count = 0 }

    mutating func append(_ expert: Int32, weight: Float) {
        experts[count] = expert
        weights[count] = weight
        count += 1
    }
}

// Between the router and its experts: what the miss policy makes of a choice, and guesses of the
// next layers' choices.
extension Engine {

    /// Settles which of the chosen experts are computed, and how wide.
    ///
    /// - Parameter decodes: every token is a decode step, on which the miss policy acts.
    mutating func settleChoice(decodes: Bool) {
        let state = unsafe self.state
        let (layer, tokens) = unsafe (state.pointee.expertLayer, state.pointee.tokens)
        let k = model.expertsPerToken
        guard decodes else {
            for token in 0..<tokens {
                let count = unsafe Int(state.pointee.rankCounts[token])
                for rank in 0..<k {
                    unsafe state.pointee.widths[token * k + rank] =
                        rank < count ? UInt8(expertPlanes) : 0
                }
            }
            unsafe promptUse?.add(
                layer: layer, tokens: tokens,
                chosen: UnsafeBufferPointer(start: state.pointee.chosen, count: tokens * k),
                weights: UnsafeBufferPointer(start: state.pointee.gateWeights, count: tokens * k))
            return
        }
        if selection.policy.asksOfAllExperts {
            let correction = unsafe state.pointee.expertLayers[layer].routerCorrection
            selection.isCorrected = unsafe correction != nil
            for expert in 0..<model.expertCount {
                noteResident(layer, expert)
                if let correction = unsafe correction {
                    selection.correction[expert] = unsafe correction[expert]
                }
            }
        }
        for token in 0..<tokens {
            let first = token * k
            let count = unsafe Int(state.pointee.rankCounts[token])
            unsafe prediction.check(
                layer: layer, token: token,
                chosen: UnsafeBufferPointer(start: state.pointee.chosen + first, count: k),
                computed: count)
            selection.rankCount = count
            for rank in 0..<k {
                selection.chosen[rank] = unsafe state.pointee.chosen[first + rank]
                selection.weights[rank] = unsafe state.pointee.gateWeights[first + rank]
            }
            if selection.policy.asksOfAllExperts {
                let row = token * model.expertCount
                for expert in 0..<model.expertCount {
                    selection.probabilities[expert] =
                        unsafe state.pointee.routerLogits[row + expert]
                }
                for expert in selection.logits.indices {
                    selection.logits[expert] = rawLogits[row + expert]
                }
            } else if selection.policy != .exact {
                for rank in 0..<count { noteResident(layer, Int(selection.chosen[rank])) }
            }
            selection.decide(layer: layer, token: token, of: tokens)
            for rank in 0..<k {
                unsafe state.pointee.chosen[first + rank] = selection.chosen[rank]
                unsafe state.pointee.gateWeights[first + rank] = selection.weights[rank]
                unsafe state.pointee.widths[first + rank] = min(
                    selection.widths[rank], UInt8(expertPlanes))
            }
        }
    }

    /// Keeps the router's output, which the choice makes probabilities of.
    mutating func keepLogits() {
        let state = unsafe self.state
        let bias = unsafe state.pointee.expertLayers[state.pointee.expertLayer].routerBias
        for index in rawLogits.indices.prefix(unsafe state.pointee.tokens * model.expertCount) {
            rawLogits[index] = unsafe state.pointee.routerLogits[index]
            if let bias = unsafe bias {
                rawLogits[index] += unsafe bias[index % model.expertCount]
            }
        }
    }

    private mutating func noteResident(_ layer: Int, _ expert: Int) {
        selection.resident[expert] = UInt8(streamer.residentPlanes(layer: layer, expert: expert))
    }

    // MARK: While the disk reads

    /// What is done once a layer's reads are sent: less urgent reads behind them, and guesses.
    mutating func lookAhead(_ layer: Int) {
        for index in 0..<selection.deferredCount {
            streamer.requestUpgrade(
                layer: layer, expert: Int(selection.deferredExperts[index]))
        }
        if case .fallback = selection.policy {
            let state = unsafe self.state
            for choice in unsafe 0..<(state.pointee.tokens * model.expertsPerToken) {
                let (expert, width) = unsafe (
                    Int(state.pointee.chosen[choice]), Int(state.pointee.widths[choice])
                )
                if width > 0, width < selection.planes, selection.resident[expert] > 0 {
                    streamer.requestUpgrade(layer: layer, expert: expert)
                }
            }
        }
        guess(after: layer)
    }

    /// Guesses the experts of the next layers, and has the disk read them in its idle time: of the
    /// nearest layer of which one is missing (HOBBIT's walk). Guessed experts that are here already
    /// are named too, so that they stay.
    private mutating func guess(after layer: Int) {
        let reach = prediction.reach(after: layer)
        guard reach > 0 else { return }
        let start = host_nanoseconds()
        let state = unsafe self.state
        let tokens = unsafe state.pointee.tokens
        unsafe state.pointee.guessedLayers = reach
        switch predictorKind {
        case .none: return
        case .nextGate, .learned:
            // Without routers there is one expert, and nothing to guess.
            if unsafe state.pointee.nextExpertLayer.router != nil { run(.guess) }
        case .recorded:
            guard unsafe state.pointee.forced != nil else { return }
            run(.guess)
        case .path: break
        }
        for ahead in 1...reach {
            for token in 0..<tokens {
                score(layer, ahead, token)
                prediction.rank(layer: layer + ahead, ahead: ahead, token: token)
            }
        }
        for ahead in 1...reach where prediction.prefetchRanks > 0 {
            let (count, missing) = listGuesses(layer + ahead, ahead)
            unsafe streamer.prefetch(
                layer: layer + ahead, experts: state.pointee.prefetched, planes: nil, count: count)
            if missing { break }
        }
        times.predictionNanoseconds += host_nanoseconds() - start
    }

    /// Fills the scores of a token's experts in the layer `ahead` of `layer`.
    private mutating func score(_ layer: Int, _ ahead: Int, _ token: Int) {
        let state = unsafe self.state
        let experts = model.expertCount
        switch predictorKind {
        case .none: break
        case .nextGate:
            let row = unsafe ((ahead - 1) * state.pointee.tokens + token) * experts
            let logits = unsafe state.pointee.guessedLogits + row
            let next = unsafe state.pointee.expertLayers[layer + ahead]
            if let bias = unsafe next.routerBias {
                unsafe state.pointee.kernels.table.pointee.add_scaled(
                    bias, 1, UInt32(experts), logits)
            }
            unsafe state.pointee.routing.makeScores(
                logits, experts, correction: next.routerCorrection,
                kernels: state.pointee.kernels.table)
            for expert in 0..<experts { prediction.scores[expert] = unsafe logits[expert] }
        case .learned:
            guard let bias = unsafe state.pointee.learnedBias else { return }
            for expert in 0..<experts {
                let logit = unsafe state.pointee.guessedLogits[token * experts + expert]
                prediction.scores[expert] = unsafe logit + bias[layer * experts + expert]
            }
        case .recorded(let recall):
            guard let forced = unsafe state.pointee.forced else { return }
            unsafe prediction.score(
                layer: layer + ahead, token: token, by: forced, recall: recall)
        case .path: scoreByPaths(after: layer, token)
        }
    }

    /// Apart from the above: it takes a reference to the table.
    @inline(never)
    private mutating func scoreByPaths(after layer: Int, _ token: Int) {
        guard case .path(let paths) = predictor else { return }
        prediction.score(after: layer, token: token, by: paths)
    }

    /// Lists a layer's guesses rank by rank, each expert once, in `state.prefetched`.
    ///
    /// - Returns: How many, and whether one of them is not in memory.
    private func listGuesses(_ layer: Int, _ ahead: Int) -> (count: Int, missing: Bool) {
        let state = unsafe self.state
        let list = unsafe state.pointee.prefetched
        var count = 0
        var missing = false
        for rank in 0..<prediction.prefetchRanks {
            for token in unsafe 0..<state.pointee.tokens {
                let expert = prediction.guess(layer: layer, ahead: ahead, token: token, rank: rank)
                if unsafe UnsafeBufferPointer(start: list, count: count).contains(expert) {
                    continue
                }
                unsafe list[count] = expert
                count += 1
                let planes = streamer.residentPlanes(layer: layer, expert: Int(expert))
                missing = missing || planes < selection.planes
            }
        }
        return (count, missing)
    }
    // MARK: Deferral

    /// Computes what the layer before left to this one, with that layer's input and weights, into
    /// rows of output behind those of this layer.
    mutating func computeLate(_ layer: Int) throws(StreamingError) {
        let state = unsafe self.state
        let tokens = unsafe state.pointee.tokens
        selection.account(tokens: tokens)
        guard late.count > 0 else { return }
        let normed = unsafe state.pointee.normed
        unsafe state.pointee.normed = state.pointee.lateInput
        unsafe state.pointee.expertLayer = layer - 1
        defer {
            unsafe state.pointee.normed = normed
            unsafe state.pointee.expertLayer = layer
        }
        unsafe state.pointee.beginLate()
        for index in 0..<late.count {
            unsafe state.pointee.addLate(
                expert: Int(late.experts[index]), planes: UInt8(selection.planes))
        }
        try computeExperts(leased: acquireExperts(layer - 1))
    }

    /// Adds what the layer before left to this one, in order of rank, and keeps what this one
    /// leaves to the next.
    mutating func passOn(_ layer: Int) {
        let state = unsafe self.state
        for index in 0..<late.count {
            unsafe state.pointee.addOutput(
                ofLate: Int(late.experts[index]), weight: late.weights[index])
        }
        late.clear()
        for index in 0..<selection.deferredCount {
            late.append(
                selection.deferredExperts[index], weight: selection.deferredWeights[index])
        }
        if late.count > 0 {
            unsafe state.pointee.copyRow(
                from: state.pointee.normed, 0, to: state.pointee.lateInput, 0)
        }
    }
}

extension EngineState {
    /// An empty table of pairs, from the first row on that one token's choices leave free.
    fileprivate mutating func beginLate() {
        for expert in unsafe 0...expertCount { unsafe firstPair[expert] = Int32(expertsPerToken) }
        unsafe distinctCount = 0
    }

    /// Lists an expert, with a pair of its own.
    fileprivate mutating func addLate(expert: Int, planes: UInt8) {
        for later in unsafe (expert + 1)...expertCount { unsafe firstPair[later] += 1 }
        unsafe distinct[distinctCount] = Int32(expert)
        unsafe distinctPlanes[distinctCount] = planes
        unsafe distinctCount += 1
    }

    /// hidden += weight x the output of a late expert.
    fileprivate func addOutput(ofLate expert: Int, weight: Float) {
        unsafe kernels.table.pointee.add_scaled(
            expertOutput + Int(firstPair[expert]) * embeddingLength, weight * multipliers.residual,
            UInt32(embeddingLength), hidden)
    }
}
