internal import Glibc
import ModelFormats
import Quantization

/// Fetches keys and tensors for `ModelDescription`, checks their ranges and shapes, and remembers
/// which tensors found a role: one that did not (a bias, an extra head) would make the answers
/// wrong, unseen.
struct DescriptionReader {
    let file: ModelFile
    /// The architecture's name, which its keys begin with.
    let prefix: String
    /// Tensors that found a role, or are known to have none.
    private var used: Set<String> = []
    /// Keys that were asked for.
    private var readKeys: Set<String> = []

    init(file: ModelFile, prefix: String) {
        self.file = file
        self.prefix = prefix
    }

    // MARK: Keys

    /// The integer `PREFIX.key` within `range`; `default` where it is absent.
    mutating func count(
        _ key: String, _ range: ClosedRange<Int>, default fallback: Int? = nil
    ) throws(ModelFileError) -> Int {
        let full = name(key)
        guard let value = try file.metadata.integer(full) ?? fallback else {
            throw file.metadata.error(full, "missing; every \(prefix) model needs it")
        }
        guard range.contains(value) else {
            throw file.metadata.error(
                full, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }

    /// The integer `PREFIX.key`, which may be one for all layers or one for each; then those that are
    /// not 0 are all alike.
    mutating func uniformCount(
        _ key: String, _ range: ClosedRange<Int>, layers: Int, default fallback: Int? = nil
    ) throws(ModelFileError) -> Int {
        let full = name(key)
        guard file.metadata.type(of: full) == .array, let array = try file.metadata.array(full)
        else { return try count(key, range, default: fallback) }
        guard array.count >= layers else {
            throw keyError(key, "\(array.count) values for \(layers) layers")
        }
        var found: Int?
        for layer in 0..<layers {
            guard let value = array.integer(at: layer) else {
                throw keyError(key, "layer \(layer)'s value is not an integer")
            }
            if value == 0 { continue }
            guard range.contains(value), found == nil || found == value else {
                throw keyError(
                    key,
                    range.contains(value)
                        ? "\(value) in layer \(layer) after \(found ?? 0): layers that differ are not supported"
                        : "\(value) in layer \(layer) is not between \(range.lowerBound) and \(range.upperBound)"
                )
            }
            found = value
        }
        guard let found else { throw keyError(key, "0 in every layer") }
        return found
    }

    /// The number `PREFIX.key`, or nil where it is absent.
    mutating func number(
        _ key: String, above low: Double, through high: Double
    ) throws(ModelFileError) -> Double? {
        try ownNumber(name(key), above: low, through: high)
    }

    /// The number of a key of ours, of any architecture; nil where it is absent.
    func ownNumber(
        _ full: String, above low: Double, through high: Double
    ) throws(ModelFileError) -> Double? {
        guard let value = try file.metadata.number(full) else { return nil }
        guard value > low, value <= high else {
            throw file.metadata.error(full, "\(value) is not above \(low) and at most \(high)")
        }
        return value
    }

    /// A key of ours, of any architecture; nil where it is absent.
    func bool(_ key: String) throws(ModelFileError) -> Bool? { try file.metadata.bool(key) }

    /// One flag per layer; nil where the key is absent or is no array.
    mutating func flags(_ key: String, count: Int) throws(ModelFileError) -> [Bool]? {
        let full = name(key)
        guard file.metadata.type(of: full) == .array, let array = try file.metadata.array(full)
        else { return nil }
        guard array.count >= count else {
            throw keyError(key, "\(array.count) values for \(count) layers")
        }
        var flags: [Bool] = []
        for layer in 0..<count {
            guard let flag = array.bool(at: layer) else {
                throw keyError(key, "layer \(layer)'s value is neither true nor false")
            }
            flags.append(flag)
        }
        return flags
    }

    /// Names keys whose meaning the tensors of the file carry, too.
    mutating func tensorsTell(_ keys: [String]) {
        for key in keys { _ = name(key) }
    }

    /// Positions of a sliding window; nil where there is none, or it hides nothing.
    mutating func window() throws(ModelFileError) -> Int? {
        let window = try count("attention.sliding_window", 0...(1 << 24), default: 0)
        return window == 0 ? nil : window
    }

    /// The norms' epsilon, under the name that is usual for the kind or the other one.
    mutating func normEpsilon(_ kind: NormKind) throws(ModelFileError) -> Float {
        let (rms, layer) = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
        let keys = kind == .rms ? [rms] : [layer, rms]
        for key in keys {
            guard let value = try file.metadata.number(name(key)) else { continue }
            guard value >= 0, value < 1 else {
                throw keyError(key, "\(value) is not between 0 and 1")
            }
            return Float(value)
        }
        throw keyError(keys[0], "missing, or not between 0 and 1")
    }

    /// The architecture's routing, with what the file says differently.
    mutating func routing(
        _ usual: Routing, expertCount: Int
    ) throws(ModelFileError) -> Routing {
        var routing = usual
        switch try count("expert_gating_func", 0...255, default: 0) {
        case 0: break
        // Where it is the architecture's own kind in other words, its details stand.
        case 1:
            if usual.gating == .sigmoid { routing.gating = .softmax }
        case 2: routing.gating = .sigmoid
        case 3: routing.gating = .softmaxOfChosen
        case let other:
            throw keyError("expert_gating_func", "\(other) is not supported; 1, 2 and 3 are")
        }
        if let normalises = try file.metadata.bool(name("expert_weights_norm")) {
            routing.normalises = normalises
        }
        // 0 is how writers say that there is none.
        if let scale = try number("expert_weights_scale", above: -1e-30, through: 1e6), scale != 0 {
            routing.scale = Float(scale)
        }
        routing.groupCount = max(1, try count("expert_group_count", 0...expertCount, default: 1))
        routing.groupsUsed = max(
            1,
            try count(
                "expert_group_used_count", 0...routing.groupCount, default: routing.groupCount))
        guard expertCount % routing.groupCount == 0 else {
            throw keyError(
                "expert_group_count",
                "\(routing.groupCount) groups do not divide \(expertCount) experts")
        }
        return routing
    }

    /// An error about `PREFIX.key`.
    func keyError(_ key: String, _ message: String) -> ModelFileError {
        file.metadata.error("\(prefix).\(key)", message)
    }

    /// `PREFIX.key`, which is known from now on.
    private mutating func name(_ key: String) -> String {
        let full = "\(prefix).\(key)"
        readKeys.insert(full)
        return full
    }

    // MARK: Tensors

    /// Whether the file has a tensor of this name.
    func has(_ name: String) -> Bool { file.tensor(named: name) != nil }

    /// Lets the tensors of a block find no role.
    mutating func skip(block: Int) {
        for tensor in file.tensors where tensor.name.hasPrefix("blk.\(block).") {
            used.insert(tensor.name)
        }
    }

    /// The matrix `name` of `columns` columns and `rows` rows (any number where nil).
    mutating func tensor(
        _ name: String, columns: Int, rows: Int?
    ) throws(ModelFileError) -> GGUFTensor {
        let tensor = try find(name)
        guard tensor.shape.count == 2, tensor.shape[0] == columns,
            tensor.shape[1] == rows ?? tensor.shape[1]
        else {
            throw error(
                tensor,
                "shape \(tensor.shape) where [\(columns), \(rows.map(String.init) ?? "any")] is expected"
            )
        }
        return tensor
    }

    /// The vector `name` of `length` elements, stored as F32 (as every writer of GGUF does) or, in
    /// checkpoints, in half the width; it is widened when it is loaded.
    mutating func vector(_ name: String, _ length: Int) throws(ModelFileError) -> GGUFTensor {
        let tensor = try find(name)
        guard tensor.shape == [length] else {
            throw error(tensor, "shape \(tensor.shape) where [\(length)] is expected")
        }
        guard [.f32, .f16, .bf16].contains(tensor.format) else {
            throw error(
                tensor, "stored as \(tensor.format.name) where F32, F16 or BF16 is expected")
        }
        return tensor
    }

    /// The vector `name`, where there is one.
    mutating func optionalVector(
        _ name: String, _ length: Int
    ) throws(ModelFileError) -> GGUFTensor? {
        has(name) ? try vector(name, length) : nil
    }

    /// The tensor `name` of several dimensions, stored as a vector is; dimensions of 1 element may
    /// be left out or added.
    mutating func floats(_ name: String, shape: [Int]) throws(ModelFileError) -> GGUFTensor {
        let tensor = try find(name)
        guard tensor.shape.filter({ $0 != 1 }) == shape.filter({ $0 != 1 }) else {
            throw error(tensor, "shape \(tensor.shape) where \(shape) is expected")
        }
        guard [.f32, .f16, .bf16].contains(tensor.format) else {
            throw error(
                tensor, "stored as \(tensor.format.name) where F32, F16 or BF16 is expected")
        }
        return tensor
    }

    /// The matrices stacked in `name`: (columns, rows, count).
    mutating func stack(_ name: String, shape: [Int]) throws(ModelFileError) -> GGUFTensor {
        let tensor = try find(name)
        guard tensor.shape == shape else {
            throw error(tensor, "shape \(tensor.shape) where \(shape) is expected")
        }
        return tensor
    }

    /// The norm `name`, with a bias where its kind has one.
    mutating func norm(
        _ name: String, _ length: Int, _ kind: NormKind
    ) throws(ModelFileError) -> Norm {
        Norm(
            weight: try vector("\(name).weight", length),
            bias: kind == .rms ? nil : try vector("\(name).bias", length))
    }

    /// The matrix `name`, with a bias where the file has one.
    mutating func projection(
        _ name: String, columns: Int, rows: Int
    ) throws(ModelFileError) -> Projection {
        Projection(
            weight: try tensor("\(name).weight", columns: columns, rows: rows),
            bias: try optionalVector("\(name).bias", rows))
    }

    /// Divisors of the rotary angles: for contexts as long as the trained one, and for longer ones.
    mutating func rotaryDivisors(
        pairs: Int
    ) throws(ModelFileError) -> (usual: GGUFTensor?, long: GGUFTensor?) {
        guard has("rope_factors_long.weight") || has("rope_factors_short.weight") else {
            return (try optionalVector("rope_freqs.weight", pairs), nil)
        }
        return (
            try vector("rope_factors_short.weight", pairs),
            try vector("rope_factors_long.weight", pairs)
        )
    }

    /// Gate, up and down matrices of the experts of `block`.
    ///
    /// - Parameter layer: among those with experts.
    mutating func experts(
        layer: Int, block: Int, embeddingLength: Int, expertCount: Int, expertWidth: Int?
    ) throws(ModelFileError) -> [ExpertPart] {
        if let package = file.package {
            return try experts(
                of: package, layer: layer, block: block, embeddingLength: embeddingLength,
                expertCount: expertCount, expertWidth: expertWidth)
        }
        var parts: [ExpertPart] = []
        var width = expertWidth
        for role in ["gate", "up", "down"] {
            let name = "blk.\(block).ffn_\(role)"
            let stacked = "\(name)_exps.weight"
            let tensors: [GGUFTensor]
            if has(stacked) {
                tensors = [try find(stacked)]
            } else if has("\(name).0.weight") {
                var each: [GGUFTensor] = []
                for expert in 0..<expertCount { each.append(try find("\(name).\(expert).weight")) }
                tensors = each
            } else if has("\(name).weight"), expertCount == 1 {
                tensors = [try find("\(name).weight")]
            } else {
                throw ModelFileError(
                    path: file.paths[0], field: "tensor \(stacked)", offset: nil,
                    message: "missing; the layer's other tensors ask for it")
            }
            for tensor in tensors {
                let wantsThree = tensors.count == 1 && tensor.name == stacked
                guard tensor.shape.count == (wantsThree ? 3 : 2),
                    !wantsThree || tensor.shape[2] == expertCount
                else {
                    throw error(
                        tensor, "shape \(tensor.shape) does not hold \(expertCount) experts")
                }
                let rows = role == "down" ? embeddingLength : width ?? tensor.shape[1]
                let columns = role == "down" ? width ?? 0 : embeddingLength
                guard tensor.shape[0] == columns, tensor.shape[1] == rows else {
                    throw error(
                        tensor, "shape \(tensor.shape) where [\(columns), \(rows), ...] is expected"
                    )
                }
                guard tensor.format == tensors[0].format else {
                    throw error(tensor, "experts of one layer are stored in different formats")
                }
                width = role == "down" ? width : rows
            }
            parts.append(
                .init(
                    format: tensors[0].format, rows: tensors[0].shape[1],
                    columns: tensors[0].shape[0],
                    tensors: tensors))
        }
        return parts
    }

    /// The matrices of the experts of a package's layer `layer`, all their planes being as large as
    /// their widths ask for.
    private func experts(
        of package: Package, layer: Int, block: Int, embeddingLength: Int, expertCount: Int,
        expertWidth: Int?
    ) throws(ModelFileError) -> [ExpertPart] {
        func failure(_ message: String) -> ModelFileError {
            ModelFileError(
                path: package.path, field: "manifest layers[\(layer)]", message: message)
        }
        guard layer < package.layerCount, package.manifest.layers[layer].block == block else {
            throw failure("missing, or not of block \(block), which has experts")
        }
        guard package.expertCount == expertCount else {
            throw failure("\(package.expertCount) experts, but \(expertCount) in the metadata")
        }
        let shape = package.manifest.layers[layer]
        let width = expertWidth ?? shape.parts[0].rows
        var parts: [ExpertPart] = []
        for (index, part) in shape.parts.enumerated() {
            let (rows, columns) =
                part.role == "down" ? (embeddingLength, width) : (width, embeddingLength)
            guard part.rows == rows, part.columns == columns else {
                throw failure(
                    "\(part.role) has \(part.rows) rows of \(part.columns), expected \(rows) of \(columns)"
                )
            }
            // The package's reader knows every format that it lets through.
            func known(_ name: String) -> BlockFormat? {
                BlockFormat.allCases.first { $0.name == name }
            }
            guard let format = known(part.format) else {
                throw failure("\(part.role) is stored as '\(part.format)', which is not supported")
            }
            var nested: NestedFormat?
            if let bits = part.bits {
                nested = PlaneWidths(package.manifest.planes).flatMap {
                    NestedFormat(format: format, widths: $0)
                }
                guard let nested, nested.bits == bits else {
                    throw failure(
                        "\(part.role) in \(format.name) has planes of \(bits) bits, which '\(package.manifest.planes)' "
                            + "does not make of it")
                }
                for (plane, stored) in shape.planes.enumerated() {
                    let expected =
                        plane < bits.count
                        ? nested.partBytes(plane, rows: rows, columns: columns) : 0
                    guard stored.parts[index].bytes == expected else {
                        throw failure(
                            "\(part.role) has \(stored.parts[index].bytes) bytes in plane \(plane), "
                                + "expected \(expected)")
                    }
                }
            }
            parts.append(
                .init(
                    format: format, rows: rows, columns: columns, tensors: [], nested: nested,
                    lowFormat: part.lowFormat.flatMap(known)))
        }
        return parts
    }

    // MARK: Rotary position embedding

    /// The rotary embedding the file asks for.
    ///
    /// - Parameter roundsRamp: of YaRN, where the file does not say.
    mutating func rotary(
        headSize: Int, contextLength: Int, roundsRamp: Bool
    ) throws(ModelFileError) -> RotaryEmbedding {
        let dimensionCount = try count("rope.dimension_count", 2...headSize, default: headSize)
        guard dimensionCount % 2 == 0 else {
            throw keyError("rope.dimension_count", "\(dimensionCount) is odd")
        }
        let base = try number("rope.freq_base", above: 1, through: 1e12) ?? 10_000
        var rotary = RotaryEmbedding(
            dimensionCount: dimensionCount, base: base,
            scaling: try rotaryScaling(contextLength: contextLength))
        rotary.roundsRamp = try bool("sluice.rope.rounds_ramp") ?? roundsRamp
        return rotary
    }

    private mutating func rotaryScaling(
        contextLength: Int
    ) throws(ModelFileError) -> RotaryEmbedding.Scaling {
        // The files of some families say it by their tables of divisors alone.
        let usual = has("rope_factors_long.weight") ? "longrope" : "none"
        let type = try file.metadata.string(name("rope.scaling.type")) ?? usual
        let trained = try count(
            "rope.scaling.original_context_length", 1...(1 << 24), default: contextLength)
        switch type {
        case "none":
            return .none
        case "linear":
            return .linear(factor: try rotaryFactor())
        case "yarn":
            let factor = try rotaryFactor()
            var yarn = RotaryEmbedding.YaRN(factor: factor, trainedContext: trained)
            yarn.magnitude = try yarnMagnitude(factor: factor, plain: yarn.magnitude)
            yarn.fastTurns =
                try number("rope.scaling.yarn_beta_fast", above: 0, through: 1e6) ?? yarn.fastTurns
            yarn.slowTurns =
                try number("rope.scaling.yarn_beta_slow", above: 0, through: 1e6) ?? yarn.slowTurns
            return .yarn(yarn)
        case "longrope":
            return .long(
                magnitude: try number("rope.scaling.attn_factor", above: 0, through: 1e6) ?? 1,
                trainedContext: trained)
        default:
            throw keyError(
                "rope.scaling.type",
                "'\(type)' is not supported; none, linear, yarn and longrope are")
        }
    }

    private mutating func rotaryFactor() throws(ModelFileError) -> Double {
        guard let factor = try number("rope.scaling.factor", above: 0, through: 1e6) else {
            throw keyError("rope.scaling.factor", "missing")
        }
        return factor
    }

    /// The factor on cosine and sine under YaRN: `plain`, and what the file multiplies it with.
    mutating func yarnMagnitude(
        factor: Double, plain: Double
    ) throws(ModelFileError) -> Double {
        plain * (try number("rope.scaling.yarn_attn_factor", above: 0, through: 1e6) ?? 1)
    }

    // MARK: Refusals

    /// Throws if a key asks for arithmetic that no one has asked about. Ignoring it would give wrong
    /// answers.
    func refuseUnsupportedKeys(contextLength: Int) throws(ModelFileError) {
        // Each with the value that changes nothing.
        let neutral: [(String, Double)] = [
            ("expert_gating_func", 1), ("expert_weights_scale", 1), ("expert_group_count", 1),
            ("attention.clamp_kqv", 0), ("attention.scale", 0), ("attention.sliding_window", 0),
            ("attn_logit_softcapping", 0), ("final_logit_softcapping", 0), ("logit_scale", 1),
            ("residual_scale", 1), ("embedding_scale", 1), ("interleave_moe_layer_step", 1),
            ("attention.causal", 1), ("attention.max_alibi_bias", 0),
        ]
        for (key, harmless) in neutral {
            let full = "\(prefix).\(key)"
            guard !readKeys.contains(full), let value = try? file.metadata.number(full),
                value != harmless
            else { continue }
            // A window as long as the context hides nothing.
            if key == "attention.sliding_window", value >= Double(contextLength) { continue }
            throw file.metadata.error(full, "\(value) asks for arithmetic that is not supported")
        }
    }

    /// Throws if the file holds a tensor that no role asked for.
    func refuseUnusedTensors() throws(ModelFileError) {
        for tensor in file.tensors where !used.contains(tensor.name) {
            throw error(
                tensor,
                "not part of a \(prefix) model as Sluice knows it; ignoring it would give wrong answers"
            )
        }
    }

    func error(_ tensor: GGUFTensor, _ message: String) -> ModelFileError {
        ModelFileError(
            path: file.paths[tensor.fileIndex], field: "tensor \(tensor.name)",
            offset: tensor.fileOffset, message: message)
    }

    private mutating func find(_ name: String) throws(ModelFileError) -> GGUFTensor {
        guard let tensor = file.tensor(named: name) else {
            throw ModelFileError(
                path: file.paths[0], field: "tensor \(name)", offset: nil,
                message: "missing; every \(prefix) model needs it")
        }
        used.insert(name)
        return tensor
    }
}
