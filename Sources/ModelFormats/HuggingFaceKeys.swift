/// The keys of a model in the making, under its architecture's prefix, as llama.cpp's converter
/// names them.
struct HuggingFaceKeys {
    let configuration: HuggingFaceConfiguration
    /// Factors of the rotary embedding's frequencies, which GGUF keeps as tensors.
    private(set) var rotaryTensors: [(name: String, values: [Float])] = []
    private(set) var writer = GGUFMetadataWriter()
    private let prefix: String

    /// How a router's logits become weights, by GGUF's numbers.
    enum Gating: UInt32 {
        case softmax = 1
        case sigmoid = 2
        case softmaxOfChosen = 3
    }

    init(_ configuration: HuggingFaceConfiguration, name: String) {
        self.configuration = configuration
        prefix = configuration.family.architecture
        writer.add("general.architecture", prefix)
        writer.add("general.type", "model")
        writer.add("general.name", name)
    }

    mutating func add(_ name: String, count: Int) {
        writer.add("\(prefix).\(name)", UInt32(count))
    }

    mutating func add(_ name: String, counts: [Int]) {
        writer.add("\(prefix).\(name)", counts.map { Int32($0) })
    }

    mutating func add(_ name: String, number: Double) {
        writer.add("\(prefix).\(name)", Float(number))
    }

    mutating func add(_ name: String, flag: Bool) { writer.add("\(prefix).\(name)", flag) }

    mutating func add(_ name: String, text: String) { writer.add("\(prefix).\(name)", text) }

    /// Adds a key of ours, for what GGUF has no key for.
    mutating func addOwn(_ name: String, flag: Bool) { writer.add("sluice.\(name)", flag) }

    mutating func addOwn(_ name: String, number: Double) {
        writer.add("sluice.\(name)", Float(number))
    }

    mutating func addTensor(_ name: String, _ values: [Float]) {
        rotaryTensors.append((name, values))
    }

    // What families have in common

    /// Adds the sizes that every model has, but for those of heads.
    mutating func addSizes() throws(ModelFileError) {
        add("block_count", count: configuration.layerCount)
        add("context_length", count: configuration.contextLength)
        add("embedding_length", count: configuration.hiddenSize)
        if configuration.has("intermediate_size") {
            add("feed_forward_length", count: try configuration.count("intermediate_size"))
        }
        add("attention.head_count", count: configuration.headCount)
    }

    /// Adds the heads of keys and values, and the size of a head where the configuration has it.
    mutating func addHeads() throws(ModelFileError) {
        add("attention.head_count_kv", count: configuration.keyValueHeadCount)
        try addHeadSize()
    }

    mutating func addHeadSize() throws(ModelFileError) {
        guard configuration.has("head_dim") else { return }
        let size = try configuration.headSize()
        add("attention.key_length", count: size)
        add("attention.value_length", count: size)
    }

    mutating func addEpsilon(_ name: String = "rms_norm_eps") throws(ModelFileError) {
        add("attention.layer_norm_rms_epsilon", number: try configuration.number(name))
    }

    /// Adds how many experts a layer has and a token uses.
    mutating func addExperts(used: String = "num_experts_per_tok") throws(ModelFileError) {
        add("expert_count", count: try configuration.family.expertCount(configuration))
        add("expert_used_count", count: try configuration.count(used))
    }

    /// Adds how experts are chosen and weighed.
    ///
    /// - Parameter scale: The factor on all weights.
    mutating func addRouting(_ gating: Gating, normalises: Bool, scale: Double? = nil) {
        add("expert_gating_func", count: Int(gating.rawValue))
        add("expert_weights_norm", flag: normalises)
        if let scale { add("expert_weights_scale", number: scale) }
    }

    /// Adds the keys of a plain transformer: sizes, heads, epsilon and rotary embedding; and refuses
    /// what none of these supports.
    mutating func addTransformer() throws(ModelFileError) {
        try configuration.refuseQuantization()
        try configuration.require("hidden_act", "silu")
        try configuration.refuseSlidingWindow()
        try configuration.refusePartialRotation()
        try addSizes()
        try addHeads()
        try addEpsilon()
        try addRotary(dimensionCount: configuration.headSize())
    }
}
