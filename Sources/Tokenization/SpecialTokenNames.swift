/// Tokens that are known for what they do by their texts alone, since files leave it out or get it
/// wrong. The lists are llama.cpp's.
enum SpecialTokenNames {
    /// Ends of a text, a turn or a message.
    private static let ends = [
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
        "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
        "<｜end▁of▁sentence｜>", "[e~[",
    ]

    /// Fill-in-the-middle tokens after which nothing sensible can come.
    private static let fillEnds = [
        "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>",
        "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
    ]

    /// The other fill-in-the-middle tokens.
    private static let fills = [
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
        "<|code_prefix|>", "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>",
        "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>",
        "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
        "<|middle|>",
    ]

    /// Tokens of gpt-oss that a reader of its output needs to see.
    private static let visible = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"]

    /// Gives the named tokens the type they should have, and returns those that end a generation.
    static func apply(to vocabulary: inout Vocabulary) -> Set<Int32> {
        var found: Set<Int32> = []
        for name in ends + fillEnds {
            guard let id = vocabulary.id(of: name) else { continue }
            vocabulary.setType(.control, of: Int(id))
            found.insert(id)
        }
        for name in fills {
            if let id = vocabulary.id(of: name) { vocabulary.setType(.control, of: Int(id)) }
        }
        for name in visible {
            if let id = vocabulary.id(of: name) { vocabulary.setType(.userDefined, of: Int(id)) }
        }
        return found
    }

    /// Takes out tokens that end a generation in most models but not in this one: `<|end|>` where
    /// `<|call|>` and `<|return|>` or `<|flush|>` do (gpt-oss, Solar Open), `</s>` beside
    /// `<|tool_response>` (Gemma 4).
    static func resolveConflicts(in ends: inout Set<Int32>, _ vocabulary: inout Vocabulary) {
        func has(_ names: String...) -> Bool {
            names.contains { name in vocabulary.id(of: name).map(ends.contains) ?? false }
        }
        let calls = has("<|call|>", "<|calls|>")
        if calls, has("<|flush|>") || has("<|return|>"), let end = vocabulary.id(of: "<|end|>") {
            ends.remove(end)
            vocabulary.setType(.userDefined, of: Int(end))
        }
        if has("<|tool_response>"), let end = vocabulary.id(of: "</s>") {
            ends.remove(end)
            vocabulary.setType(.normal, of: Int(end))
        }
    }
}
