internal import ModelFormats

/// What a layer mixes positions with, if it keeps a state.
@unsafe enum StateMixer {
    /// Keys and values of all positions instead.
    case none
    /// LFM2's gated convolution.
    case convolution(input: Matrix, DepthwiseConvolution)
    case deltaNet(projections: DeltaNetProjections, GatedDeltaNet)
}

/// The matrices that a gated delta net's input is multiplied with.
@unsafe struct DeltaNetProjections {
    /// Queries, keys and values; of a grouped input the gates as well.
    let queryKeyValue: Matrix
    let gate: Matrix?
    let betaAlpha: Matrix

    init(
        _ net: DeltaNet, _ arithmetic: Arithmetic, _ weights: borrowing ResidentWeights
    ) {
        switch net.input {
        case .separate(let queryKeyValue, let gate):
            unsafe self.queryKeyValue = weights.matrix(queryKeyValue, arithmetic)
            unsafe self.gate = weights.matrix(gate, arithmetic)
        case .grouped(let all):
            unsafe queryKeyValue = weights.matrix(all, arithmetic)
            unsafe gate = nil
        }
        unsafe betaAlpha = weights.matrix(net.betaAlpha, arithmetic)
    }
}

/// A layer's mixer with where its sequences' states are.
@unsafe struct StateLayer {
    let mixer: StateMixer
    /// Where the layer's state begins in a sequence's, in floats.
    let place: Int
}

extension StateLayer {
    /// - Parameters:
    ///   - kernels: of all layers: this one's is filled.
    ///   - ones: as many as `StateLayout.onesLength`.
    init(
        _ layer: Layer, _ place: StateLayout.Place?, _ arithmetic: Arithmetic,
        _ weights: borrowing ResidentWeights, kernels: UnsafeMutablePointer<Float>,
        ones: UnsafePointer<Float>, normEpsilon: Float
    ) {
        let kernel = unsafe kernels + (place?.kernel ?? 0)
        func convolution(_ tensor: GGUFTensor) -> DepthwiseConvolution {
            let (taps, channels) = (tensor.shape[0], tensor.shape[1])
            // A tensor has the taps of a channel together.
            let stored = unsafe weights.vector(tensor)
            for tap in 0..<taps {
                for channel in 0..<channels {
                    unsafe kernel[tap * channels + channel] = stored[channel * taps + tap]
                }
            }
            return unsafe DepthwiseConvolution(taps: taps, channels: channels, kernel: kernel)
        }
        unsafe self.place = place?.state ?? 0
        switch layer.mixer {
        case .attention, .latent: unsafe mixer = .none
        case .convolution(let short):
            unsafe mixer = .convolution(
                input: weights.matrix(short.input, arithmetic), convolution(short.kernel))
        case .deltaNet(let net):
            unsafe mixer = .deltaNet(
                projections: DeltaNetProjections(net, arithmetic, weights),
                GatedDeltaNet(
                    shape: net.shape, columns: net.columns,
                    convolution: convolution(net.kernel), rate: weights.vector(net.decay),
                    timeBias: weights.vector(net.timeBias), norm: weights.vector(net.norm),
                    normEpsilon: normEpsilon, ones: ones))
        }
    }
}

extension EngineState {
    /// Units of the input projections of a layer that keeps a state.
    var stateProjectionUnits: Int {
        switch unsafe stateLayers[layer].mixer {
        case .none: 0
        case .convolution(let input, _): unsafe input.unitCount
        case .deltaNet(let projections, _):
            unsafe projections.queryKeyValue.unitCount + (projections.gate?.unitCount ?? 0)
                + projections.betaAlpha.unitCount
        }
    }

    /// The layer's input projections, side by side in the rows of mixers.
    func stateProjections(_ worker: Int) {
        switch unsafe stateLayers[layer].mixer {
        case .none: break
        case .convolution(let input, _):
            while let unit = unsafe queue.take(worker) {
                unsafe project(input, unit, column: 0, worker)
            }
        case .deltaNet(let projections, let net):
            let first = unsafe projections.queryKeyValue.unitCount
            let second = unsafe first + (projections.gate?.unitCount ?? 0)
            let column = unsafe net.shape.channels
            while let unit = unsafe queue.take(worker) {
                if unit < first {
                    unsafe project(projections.queryKeyValue, unit, column: 0, worker)
                } else if unit < second, let gate = unsafe projections.gate {
                    unsafe project(gate, unit - first, column: column, worker)
                } else {
                    unsafe project(
                        projections.betaAlpha, unit - second,
                        column: column + net.shape.valueWidth, worker)
                }
            }
        }
    }

    private func project(_ matrix: Matrix, _ unit: Int, column: Int, _ worker: Int) {
        let kind = unsafe matrix.path.input
        unsafe matrix.multiply(
            kernels, rows: matrix.unitRange(unit), x: normed.row(kind, 0),
            xStride: normed.strideBytes(kind), tokens: tokens, y: mixerRows + column,
            yStride: mixerRowWidth, rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    /// Units of the recurrence of a layer that has one: a group of heads of a sequence.
    var deltaNetUnits: Int {
        guard case .deltaNet(_, let net) = unsafe stateLayers[layer].mixer else { return 0 }
        return unsafe (decodes ? tokens : 1) * net.shape.keyHeads
    }

    /// Takes the chunk's tokens into the states of their sequences, group by group.
    func deltaNet(_ worker: Int) {
        guard case .deltaNet(_, let net) = unsafe stateLayers[layer].mixer else { return }
        let groups = unsafe net.shape.keyHeads
        while let unit = unsafe queue.take(worker) {
            let first = unit / groups
            for token in unsafe first..<(decodes ? first + 1 : tokens) {
                let row = unsafe mixerRows + token * mixerRowWidth
                unsafe net.compute(
                    group: unit % groups,
                    of: GatedDeltaNet.Token(
                        projected: row, gates: row + net.shape.channels + net.shape.valueWidth,
                        output: mixed.floats + token * mixed.length,
                        position: Int(positions[token]), state: layerState(of: token)),
                    kernels, buffer: mixerBuffers + worker * mixerBufferLength)
            }
        }
    }

    /// The gated convolution of the worker-th of `workers` parts of the channels.
    func convolution(_ worker: Int, _ workers: Int) {
        guard case .convolution(_, let convolution) = unsafe stateLayers[layer].mixer else {
            return
        }
        // Whole cache lines, so that workers do not write to the same.
        let lines = unsafe (convolution.channels + 31) / 32
        let first = lines * worker / workers * 32
        let end = unsafe min(lines * (worker + 1) / workers * 32, convolution.channels)
        if first >= end { return }
        for token in unsafe 0..<tokens {
            unsafe convolution.convolveGated(
                mixerRows + token * mixerRowWidth, channels: first..<end,
                position: Int(positions[token]), state: layerState(of: token),
                into: mixed.floats + token * mixed.length)
        }
    }

    /// Copies one sequence's state of all layers to another's.
    func copyState(from source: Int, to target: Int) {
        unsafe (states + target * stateLength).update(
            from: states + source * stateLength, count: stateLength)
    }

    /// The running layer's state of a token's sequence.
    private func layerState(of token: Int) -> UnsafeMutablePointer<Float> {
        unsafe states + Int(sequences[token]) * stateLength + stateLayers[layer].place
    }
}
