/// The tokens that begin and end texts, and whether they are added: scattered over
/// `tokenizer_config.json`, the post-processor of `tokenizer.json`, `config.json` and
/// `generation_config.json`.
///
/// Which counts is the order of the gguf package's `SpecialVocab`; what `generation_config.json`
/// names besides goes to the ends of turn and message.
struct HuggingFaceSpecialTokens {
    private var beginning: Int?
    private var end: Int?
    private var unknown: Int?
    private var padding: Int?
    /// Further tokens that end a generation.
    private var furtherEnds: [Int] = []
    private var addsBeginning = false
    private var addsEnd = false

    init(
        _ directory: HuggingFaceDirectory, _ configuration: HuggingFaceConfiguration,
        _ document: HuggingFaceTokenizerDocument
    ) throws(ModelFileError) {
        let settings = try directory.object("tokenizer_config.json")
        func id(_ name: String) throws(ModelFileError) -> Int? {
            if let token = settings?["\(name)_token"],
                let content = token.string ?? token["content"]?.string,
                let id = document.addedID(content)
            {
                return id
            }
            return try configuration.tokenIDs("\(name)_token_id").first
        }
        beginning = try id("bos")
        end = try id("eos")
        unknown = try id("unk") ?? document.unknownToken.flatMap { document.addedID($0) }
        padding = try id("pad")

        var ends = try configuration.tokenIDs("eos_token_id")
        if let generation = try directory.object("generation_config.json") {
            ends += try HuggingFaceConfiguration.tokenIDs(
                generation, "eos_token_id", below: configuration.vocabularyCount)
        }
        if end == nil { end = ends.first }
        for id in ends where id != end && !furtherEnds.contains(id) { furtherEnds.append(id) }

        try readTemplates(document)
        addsBeginning = try settings?.bool("add_bos_token") ?? addsBeginning
        addsEnd = try settings?.bool("add_eos_token") ?? addsEnd
    }

    func write(to writer: inout GGUFMetadataWriter) {
        let ids = [
            ("bos", beginning), ("eos", end), ("unknown", unknown), ("padding", padding),
            ("eot", furtherEnds.first), ("eom", furtherEnds.dropFirst().first),
        ]
        for (name, id) in ids {
            if let id { writer.add("tokenizer.ggml.\(name)_token_id", UInt32(id)) }
        }
        writer.add("tokenizer.ggml.add_bos_token", addsBeginning && beginning != nil)
        writer.add("tokenizer.ggml.add_eos_token", addsEnd && end != nil)
    }

    /// Reads what the templates of the post-processor put around a text.
    private mutating func readTemplates(
        _ document: HuggingFaceTokenizerDocument
    ) throws(ModelFileError) {
        guard let processor = document.postProcessor else { return }
        for step in processor["processors"]?.elements ?? [processor] {
            guard step["type"]?.string == "TemplateProcessing" else { continue }
            let pieces = step["single"]?.elements ?? []
            guard let text = pieces.firstIndex(where: { $0["Sequence"] != nil }) else {
                throw refusal(step, document)
            }
            if let id = try only(pieces[..<text], step, document) {
                beginning = beginning ?? id
                guard beginning == id else { throw refusal(step, document) }
                addsBeginning = true
            }
            if let id = try only(pieces[(text + 1)...], step, document) {
                // The text ends with another token than the settings say: that one ends a turn
                // then.
                if let end, end != id { furtherEnds.insert(end, at: 0) }
                end = id
                addsEnd = true
            }
        }
    }

    /// The only special token of `pieces`, nil where there is none.
    private func only(
        _ pieces: ArraySlice<JSONValue>, _ step: JSONValue, _ document: HuggingFaceTokenizerDocument
    ) throws(ModelFileError) -> Int? {
        guard let piece = pieces.first else { return nil }
        guard pieces.count == 1, let content = piece["SpecialToken"]?["id"]?.string,
            let id = document.addedID(content)
        else { throw refusal(step, document) }
        return id
    }

    private func refusal(
        _ step: JSONValue, _ document: HuggingFaceTokenizerDocument
    ) -> ModelFileError {
        document.error(
            "post_processor", step.offset,
            "expected at most the beginning-of-sequence token before a text and one token after it, "
                + "found \(step["single"]?.text ?? "nothing")")
    }
}
