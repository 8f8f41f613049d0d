import Benchmarking
import Inference
import Measuring
import ModelFormats
import Quantization

/// The weights that a token meets, by kernel, and how long the machine would need for them at least.
struct TokenWork {
    /// Weights of one kind.
    struct Use {
        /// Nil for formats that have no kernel and are decoded row by row.
        var kernel: MeasuredKernel?
        /// Of one matrix or, of experts, of one expert.
        var bytes: Int
        var elements: Int
        /// Experts that a token computes; nil for weights that every token needs.
        var experts: Int?
    }

    private(set) var uses: [Use] = []
    /// The vocabulary's, computed once however many tokens a prompt has.
    private(set) var head: Use
    private let expertCount: Int

    /// - Parameter planes: Of every expert; nil means all.
    init(_ model: ModelDescription, planes: Int?, arithmetic: Arithmetic) {
        let planes = planes ?? model.planesPerExpert
        func kernel(_ format: BlockFormat) -> MeasuredKernel? {
            let kernel = MeasuredKernel.format(format)
            let isFloat = format.elementsPerBlock == 1
            return kernel.isComputed && (isFloat || arithmetic == .int8) ? kernel : nil
        }
        func use(_ tensor: GGUFTensor) -> Use {
            Use(
                kernel: kernel(tensor.format), bytes: tensor.byteCount,
                elements: tensor.elementCount)
        }
        expertCount = model.expertCount
        head = use(model.output.weight)
        uses = model.matricesPerToken.map(use)
        for layer in 0..<model.expertLayerCount {
            for part in model.expertParts(layer: layer) {
                var used = Use(
                    kernel: kernel(part.format), bytes: part.byteCount,
                    elements: part.rows * part.columns, experts: model.expertsPerToken)
                if let low = part.lowFormat, planes == 1 {
                    used.kernel = kernel(low)
                    used.bytes = low.byteCount(elements: part.columns) * part.rows
                } else if let nested = part.nested {
                    let planar = MeasuredKernel.planes(
                        nested, used: min(planes, nested.bits.count))
                    used.kernel = arithmetic == .int8 && planar.isComputed ? planar : nil
                    used.bytes = planar.bytes(rows: part.rows, columns: part.columns)
                }
                uses.append(used)
            }
        }
    }

    /// Bytes of weights that one token touches, the head's among them.
    var bytesPerToken: Int {
        uses.reduce(head.bytes) { $0 + $1.bytes * ($1.experts ?? 1) }
    }

    /// Multiplications, each with its addition, of a prompt of `tokens`; without those of attention
    /// with the positions before, which grow with their square.
    func products(tokens: Int) -> Int {
        uses.reduce(head.elements) { $0 + $1.elements * ($1.experts ?? 1) * tokens }
    }

    /// Seconds that `tokens` computed together need at least: for each kernel what its bytes need
    /// from memory, or its arithmetic at the rate it has in the cache, whichever is more.
    ///
    /// Experts are taken to be chosen evenly: with k of E experts, t tokens compute each one for
    /// t k / E of them, but at least one.
    func leastSeconds(tokens: Int, _ machine: Roofline) -> Double {
        uses.reduce(0) { sum, use in
            guard let experts = use.experts else {
                return sum + machine.seconds(use.kernel, bytes: use.bytes, tokens: tokens)
            }
            let pairs = Double(tokens * experts)
            let share = max(1, Int((pairs / Double(expertCount)).rounded()))
            return sum + pairs / Double(share)
                * machine.seconds(use.kernel, bytes: use.bytes, tokens: share)
        }
    }

    /// Of the head, for one row of logits.
    func leastHeadSeconds(_ machine: Roofline) -> Double {
        machine.seconds(head.kernel, bytes: head.bytes, tokens: 1)
    }
}

/// What this machine's memory and kernels give.
struct Roofline {
    /// Bytes per second of a plain read, with all threads.
    var readRate: Double
    /// Bytes of weights per second in the cache, at best.
    private var cachedRates: [Rate] = []

    private struct Rate {
        var kernel: MeasuredKernel
        var tokens: Int
        var bytesPerSecond: Double
    }

    init(readRate: Double) { self.readRate = readRate }

    /// Measures the best rate in the cache of a kernel, if it is one and was not measured yet.
    mutating func measure(
        _ kernel: MeasuredKernel?, tokens: Int, _ bench: KernelBench, instructionSet: String
    ) throws {
        let tokens = min(tokens, KernelBench.tokensMax)
        guard let kernel, rate(kernel, tokens) == nil else { return }
        let samples = try bench.samples(
            of: kernel, instructionSet: instructionSet, place: .cache, tokens: tokens, rounds: 3)
        cachedRates.append(
            Rate(
                kernel: kernel, tokens: tokens,
                bytesPerSecond: Spread(samples.bytesPerSecond).greatest))
    }

    /// At least, for weights of `bytes` that `tokens` tokens are multiplied with. Those without a
    /// kernel count with their bytes alone.
    func seconds(_ kernel: MeasuredKernel?, bytes: Int, tokens: Int) -> Double {
        let read = Double(bytes) / readRate
        let measured = min(tokens, KernelBench.tokensMax)
        guard let kernel, let rate = rate(kernel, measured) else { return read }
        return max(read, Double(bytes) / rate * Double(tokens) / Double(measured))
    }

    private func rate(_ kernel: MeasuredKernel, _ tokens: Int) -> Double? {
        cachedRates.first { $0.kernel == kernel && $0.tokens == tokens }?.bytesPerSecond
    }
}

extension TokenWork {
    /// Measures what `leastSeconds(tokens:_:)` asks for.
    func measure(
        tokens: Int, into machine: inout Roofline, _ bench: KernelBench, instructionSet: String
    ) throws {
        for use in uses {
            let share = use.experts.map {
                max(1, Int((Double(tokens * $0) / Double(expertCount)).rounded()))
            }
            try machine.measure(
                use.kernel, tokens: share ?? tokens, bench, instructionSet: instructionSet)
        }
        try machine.measure(head.kernel, tokens: 1, bench, instructionSet: instructionSet)
    }
}
