// Files of a model directory of any bytes, each in turn beside sound ones: an error in one line, or a model whose
// tensors lie in their files and whose tokenizer tokenizes.

import ModelFormats
import Tokenization

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    // What begins like JSON is every document, all else is weights.
    guard bytes.first == UInt8(ascii: "{") else {
        open(["model.safetensors": bytes])
        if let file = try? SafetensorsFile(bytes: bytes) {
            for tensor in file.tensors {
                precondition(tensor.fileOffset + UInt64(tensor.byteCount) <= UInt64(count))
            }
        }
        return 0
    }
    for name in [
        "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    ] {
        open([name: bytes])
    }
    open(["model.safetensors.index.json": bytes], without: "model.safetensors")
    return 0
}

/// A sound model, as small as can be: each input opens several. Its vocabulary has room for the tokenizers of
/// the fixtures.
private let sound: [String: [UInt8]] = {
    let rows = 1024
    let names = [
        "input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj",
        "self_attn.v_proj", "self_attn.o_proj", "block_sparse_moe.gate",
        "block_sparse_moe.experts.0.w1", "block_sparse_moe.experts.0.w2",
        "block_sparse_moe.experts.0.w3",
    ].map { "model.layers.0.\($0)" }
    var entries = [
        #""model.embed_tokens.weight":{"dtype":"F16","shape":[\#(rows),1],"data_offsets":[0,\#(2 * rows)]}"#
    ]
    for (index, name) in (names + ["model.norm"]).enumerated() {
        let first = 2 * rows + 4 * index
        entries.append(
            #""\#(name).weight":{"dtype":"F16","shape":[1,2],"data_offsets":[\#(first),\#(first + 4)]}"#
        )
    }
    let header = Array("{\(entries.joined(separator: ","))}".utf8)
    let length = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }
    let data = [UInt8](repeating: 0, count: 2 * rows + 4 * (names.count + 1))
    let config = """
        {"architectures":["MixtralForCausalLM"],"hidden_size":1,"num_hidden_layers":1,
        "num_attention_heads":1,"num_local_experts":1,"num_experts_per_tok":1,"vocab_size":\(rows),
        "max_position_embeddings":16,"rms_norm_eps":1e-5,"rope_theta":1e6,"tie_word_embeddings":true}
        """
    let tokenizer = """
        {"added_tokens":[{"id":3,"content":"<s>","special":true},{"id":4,"content":"<t>"}],
        "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
        "model":{"type":"BPE","vocab":{"l":0,"o":1,"lo":2},"merges":[["l","o"]]}}
        """
    let files = [
        "config.json": Array(config.utf8), "model.safetensors": length + header + data,
        "tokenizer.json": Array(tokenizer.utf8),
    ]
    precondition((try? HuggingFaceModel(files: files)) != nil, "the sound model is refused")
    return files
}()

private func open(_ files: [String: [UInt8]], without absent: String? = nil) {
    var all = sound.merging(files) { _, new in new }
    if let absent { all[absent] = nil }
    do throws(ModelFileError) {
        let model = try HuggingFaceModel(files: all)
        for tensor in model.tensors {
            precondition(
                tensor.fileOffset + UInt64(tensor.byteCount) <= model.fileSizes[tensor.fileIndex])
        }
        for key in model.metadata.keys { precondition(model.metadata[key] != nil) }
        let tokenizer = try Tokenizer(metadata: model.metadata)
        for id in tokenizer.encode("Hello  wörld\n123", addSpecial: true, parseSpecial: true) {
            precondition(id >= 0 && Int(id) < tokenizer.vocabularyCount)
        }
    } catch {
        precondition(!error.description.utf8.contains { $0 < 32 })
    }
}
