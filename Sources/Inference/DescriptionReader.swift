import ModelFormats
import Quantization

/// Fetches keys and tensors for `ModelDescription`, checks their ranges and shapes, and remembers
/// which tensors found a role: one that did not (a bias, an extra head) would make the answers
/// wrong, unseen.
struct DescriptionReader {
    let file: ModelFile
    var prefix = ""
    private var used: Set<String> = []

    init(file: ModelFile) { self.file = file }

    /// The integer `PREFIX.key` within `range`; `default` where it is absent.
    func count(
        _ key: String, _ range: ClosedRange<Int>, default fallback: Int? = nil
    ) throws(ModelFileError) -> Int {
        let full = "\(prefix).\(key)"
        guard let value = try file.metadata.integer(full) ?? fallback else {
            throw file.metadata.error(full, "missing; every \(prefix) model needs it")
        }
        guard range.contains(value) else {
            throw file.metadata.error(
                full, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
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

    /// Gate, up and down matrices of the experts of `block`.
    mutating func experts(
        layer: Int, block: String, embeddingLength: Int, expertCount: Int, expertWidth: Int?
    ) throws(ModelFileError) -> [ModelDescription.ExpertPart] {
        if let package = file.package {
            return try experts(
                of: package, layer: layer, embeddingLength: embeddingLength,
                expertCount: expertCount, expertWidth: expertWidth)
        }
        var parts: [ModelDescription.ExpertPart] = []
        var width = expertWidth
        for role in ["gate", "up", "down"] {
            let stacked = "\(block).ffn_\(role)_exps.weight"
            let tensors: [GGUFTensor]
            if file.tensor(named: stacked) != nil {
                tensors = [try find(stacked)]
            } else if file.tensor(named: "\(block).ffn_\(role).0.weight") != nil {
                var each: [GGUFTensor] = []
                for expert in 0..<expertCount {
                    each.append(try find("\(block).ffn_\(role).\(expert).weight"))
                }
                tensors = each
            } else {
                throw ModelFileError(
                    path: file.paths[0], field: stacked, offset: nil,
                    message: "missing; layers without experts are not supported")
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
        of package: Package, layer: Int, embeddingLength: Int, expertCount: Int, expertWidth: Int?
    ) throws(ModelFileError) -> [ModelDescription.ExpertPart] {
        func failure(_ message: String) -> ModelFileError {
            ModelFileError(
                path: package.path, field: "manifest layers[\(layer)]", message: message)
        }
        guard layer < package.layerCount, package.manifest.layers[layer].block == layer else {
            throw failure("missing; layers without experts are not supported")
        }
        guard package.expertCount == expertCount else {
            throw failure("\(package.expertCount) experts, but \(expertCount) in the metadata")
        }
        let shape = package.manifest.layers[layer]
        let width = expertWidth ?? shape.parts[0].rows
        var parts: [ModelDescription.ExpertPart] = []
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

    /// The rotary embedding the file asks for.
    func rotary(headSize: Int, contextLength: Int) throws(ModelFileError) -> RotaryEmbedding {
        let metadata = file.metadata
        let dimensionCount = try count("rope.dimension_count", 2...headSize, default: headSize)
        guard dimensionCount % 2 == 0 else {
            throw metadata.error("\(prefix).rope.dimension_count", "\(dimensionCount) is odd")
        }
        let base = try metadata.number("\(prefix).rope.freq_base") ?? 10_000
        guard base > 1, base < 1e12 else {
            throw metadata.error("\(prefix).rope.freq_base", "\(base) is not between 1 and 1e12")
        }
        let typeKey = "\(prefix).rope.scaling.type"
        let scaling: RotaryEmbedding.Scaling
        let type = try metadata.string(typeKey) ?? "none"
        if type == "none" {
            scaling = .none
        } else {
            let factorKey = "\(prefix).rope.scaling.factor"
            guard let factor = try metadata.number(factorKey), factor > 0, factor < 1e6 else {
                throw metadata.error(factorKey, "missing, or not between 0 and 1e6")
            }
            switch type {
            case "linear": scaling = .linear(factor: factor)
            case "yarn":
                scaling = .yarn(
                    factor: factor,
                    trainedContext: try count(
                        "rope.scaling.original_context_length", 1...(1 << 24),
                        default: contextLength))
            default:
                throw metadata.error(
                    typeKey, "'\(type)' is not supported; none, linear and yarn are")
            }
        }
        return RotaryEmbedding(dimensionCount: dimensionCount, base: base, scaling: scaling)
    }

    /// Throws if a key asks for arithmetic that is not done here. Ignoring it would give wrong
    /// answers.
    func refuseUnsupportedKeys() throws(ModelFileError) {
        // Each with the value that changes nothing.
        let neutral: [(String, Double)] = [
            ("expert_gating_func", 1), ("expert_weights_scale", 1), ("expert_group_count", 1),
            ("expert_shared_count", 0), ("attention.clamp_kqv", 0), ("attention.scale", 0),
            ("attn_logit_softcapping", 0), ("final_logit_softcapping", 0), ("logit_scale", 1),
            ("residual_scale", 1), ("embedding_scale", 1), ("interleave_moe_layer_step", 1),
        ]
        for (key, harmless) in neutral {
            let full = "\(prefix).\(key)"
            guard let value = try file.metadata.number(full), value != harmless else { continue }
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
                message: "missing; every \(prefix) model with experts needs it")
        }
        used.insert(name)
        return tensor
    }
}
