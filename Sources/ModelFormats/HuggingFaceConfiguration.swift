/// The `config.json` of a model: which family it is of, and its hyper-parameters.
///
/// What asks for arithmetic that is not done here is refused by name; leaving it out would give
/// fluent nonsense. Defaults are those of the transformers package.
struct HuggingFaceConfiguration {
    let family: any HuggingFaceFamily
    let className: String
    let layerCount: Int
    let headCount: Int
    /// Heads of keys and values.
    let keyValueHeadCount: Int
    /// Elements of the residual stream.
    let hiddenSize: Int
    let contextLength: Int
    let vocabularyCount: Int
    /// Whether the token embedding serves as the head.
    let tiesEmbeddings: Bool
    /// Predictors of further tokens that may be stored behind the last layer.
    let furtherPredictors: Int
    private let object: JSONObject

    private static let fileName = "config.json"
    /// The widest of anything that has a width.
    static let widthLimit = 1 << 24

    init(_ directory: HuggingFaceDirectory) throws(ModelFileError) {
        guard let object = try directory.object(Self.fileName) else {
            throw ModelFileError(
                path: directory.path,
                message:
                    "\(Self.fileName) is missing; give a directory as Hugging Face lays it out, "
                    + "or a GGUF file")
        }
        self.object = object
        let names = try object.array("architectures") ?? []
        guard let name = names.first?.string else {
            throw object.error("architectures", "missing; it does not say what model it is")
        }
        guard names.count == 1, let family = HuggingFaceFamilies.named(name) else {
            let known = HuggingFaceFamilies.all.flatMap(\.classNames).joined(separator: ", ")
            throw object.error(
                "architectures", "'\(name)' is not supported; supported are \(known)")
        }
        self.family = family
        className = name
        layerCount = try Self.count(object, "num_hidden_layers", 1...4096)
        headCount = try Self.count(object, "num_attention_heads", 1...65_536)
        keyValueHeadCount =
            object["num_key_value_heads"] == nil
            ? headCount : try Self.count(object, "num_key_value_heads", 1...Self.widthLimit)
        hiddenSize = try Self.count(object, "hidden_size", 1...1_048_576)
        contextLength = try Self.count(object, "max_position_embeddings", 1...Self.widthLimit)
        vocabularyCount = try Self.count(object, "vocab_size", 1...1 << 24)
        let older = try object.bool("tie_embedding")
        tiesEmbeddings =
            try object.bool("tie_word_embeddings") ?? older ?? family.tiesEmbeddings
        furtherPredictors = try min(object.integer("num_nextn_predict_layers") ?? 0, 4096)
    }

    // Members

    /// Whether the member `name` is there, and not null.
    func has(_ name: String) -> Bool { object[name] != nil }

    /// The integer `name`, which must lie in `range`; `absent` where it is not there.
    func count(
        _ name: String, _ range: ClosedRange<Int> = 1...widthLimit, absent: Int? = nil
    ) throws(ModelFileError) -> Int {
        if let absent, !has(name) { return absent }
        return try Self.count(object, name, range)
    }

    /// The first of `names` that is there, as `count`: families call one thing differently.
    func count(
        _ names: [String], _ range: ClosedRange<Int> = 1...widthLimit
    ) throws(ModelFileError) -> Int {
        try Self.count(object, names.first { has($0) } ?? names[names.count - 1], range)
    }

    /// The finite number `name`; `absent` where it is not there.
    func number(_ name: String, absent: Double? = nil) throws(ModelFileError) -> Double {
        guard let value = try object.number(name) ?? absent else {
            throw object.error(name, "missing")
        }
        guard Float(value).isFinite else { throw object.error(name, "\(value) is too large") }
        return value
    }

    func bool(_ name: String, absent: Bool) throws(ModelFileError) -> Bool {
        try object.bool(name) ?? absent
    }

    func string(_ name: String) throws(ModelFileError) -> String? { try object.string(name) }

    func object(_ name: String) throws(ModelFileError) -> JSONObject? { try object.object(name) }

    func array(_ name: String) throws(ModelFileError) -> [JSONValue]? { try object.array(name) }

    /// An error about a member of the file.
    func error(_ name: String, _ message: String) -> ModelFileError {
        object.error(name, message)
    }

    /// The size of a head: `head_dim`, or what the heads share of the residual stream.
    func headSize() throws(ModelFileError) -> Int {
        if has("head_dim") { return try count("head_dim", 1...65_536) }
        guard hiddenSize % headCount == 0 else {
            throw error(
                "num_attention_heads", "\(headCount) heads cannot share \(hiddenSize) elements")
        }
        return hiddenSize / headCount
    }

    /// Token numbers under `name`, which may be one or several; those outside the vocabulary left
    /// out, as configurations come with defaults that mean nothing.
    func tokenIDs(_ name: String) throws(ModelFileError) -> [Int] {
        try Self.tokenIDs(object, name, below: vocabularyCount)
    }

    static func tokenIDs(
        _ object: JSONObject, _ name: String, below limit: Int
    ) throws(ModelFileError) -> [Int] {
        guard let value = object[name] else { return [] }
        var ids: [Int] = []
        for element in value.elements ?? [value] {
            guard let id = element.integer else {
                throw object.error(name, "expected token numbers, found \(value.text)")
            }
            if id >= 0, id < limit { ids.append(id) }
        }
        return ids
    }

    private static func count(
        _ object: JSONObject, _ name: String, _ range: ClosedRange<Int>
    ) throws(ModelFileError) -> Int {
        guard let value = try object.integer(name) else {
            throw object.error(name, "missing; this family of models needs it")
        }
        guard range.contains(value) else {
            throw object.error(
                name, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }

    // Refusals

    /// Throws unless `name` is absent or one of `values`.
    func require(_ name: String, _ values: String...) throws(ModelFileError) {
        guard let found = try object.string(name), !values.contains(found) else { return }
        throw object.error(
            name,
            "'\(found)' is not supported, only \(values.joined(separator: " and ")) "
                + (values.count == 1 ? "is" : "are"))
    }

    /// Throws unless the flag `name` is absent or `value`; `meaning` says what the other asks for.
    func require(_ name: String, _ value: Bool, _ meaning: String) throws(ModelFileError) {
        guard let found = try object.bool(name), found != value else { return }
        throw object.error(name, "\(found): \(meaning) is not supported")
    }

    /// Throws unless the number `name` is absent or `value`.
    func require(_ name: String, _ value: Double) throws(ModelFileError) {
        guard let found = try object.number(name), found != value else { return }
        throw object.error(name, "\(found) is not supported, only \(value) is")
    }

    /// The elements of `name`, one for each layer; nil where there are none.
    func perLayer(_ name: String) throws(ModelFileError) -> [JSONValue]? {
        guard let found = try object.array(name) else { return nil }
        guard found.count == layerCount else {
            throw object.error(name, "expected \(layerCount) elements, found \(found.count)")
        }
        return found
    }

    /// Throws where weights are stored in a way that is not known.
    func refuseQuantization() throws(ModelFileError) {
        guard let quantization = object["quantization_config"] else { return }
        let method = quantization["quant_method"]?.string.map { " (\($0))" } ?? ""
        throw object.error(
            "quantization_config",
            "quantised weights\(method) are not supported; use the model's F32, F16 or BF16 weights"
        )
    }

    /// Throws where not every layer sees the whole context. A window as long as that hides nothing.
    func refuseSlidingWindow() throws(ModelFileError) {
        guard try object.bool("use_sliding_window") ?? true,
            let window = try object.integer("sliding_window"), window > 0, window < contextLength
        else { return }
        throw object.error(
            "sliding_window", "attention to the last \(window) positions only is not supported")
    }

    /// The share of a head that is rotated, `partial_rotary_factor`.
    func rotatedShare(absent: Double) throws(ModelFileError) -> Double {
        let inRope = try object.object("rope_parameters")?.number("partial_rotary_factor")
        let outside = try object.number("partial_rotary_factor")
        let share = inRope ?? outside ?? absent
        guard share > 0, share <= 1 else {
            throw object.error("partial_rotary_factor", "\(share) is not between 0 and 1")
        }
        return share
    }

    /// Throws where only a part of a head is rotated.
    func refusePartialRotation() throws(ModelFileError) {
        for holder in [object, try object.object("rope_parameters")].compactMap({ $0 }) {
            if let share = try holder.number("partial_rotary_factor"), share != 1 {
                throw holder.error("partial_rotary_factor", "\(share) is not supported, only 1 is")
            }
        }
    }
}
