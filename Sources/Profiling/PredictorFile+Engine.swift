public import Inference

// Predictors in the form in which the engine looks them up.
extension PredictorFile {
    /// The predictor as the engine takes it.
    ///
    /// - Throws: `EngineError` where its tables are too large for one, `ProfilingError` where it
    ///   looks further ahead than the engine does.
    public func predictor() throws -> Predictor {
        switch self {
        case .learned(let maps): .learned(try maps.gates())
        case .path(let table): .path(try table.paths())
        }
    }
}

extension LearnedPredictor {
    fileprivate func gates() throws -> LearnedGates {
        guard ahead == 1 else {
            throw ProfilingError(
                "the maps look \(ahead) layers ahead, and the engine 1; train them with --ahead 1")
        }
        // The engine's tables have a map for the last layer, too, which it never uses.
        return try LearnedGates(
            layerCount: layers, expertCount: experts, embeddingLength: embedding,
            weights: weights + [Float](repeating: 0, count: experts * embedding),
            bias: bias + [Float](repeating: 0, count: experts))
    }
}

extension PathPredictor {
    /// The same table with a row for every pair there could be, found by its number instead of by
    /// searching.
    fileprivate func paths() throws -> ExpertPaths {
        var firstEntry: [UInt32] = [0]
        firstEntry.reserveCapacity(layers * experts * (experts + 1) + 1)
        var entryExperts: [UInt16] = []
        var entryWeights: [Float] = []
        // An empty row stands for one that was never seen, so the first entry always stays.
        func append(_ successors: [UInt16], _ shares: [Float], row: Int) {
            for index in row..<(row + width) where index == row || shares[index] > 0 {
                entryExperts.append(successors[index])
                entryWeights.append(shares[index])
            }
        }
        for layer in 0..<layers {
            var pair = Int(firstPair[layer])
            let end = Int(firstPair[layer + 1])
            for expert in 0..<experts {
                for before in 0..<experts {
                    // Pairs of a layer are in the order of the rows.
                    if pair < end, Int(pairs[pair]) == expert * experts + before {
                        append(pairSuccessors, pairShares, row: pair * width)
                        pair += 1
                    }
                    firstEntry.append(UInt32(entryExperts.count))
                }
                append(successors, successorShares, row: (layer * experts + expert) * width)
                firstEntry.append(UInt32(entryExperts.count))
            }
        }
        return try ExpertPaths(
            layerCount: layers, expertCount: experts, firstEntry: firstEntry,
            entryExperts: entryExperts, entryWeights: entryWeights,
            base: shares.map { $0 * PathPredictor.tieBreak })
    }
}
