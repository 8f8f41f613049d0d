import Glibc
import ModelFormats
import Quantization
import Testing

@testable import Inference

/// A model with random weights and one kind of attention, written to a file that is removed in the
/// end. Its experts are the plainest there are, whatever the family's own do.
final class DrawnModel {
    enum Kind: String, CaseIterable {
        /// Keys longer than values, biases everywhere, part of each head turned.
        case biased
        /// A sink of each head, and a window in every other layer.
        case sinks
        /// Norms on each head, and gates of its result.
        case gated
        /// Layer norms with biases.
        case layerNorm
        /// Layers in which nothing is turned.
        case unturned
        /// Constants on embedding, attention, residual stream and logits.
        case scaled
        case latent
        /// Without a latent of the queries, and keys and values made by one matrix.
        case joinedLatent
        /// More heads than a tile has.
        case latentOfManyHeads

        var isLatent: Bool {
            self == .latent || self == .joinedLatent || self == .latentOfManyHeads
        }

        var architecture: String {
            switch self {
            case .biased: "qwen2moe"
            case .sinks: "gpt-oss"
            case .gated: "qwen3next"
            case .layerNorm: "phimoe"
            case .unturned: "smallthinker"
            case .scaled: "granitemoe"
            case .latent, .joinedLatent, .latentOfManyHeads: "deepseek2"
            }
        }
    }

    static let embedding = 64, vocabulary = 40
    static let window = 100

    let kind: Kind
    let description: ModelDescription
    /// What the file's tensors are when decoded.
    private(set) var values: [String: [Double]] = [:]
    private let path: String

    /// - Parameter format: of the matrices that bring latents up.
    init(
        _ kind: Kind, layers: Int, format: BlockFormat = .f32, rank: Int = 64, valueSize: Int? = nil
    ) throws {
        self.kind = kind
        var file = Builder(architecture: kind.architecture)
        let heads = kind == .latentOfManyHeads ? 40 : 6
        let valueSize = valueSize ?? (kind == .biased ? 18 : 24)
        file.describe(kind, layers: layers, heads: heads, rank: rank, valueSize: valueSize)
        file.matrix("token_embd.weight", Self.embedding, Self.vocabulary, gain: 1)
        file.norm("output_norm", kind, Self.embedding)
        if kind == .layerNorm { file.vector("output.bias", Self.vocabulary, around: 0) }
        for layer in 0..<layers {
            file.layer(
                "blk.\(layer).", kind, heads: heads, format: format, rank: rank,
                valueSize: valueSize)
        }
        values = file.values
        var template = Array("/tmp/sluice-drawn-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&template)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        path = unsafe template.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
        let bytes = file.bytes
        let written = unsafe bytes.withUnsafeBytes {
            unsafe write(descriptor, $0.baseAddress!, $0.count)
        }
        try #require(written == bytes.count)
        var description: ModelDescription
        do {
            description = try ModelDescription(file: GGUFFile(path: path))
        } catch {
            unsafe unlink(path)
            throw error
        }
        description.routing = Routing(gating: .softmax, normalises: true)
        description.activation = .silu
        description.layers = description.layers.map { layer in
            var experts = layer.experts!
            experts.routesEarly = false
            return Layer(
                index: layer.index, attentionNorm: layer.attentionNorm, mixer: layer.mixer,
                feedForwardNorm: layer.feedForwardNorm, feedForward: .experts(experts))
        }
        self.description = description
    }

    deinit { unsafe unlink(path) }

    func engine(_ change: (inout EngineOptions) -> Void = { _ in }) throws -> Engine {
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 640
        options.threads = 1
        change(&options)
        return try Engine(
            model: description, options: options,
            plan: MemoryPlan(model: description, options: options))
    }

    func ids(_ count: Int) -> [Int32] {
        (0..<count).map { Int32(($0 * $0 * 7 + $0 * 13 + 5) % Self.vocabulary) }
    }

    /// Row `row` of a matrix of `columns` columns.
    func row(_ name: String, _ row: Int, _ columns: Int) -> ArraySlice<Double> {
        values[name]![(row * columns)..<((row + 1) * columns)]
    }
}

/// A GGUF file in the making, and the random numbers in it.
private struct Builder {
    private let architecture: String
    private var keys: [UInt8] = []
    private var keyCount = 0
    private var infos: [UInt8] = []
    private var data: [UInt8] = []
    private(set) var values: [String: [Double]] = [:]
    private var random: UInt64 = 88_172_645_463_325_252

    init(architecture: String) {
        self.architecture = architecture
        keys += text("general.architecture") + little(UInt32(8)) + text(architecture)
        keyCount = 1
    }

    var bytes: [UInt8] {
        var all = Array("GGUF".utf8) + little(UInt32(3)) + little(UInt64(values.count))
        all += little(UInt64(keyCount)) + keys + infos
        return all + [UInt8](repeating: 0, count: (32 - all.count % 32) % 32) + data
    }

    mutating func key(_ name: String, _ value: Int) {
        keys += text("\(architecture).\(name)") + little(UInt32(4)) + little(UInt32(value))
        keyCount += 1
    }

    mutating func key(_ name: String, _ value: Float) {
        keys += text("\(architecture).\(name)") + little(UInt32(6)) + little(value.bitPattern)
        keyCount += 1
    }

    mutating func describe(
        _ kind: DrawnModel.Kind, layers: Int, heads: Int, rank: Int, valueSize: Int
    ) {
        key("block_count", layers)
        key("context_length", 1024)
        key("embedding_length", DrawnModel.embedding)
        key("expert_count", 2)
        key("expert_used_count", kind == .layerNorm ? 2 : 1)
        key("attention.layer_norm_rms_epsilon", Float(1e-5))
        key("attention.head_count", heads)
        key("rope.freq_base", Float(1000))
        key("rope.dimension_count", kind == .biased || kind.isLatent ? 12 : 24)
        switch kind {
        case .latent, .joinedLatent, .latentOfManyHeads:
            key("attention.head_count_kv", 1)
            key("attention.key_length", rank + 12)
            key("attention.value_length", rank)
            key("attention.key_length_mla", 32)
            key("attention.value_length_mla", 16)
            key("attention.kv_lora_rank", rank)
            if kind != .joinedLatent { key("attention.q_lora_rank", 40) }
        default:
            key("attention.head_count_kv", 2)
            key("attention.key_length", 24)
            key("attention.value_length", valueSize)
        }
        switch kind {
        case .sinks, .unturned: key("attention.sliding_window", DrawnModel.window)
        case .gated:
            for (name, value) in [
                ("conv_kernel", 4), ("state_size", 8), ("group_count", 2), ("time_step_rank", 2),
                ("inner_size", 16),
            ] { key("ssm.\(name)", value) }
        case .scaled:
            key("embedding_scale", Float(3))
            key("residual_scale", Float(0.4))
            key("attention.scale", Float(0.15))
            key("logit_scale", Float(5))
        default: break
        }
    }

    mutating func layer(
        _ block: String, _ kind: DrawnModel.Kind, heads: Int, format: BlockFormat, rank: Int,
        valueSize: Int
    ) {
        let width = DrawnModel.embedding
        norm(block + "attn_norm", kind, width)
        norm(block + "ffn_norm", kind, width)
        matrix(block + "ffn_gate_inp.weight", width, 2, gain: 1)
        for part in ["gate", "up", "down"] {
            matrix(block + "ffn_\(part)_exps.weight", width, width, 2, gain: 1)
        }
        if kind.isLatent {
            latent(block, kind, heads: heads, format: format, rank: rank)
            return
        }
        let headSize = 24
        matrix(block + "attn_q.weight", width, heads * headSize * (kind == .gated ? 2 : 1))
        matrix(block + "attn_k.weight", width, 2 * headSize)
        matrix(block + "attn_v.weight", width, 2 * valueSize)
        matrix(block + "attn_output.weight", heads * valueSize, width)
        if [.biased, .sinks, .layerNorm].contains(kind) {
            vector(block + "attn_q.bias", heads * headSize, around: 0)
            vector(block + "attn_k.bias", 2 * headSize, around: 0)
            vector(block + "attn_v.bias", 2 * valueSize, around: 0)
            vector(block + "attn_output.bias", width, around: 0)
        }
        if kind == .sinks { vector(block + "attn_sinks.weight", heads, around: 1) }
        if kind == .gated {
            vector(block + "attn_q_norm.weight", headSize, around: 1.5)
            vector(block + "attn_k_norm.weight", headSize, around: 1.5)
        }
    }

    private mutating func latent(
        _ block: String, _ kind: DrawnModel.Kind, heads: Int, format: BlockFormat, rank: Int
    ) {
        let width = DrawnModel.embedding
        let (keySize, turned, valueSize) = (32, 12, 16)
        let plain = keySize - turned
        if kind == .joinedLatent {
            matrix(block + "attn_q.weight", width, heads * keySize)
        } else {
            matrix(block + "attn_q_a.weight", width, 40)
            vector(block + "attn_q_a_norm.weight", 40, around: 1)
            matrix(block + "attn_q_b.weight", 40, heads * keySize)
        }
        matrix(block + "attn_kv_a_mqa.weight", width, rank + turned)
        vector(block + "attn_kv_a_norm.weight", rank, around: 1)
        matrix(block + "attn_output.weight", heads * valueSize, width)
        if kind == .joinedLatent {
            matrix(block + "attn_kv_b.weight", rank, heads * (plain + valueSize), format: format)
        } else {
            // Blocks do not fit rows as short as a head's plain part.
            matrix(
                block + "attn_k_b.weight", plain, rank, heads, gain: 1.2,
                format: format.elementsPerBlock == 1 ? format : .f16)
            matrix(block + "attn_v_b.weight", rank, valueSize, heads, format: format)
        }
    }

    mutating func norm(_ name: String, _ kind: DrawnModel.Kind, _ length: Int) {
        vector(name + ".weight", length, around: 1)
        if kind == .layerNorm { vector(name + ".bias", length, around: 0) }
    }

    mutating func vector(_ name: String, _ length: Int, around middle: Float) {
        tensor(name, [length], .f32, (0..<length).map { _ in middle + 0.5 * draw() })
    }

    mutating func matrix(
        _ name: String, _ columns: Int, _ rows: Int, _ count: Int? = nil, gain: Float = 1.2,
        format: BlockFormat = .f32
    ) {
        let scale = gain * (3 / Float(columns)).squareRoot()
        tensor(
            name, [columns, rows] + (count.map { [$0] } ?? []), format,
            (0..<(columns * rows * (count ?? 1))).map { _ in scale * draw() })
    }

    /// From -1 to 1.
    private mutating func draw() -> Float {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return Float(Int(random >> 40)) / Float(1 << 23) - 1
    }

    private mutating func tensor(
        _ name: String, _ shape: [Int], _ format: BlockFormat, _ numbers: [Float]
    ) {
        infos += text(name) + little(UInt32(shape.count))
        for length in shape { infos += little(UInt64(length)) }
        infos += little(UInt32(format.rawValue)) + little(UInt64(data.count))
        let stored: [UInt8]
        switch format {
        case .f32: stored = numbers.flatMap { little($0.bitPattern) }
        case .f16: stored = numbers.flatMap { little(Float16($0).bitPattern) }
        case .bf16: stored = numbers.flatMap { little(UInt16($0.bitPattern >> 16)) }
        default: stored = BlockEncoder.encode(format, numbers)
        }
        data += stored + [UInt8](repeating: 0, count: (32 - stored.count % 32) % 32)
        var decoded = [Float](repeating: 0, count: numbers.count)
        unsafe stored.withUnsafeBytes { raw in
            unsafe decoded.withUnsafeMutableBufferPointer {
                unsafe BlockDecoder.decode(
                    format, from: raw.baseAddress!, elements: numbers.count, into: $0.baseAddress!)
            }
        }
        values[name] = decoded.map(Double.init)
    }

    private func text(_ string: String) -> [UInt8] {
        little(UInt64(string.utf8.count)) + Array(string.utf8)
    }

    private func little(_ value: some FixedWidthInteger) -> [UInt8] {
        (0..<(value.bitWidth / 8)).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
}
