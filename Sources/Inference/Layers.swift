public import ModelFormats
public import Quantization

/// A norm's weight and, where the model takes the mean off first, its bias: (length).
public struct Norm: Sendable {
    public let weight: GGUFTensor
    public let bias: GGUFTensor?

    var tensors: [GGUFTensor] { [weight] + [bias].compactMap { $0 } }
}

/// A matrix (rows, columns), and what is added to its products: (rows).
public struct Projection: Sendable {
    public let weight: GGUFTensor
    public let bias: GGUFTensor?

    var tensors: [GGUFTensor] { [weight] + [bias].compactMap { $0 } }
}

/// How the root-mean-square norms on queries and keys are laid.
public enum ProjectionNorm: Sendable {
    /// Over each head.
    case perHead
    /// Over all heads together.
    case wholeProjection
}

/// One transformer layer: what mixes positions, then what works on each alone. Shapes of tensors as
/// (rows, columns).
public struct Layer: Sendable {
    /// Its number among all layers: N in `blk.N`.
    public let index: Int
    public let attentionNorm: Norm  // (embedding)
    public let mixer: Mixer
    public let feedForwardNorm: Norm  // (embedding)
    public let feedForward: FeedForward

    /// What lets a token see those before it.
    public enum Mixer: Sendable {
        case attention(Attention)
        case latent(LatentAttention)
        case convolution(ShortConvolution)
        case deltaNet(DeltaNet)
    }

    /// What follows it.
    public enum FeedForward: Sendable {
        case dense(DenseFeedForward)
        case experts(Experts)
    }

    /// The matrix that takes what is mixed back to the residual stream: (embedding, mixed width).
    var mixerOutput: GGUFTensor {
        switch mixer {
        case .attention(let attention): attention.output.weight
        case .latent(let attention): attention.output
        case .convolution(let convolution): convolution.output
        case .deltaNet(let net): net.output
        }
    }

    /// The experts, where it has any.
    public var experts: Experts? {
        guard case .experts(let experts) = feedForward else { return nil }
        return experts
    }

    /// What every token uses of its feed-forward: all of it, or the shared expert, if it has one.
    var dense: DenseFeedForward? {
        switch feedForward {
        case .dense(let dense): dense
        case .experts(let experts): experts.shared
        }
    }

    /// Everything of it that every token needs, by what it is for.
    var roles: [(role: TensorRole, tensors: [GGUFTensor])] {
        let mixing: [(TensorRole, [GGUFTensor])] =
            switch mixer {
            case .attention(let attention): attention.roles
            case .latent(let attention): attention.roles
            case .convolution(let convolution): convolution.roles
            case .deltaNet(let net): net.roles
            }
        let feeding: [(TensorRole, [GGUFTensor])] =
            switch feedForward {
            case .dense(let dense): [(.feedForward, dense.matrices)]
            case .experts(let experts): experts.roles
            }
        return [(.norm, attentionNorm.tensors + feedForwardNorm.tensors)] + mixing + feeding
    }
}

/// What a resident tensor is for.
public enum TensorRole: String, CaseIterable, Sendable {
    case embedding = "token embedding"
    case head
    case attention
    case convolution = "convolutions"
    case deltaNet = "linear attention"
    case router
    case shared = "shared experts"
    case feedForward = "dense layers"
    case expertBias = "biases of experts"
    case norm = "norms and vectors"

    /// Whether they are kept as F32: what is read element by element.
    var isWidened: Bool { self == .norm || self == .expertBias }
}

/// Softmax attention with keys and values of every position. H heads for queries, K for keys and
/// values.
public struct Attention: Sendable {
    public var query: Projection  // (H x head size, embedding), twice the rows where gated
    public var key: Projection  // (K x head size, embedding)
    public var value: Projection  // (K x value size, embedding)
    public var output: Projection  // (embedding, H x value size)
    public var queryNorm: GGUFTensor?  // (head size) or (H x head size)
    public var keyNorm: GGUFTensor?
    public var norm = ProjectionNorm.perHead
    /// A logit of each head that takes part in its softmax and has no value: (H). "Attention sinks"
    /// of gpt-oss.
    public var sinks: GGUFTensor?
    /// Positions that a token attends to, its own among them; nil for all before it.
    public var window: Int?
    /// Whether queries and keys are turned by their position.
    public var rotates = true
    /// Whether each head's rows of the query are followed by as many whose sigmoid scales the head's
    /// result.
    public var isGated = false

    var roles: [(TensorRole, [GGUFTensor])] {
        [
            (.attention, [query, key, value, output].map(\.weight)),
            (
                .norm,
                [query, key, value, output].compactMap(\.bias)
                    + [queryNorm, keyNorm, sinks].compactMap { $0 }
            ),
        ]
    }
}

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): what is kept of a
/// position is one vector from which keys and values of all heads follow, and one part of a key that
/// is turned and serves all heads.
public struct LatentAttention: Sendable {
    /// (query rank, embedding), with its norm (query rank); nil where queries come from the input.
    public var queryDown: GGUFTensor?
    public var queryNorm: GGUFTensor?
    /// (H x (plain + turned), embedding or query rank): of each head the plain elements first.
    public var query: GGUFTensor
    /// (rank + turned, embedding)
    public var keyValueDown: GGUFTensor
    public var keyValueNorm: GGUFTensor  // (rank)
    public var keyValueUp: KeyValueUp
    public var output: GGUFTensor  // (embedding, H x value size)
    /// Elements of the vector that is kept.
    public var rank: Int
    /// Elements of a head's query that are turned, and that are not.
    public var turnedSize: Int
    public var plainSize: Int
    /// Elements of a head's value.
    public var valueSize: Int

    public enum KeyValueUp: Sendable {
        /// Keys transposed (H, rank, plain), so that a query is brought to the vector's space, and
        /// values (H, value size, rank).
        case split(key: GGUFTensor, value: GGUFTensor)
        /// (H x (plain + value size), rank): of each head the rows of keys first.
        case joined(GGUFTensor)
    }

    var roles: [(TensorRole, [GGUFTensor])] {
        let up: [GGUFTensor] =
            switch keyValueUp {
            case .split(let key, let value): [key, value]
            case .joined(let both): [both]
            }
        return [
            (
                .attention,
                [queryDown, query, keyValueDown, output].compactMap { $0 } + up
            ),
            (.norm, [queryNorm, keyValueNorm].compactMap { $0 }),
        ]
    }
}

/// A gated convolution over the last few positions (LFM2): of the input projection's three parts
/// (b, c, x), y = c * conv(b * x).
public struct ShortConvolution: Sendable {
    public var input: GGUFTensor  // (3 x embedding, embedding): b, c, x
    public var kernel: GGUFTensor  // (embedding, taps), the oldest position first
    public var output: GGUFTensor  // (embedding, embedding)
    public var taps: Int

    var roles: [(TensorRole, [GGUFTensor])] {
        [(.convolution, [input, output]), (.norm, [kernel])]
    }
}

/// Linear attention by the gated delta rule (arXiv 2412.06464), as Qwen3-Next has it. K heads for
/// queries and keys, V for values, V a multiple of K.
public struct DeltaNet: Sendable {
    public var input: Input
    /// (2 x V, embedding): for each key head, b of its value heads and then a of them.
    public var betaAlpha: GGUFTensor
    public var kernel: GGUFTensor  // (2 x K x key size + V x value size, taps)
    public var timeBias: GGUFTensor  // (V)
    public var decay: GGUFTensor  // (V): -exp(A)
    public var norm: GGUFTensor  // (value size)
    public var output: GGUFTensor  // (embedding, V x value size)
    public var keyHeadCount: Int
    public var valueHeadCount: Int
    public var keySize: Int
    public var valueSize: Int
    public var taps: Int

    public enum Input: Sendable {
        /// Queries, keys and values (2 x K x key size + V x value size, embedding), and z, whose silu
        /// scales the result (V x value size, embedding).
        case separate(queryKeyValue: GGUFTensor, gate: GGUFTensor)
        /// The same rows in one matrix, for each key head its query, key, values and z: as the model
        /// was trained, and as early files have it.
        case grouped(GGUFTensor)
    }

    var roles: [(TensorRole, [GGUFTensor])] {
        let inputs: [GGUFTensor] =
            switch input {
            case .separate(let queryKeyValue, let gate): [queryKeyValue, gate]
            case .grouped(let all): [all]
            }
        return [
            (.deltaNet, inputs + [betaAlpha, output]),
            (.norm, [kernel, timeBias, decay, norm]),
        ]
    }
}

/// down(activation(gate x) * up x), with weights that every token needs.
public struct DenseFeedForward: Sendable {
    public var gate: GGUFTensor  // (width, embedding)
    public var up: GGUFTensor  // (width, embedding)
    public var down: GGUFTensor  // (embedding, width)

    var matrices: [GGUFTensor] { [gate, up, down] }
    /// Rows of gate and up.
    public var width: Int { gate.shape[1] }
}

/// The experts of a layer, of which the router chooses k for each token, and what stands beside them.
public struct Experts: Sendable {
    /// (experts, embedding); nil where there is one expert, which every token uses.
    public var router: Projection?
    /// Added to the probabilities for the choice only: (experts).
    public var correctionBias: GGUFTensor?
    /// Gate, up and down matrices of every expert.
    public var parts: [ExpertPart]
    /// What is added to their products: (experts, rows) each.
    public var biases: Biases?
    /// An expert of every token.
    public var shared: DenseFeedForward?
    /// Its product with the input gives the shared expert's weight, through a sigmoid: (embedding).
    public var sharedGate: GGUFTensor?
    /// Whether the router reads the residual stream as it enters the layer, before attention.
    public var routesEarly = false

    public struct Biases: Sendable {
        public var gate: GGUFTensor
        public var up: GGUFTensor
        public var down: GGUFTensor
    }

    var roles: [(TensorRole, [GGUFTensor])] {
        [
            (.router, [router?.weight].compactMap { $0 }),
            (.norm, [router?.bias, correctionBias, sharedGate].compactMap { $0 }),
            (.expertBias, biases.map { [$0.gate, $0.up, $0.down] } ?? []),
            (.shared, shared?.matrices ?? []),
        ]
    }
}

/// One of the three matrices of a layer's experts. Files hold it as one stacked tensor, or (older
/// ones) as one tensor per expert.
public struct ExpertPart: Sendable {
    public let format: BlockFormat
    public let rows: Int
    public let columns: Int
    /// One tensor holding all experts, or one per expert; none in a package, whose planes are no
    /// tensors.
    public let tensors: [GGUFTensor]
    /// How it is cut into planes; nil where it lies in its format as it is.
    public var nested: NestedFormat?
    /// The format of the coarser version in plane 0, where planes do not nest and plane 1 is the
    /// whole; nil elsewhere.
    public var lowFormat: BlockFormat?

    /// The formats it may have to be multiplied in.
    var formats: [BlockFormat] { [format] + [lowFormat].compactMap { $0 } }

    /// Bytes of one expert's matrix.
    public var byteCount: Int { format.byteCount(elements: columns) * rows }

    /// File and offset of expert `index`'s matrix, where files hold it as it is.
    func place(of index: Int) -> (fileIndex: Int, offset: UInt64) {
        tensors.count == 1
            ? (tensors[0].fileIndex, tensors[0].fileOffset + UInt64(index * byteCount))
            : (tensors[index].fileIndex, tensors[index].fileOffset)
    }
}

/// What an expert does with its gate and up products.
public enum ExpertActivation: Sendable, Equatable {
    /// silu(gate) * up
    case silu
    /// max(gate, 0) * up
    case relu
    /// g * sigmoid(alpha * g) * (u + 1), with g = min(gate, limit) and u = up within +-limit
    /// (gpt-oss).
    case clampedSwiGLU(alpha: Float, limit: Float)
}

/// Whether norms take the mean off.
public enum NormKind: Sendable {
    /// x / root mean square of x * weight
    case rms
    /// (x - mean) / standard deviation * weight + bias
    case layer
}

/// Constants that a model multiplies with; all 1 in most.
public struct Multipliers: Sendable, Equatable {
    /// On the token embedding.
    public var embedding: Float = 1
    /// On what attention and feed-forward add to the residual stream.
    public var residual: Float = 1
    /// On the logits.
    public var logits: Float = 1
    /// On queries x keys; nil for 1 / sqrt(head size).
    public var attention: Float?
}
