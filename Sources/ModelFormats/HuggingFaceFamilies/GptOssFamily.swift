/// gpt-oss (arXiv 2508.10925): attention with sinks, every other layer in a window, biases, and experts
/// in MXFP4 or in plain numbers.
///
/// The experts of a checkpoint lie in an order of their own: gate and up row by row in turns, and where
/// they are plain numbers, transposed. All of them are rewritten.
struct GptOssFamily: HuggingFaceFamily {
    let classNames = ["GptOssForCausalLM"]
    let architecture = "gpt-oss"

    func expertCount(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) -> Int {
        try configuration.count(["num_local_experts", "num_experts"], 1...65_536)
    }

    // Keys

    func addKeys(to keys: inout HuggingFaceKeys) throws(ModelFileError) {
        let configuration = keys.configuration
        if try configuration.object("quantization_config")?.string("quant_method") != "mxfp4" {
            try configuration.refuseQuantization()
        }
        try configuration.require("hidden_act", "silu")
        try configuration.require("swiglu_alpha", 1.702)
        try configuration.require("swiglu_limit", 7)
        try configuration.refusePartialRotation()
        try keys.addSizes()
        try keys.addHeads()
        try keys.addEpsilon()
        try keys.addRotary(dimensionCount: configuration.headSize())
        keys.add("attention.sliding_window", count: try configuration.count("sliding_window"))
        try checkLayers(configuration)
        keys.add(
            "expert_feed_forward_length", count: try configuration.count("intermediate_size"))
        try keys.addExperts()
        keys.addRouting(.softmaxOfChosen, normalises: false)
    }

    /// Which layers have the window, GGUF leaves to the reader: every other one, from the first.
    private func checkLayers(_ configuration: HuggingFaceConfiguration) throws(ModelFileError) {
        for (layer, kind) in (try configuration.perLayer("layer_types") ?? []).enumerated() {
            let expected = layer % 2 == 0 ? "sliding_attention" : "full_attention"
            guard kind.string == expected else {
                throw configuration.error(
                    "layer_types",
                    "layer \(layer) is \(kind.text), only '\(expected)' is supported there")
            }
        }
    }

    // Tensors

    func takeLayer(from tensors: inout HuggingFaceTensors) throws(ModelFileError) {
        try tensors.weight("input_layernorm", "attn_norm")
        for (theirs, gguf) in HuggingFaceTensors.attentionNames {
            try tensors.projection(theirs, gguf)
        }
        try tensors.vector("self_attn.sinks", "attn_sinks.weight")
        try tensors.weight("post_attention_layernorm", "post_attention_norm")
        try tensors.projection("mlp.router", "ffn_gate_inp")

        let configuration = tensors.configuration
        let (experts, hidden) = (tensors.expertCount, configuration.hiddenSize)
        let width = try configuration.count("intermediate_size")
        try takeMatrices(
            "mlp.experts.gate_up_proj", ["ffn_gate_exps", "ffn_up_exps"], rows: width,
            columns: hidden, from: &tensors)
        try takeMatrices(
            "mlp.experts.down_proj", ["ffn_down_exps"], rows: hidden, columns: width,
            from: &tensors)
        let biases = try tensors.source(
            "mlp.experts.gate_up_proj_bias", shape: [experts, 2 * width])
        let format = try tensors.format(of: biases)
        for (part, name) in ["ffn_gate_exps.bias", "ffn_up_exps.bias"].enumerated() {
            // One element is a row here.
            tensors.convert(
                .rows(rowBytes: format.bytesPerBlock, sourceRow: { 2 * $0 + part }), [biases],
                to: [(name, [width, experts])], format)
        }
        try tensors.place("mlp.experts.down_proj_bias", "ffn_down_exps.bias")
    }

    /// Takes matrices of (rows, columns) of all experts; several of them lie in turns.
    private func takeMatrices(
        _ theirs: String, _ names: [String], rows: Int, columns: Int,
        from tensors: inout HuggingFaceTensors
    ) throws(ModelFileError) {
        let experts = tensors.expertCount
        let results = names.map { ("\($0).weight", [columns, rows, experts]) }
        let allRows = names.count * rows
        guard tensors.has("\(theirs)_blocks") else {
            let source = try tensors.source(theirs, shape: [experts, columns, allRows])
            let format = try tensors.format(of: source)
            tensors.convert(
                .transposed(rows: columns, columns: allRows, elementBytes: format.bytesPerBlock),
                [source], to: results, format)
            return
        }
        // (experts, rows, blocks of a row, bytes of a block) and the scale of each block.
        let blocks = columns / 32
        let elements = try tensors.source(
            "\(theirs)_blocks", shape: [experts, allRows, blocks, 16])
        let scales = try tensors.source("\(theirs)_scales", shape: [experts, allRows, blocks])
        for source in [elements, scales] where source.tensor.elementType != "U8" {
            throw tensors.error(source, "\(source.tensor.elementType) where U8 is expected")
        }
        guard columns % 32 == 0, blocks > 0 else {
            throw tensors.error(
                elements, "rows of \(columns) elements are not whole blocks of 32")
        }
        tensors.convert(
            .microscaling(rows: experts * allRows, blocksPerRow: blocks), [elements, scales],
            to: results, .mxfp4)
    }
}
