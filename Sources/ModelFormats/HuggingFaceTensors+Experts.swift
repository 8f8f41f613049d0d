/// How experts and what is computed beside them are taken, whichever way they lie.
extension HuggingFaceTensors {
    /// Router and experts where the layer has a router (`mlp_only_layers` and `decoder_sparse_step`
    /// say which), otherwise gate, up and down.
    ///
    /// - Parameter sharesOne: Whether there is an expert that every token uses, behind a gate.
    mutating func expertsOrDense(sharesOne: Bool = false) throws(ModelFileError) {
        guard has("mlp.gate.weight") else { return try feedForward("mlp") }
        try weight("mlp.gate", "ffn_gate_inp")
        try experts(
            "mlp.experts", ("gate_proj", "up_proj", "down_proj"),
            stacked: [("mlp.experts.gate_up_proj", "mlp.experts.down_proj")])
        guard sharesOne else { return }
        try feedForward("mlp.shared_expert", suffix: "_shexp")
        try vector("mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight")
    }

    /// Places a layer's experts: each matrix a tensor of its own, or the two that go into the
    /// activation stacked as (experts, 2 x width, hidden size) and the other as (experts, hidden size,
    /// width).
    ///
    /// - Parameters:
    ///   - module: What is before the expert's number, as in `mlp.experts`.
    ///   - names: Of gate, up and down.
    ///   - stacked: The names of the stacked ones.
    mutating func experts(
        _ module: String, _ names: (gate: String, up: String, down: String),
        stacked: [(gateUp: String, down: String)]
    ) throws(ModelFileError) {
        if let stacked = stacked.first(where: { has($0.gateUp) }) {
            try halves(stacked.gateUp, "ffn_gate", "ffn_up")
            try place(stacked.down, "ffn_down_exps.weight")
            return
        }
        for expert in 0..<expertCount {
            for (name, role) in [
                (names.gate, "ffn_gate"), (names.up, "ffn_up"), (names.down, "ffn_down"),
            ] {
                try weight("\(module).\(expert).\(name)", "\(role).\(expert)")
            }
        }
    }

    /// Places the halves of each expert's matrix of (experts, rows, columns) as matrices of their own.
    private mutating func halves(
        _ theirs: String, _ first: String, _ second: String
    ) throws(ModelFileError) {
        let taken = try take(theirs)
        let format = try format(of: taken)
        let shape = taken.tensor.shape
        guard shape.count == 3, shape[0] == expertCount, shape[1] % 2 == 0 else {
            throw error(
                taken,
                "shape \(shape) where [\(expertCount), 2 x width, \(configuration.hiddenSize)] is expected"
            )
        }
        let matrix = [shape[2], shape[1] / 2]
        let bytes = UInt64(matrix[0] * matrix[1] * format.bytesPerBlock)
        for expert in 0..<expertCount {
            let start = taken.tensor.fileOffset + UInt64(expert) * 2 * bytes
            add("\(first).\(expert).weight", matrix, format, taken.fileIndex, at: start)
            add("\(second).\(expert).weight", matrix, format, taken.fileIndex, at: start + bytes)
        }
    }

    /// Places the halves of a matrix of (rows, columns).
    mutating func rowHalves(
        _ theirs: String, _ first: String, _ second: String
    ) throws(ModelFileError) {
        let taken = try take(theirs)
        let format = try format(of: taken)
        let shape = taken.tensor.shape
        guard shape.count == 2, shape[0] % 2 == 0 else {
            throw error(
                taken, "shape \(shape) where [2 x width, \(configuration.hiddenSize)] is expected")
        }
        let half = [shape[1], shape[0] / 2]
        let start = taken.tensor.fileOffset
        add(first, half, format, taken.fileIndex, at: start)
        add(second, half, format, taken.fileIndex, at: start + UInt64(taken.tensor.byteCount / 2))
    }

    /// Places gate, up and down of a layer without experts, or of an expert that every token uses.
    mutating func feedForward(
        _ module: String, suffix: String = "",
        names: (gate: String, up: String, down: String) = ("gate_proj", "up_proj", "down_proj")
    ) throws(ModelFileError) {
        try weight("\(module).\(names.gate)", "ffn_gate\(suffix)")
        try weight("\(module).\(names.up)", "ffn_up\(suffix)")
        try weight("\(module).\(names.down)", "ffn_down\(suffix)")
    }
}
