/// Where sequences keep what mixers with a state remember, and where those mixers work.
///
/// ```
///   states     (sequences, layers that keep one, floats of the layer)
///   rows       (T, rowWidth): the input projections of the running layer, in the place of
///              attention's queries, keys and values
///   kernels    (layers that keep one, taps, channels): turned around, so that channels lie together
///   buffers    (workers, bufferLength)
/// ```
/// A sequence's state is in one piece, so that it is copied and written as it is. All in floats.
struct StateLayout: Sendable {
    /// Of a layer that keeps a state.
    struct Place: Sendable {
        /// Where its state begins in a sequence's.
        var state = 0
        /// Where its kernel begins among all kernels.
        var kernel = 0
    }

    /// By layer; nil for those that keep keys and values.
    private(set) var places: [Place?] = []
    /// What a sequence keeps; 0 where no layer has a state.
    private(set) var sequenceLength = 0
    private(set) var kernelLength = 0
    private(set) var rowWidth = 0
    private(set) var bufferLength = 0
    private(set) var onesLength = 0

    init(model: ModelDescription) {
        for layer in model.layers {
            switch layer.mixer {
            case .attention, .latent: places.append(nil)
            case .convolution(let convolution):
                let channels = model.embeddingLength
                rowWidth = max(rowWidth, 3 * channels)
                place(
                    unsafe DepthwiseConvolution.stateLength(
                        taps: convolution.taps, channels: channels),
                    kernel: convolution.taps * channels)
            case .deltaNet(let net):
                let shape = net.shape
                rowWidth = max(
                    rowWidth, shape.channels + shape.valueWidth + 2 * shape.valueHeads)
                bufferLength = max(bufferLength, StateLayout.padded(shape.bufferLength))
                onesLength = max(onesLength, shape.onesLength)
                place(shape.stateLength, kernel: shape.taps * shape.channels)
            }
        }
    }

    private mutating func place(_ length: Int, kernel: Int) {
        places.append(Place(state: sequenceLength, kernel: kernelLength))
        sequenceLength += StateLayout.padded(length)
        kernelLength += StateLayout.padded(kernel)
    }

    /// Whole cache lines.
    private static func padded(_ length: Int) -> Int { (length + 31) / 32 * 32 }
}

extension DeltaNet {
    var shape: DeltaNetShape {
        DeltaNetShape(
            keyHeads: keyHeadCount, valueHeads: valueHeadCount, keySize: keySize,
            valueSize: valueSize, taps: taps)
    }

    var columns: DeltaNetColumns {
        switch input {
        case .separate: .separate(shape)
        case .grouped: .byGroup(shape)
        }
    }
}
