// The file for what is rewritten: when it is written, where, how long it is there, and what happens
// where there is no room.

import Glibc
import ModelFormats
import Testing

@Suite struct DerivedFileTests {
    /// A checkpoint whose queries and keys are rewritten.
    private static func checkpoint() -> CheckpointBuilder {
        var builder = HuggingFaceLayoutTests.begun(
            "GraniteMoeForCausalLM", HuggingFaceLayoutTests.experts)
        let layer = "model.layers.0.block_sparse_moe."
        builder.add("\(layer)router.layer.weight", [3, 8])
        builder.add("\(layer)input_linear.weight", [3, 12, 8])
        builder.add("\(layer)output_linear.weight", [3, 8, 6])
        return builder
    }

    private func write(_ files: [String: [UInt8]], to directory: String) throws {
        for (name, bytes) in files { try writeFile("\(directory)/\(name)", bytes) }
    }

    private func entries(_ path: String) -> Int {
        guard let directory = unsafe opendir(path) else { return -1 }
        defer { unsafe closedir(directory) }
        var count = 0
        while unsafe readdir(directory) != nil { count += 1 }
        return count - 2
    }

    @Test func itHasNoNameAndLastsAsLongAsTheModel() throws {
        let source = try TemporaryDirectory()
        let folder = try TemporaryDirectory()
        let builder = Self.checkpoint()
        try write(builder.files, to: source.path)
        let inMemory = try HuggingFaceModel(files: builder.files)
        var path = ""
        var status = stat()
        do {
            let model = try HuggingFaceModel(
                directory: source.path, temporaryFolder: folder.path)
            #expect(entries(folder.path) == 0)
            path = try #require(model.paths.last)
            #expect(model.paths.count == 2 && path.hasPrefix("/proc/self/fd/"))
            for (tensor, twin) in zip(model.tensors, inMemory.tensors) {
                #expect(tensor.name == twin.name && tensor.fileOffset == twin.fileOffset)
                #expect(try model.bytes(of: tensor) == inMemory.bytes(of: twin))
            }
            #expect(unsafe stat(path, &status) == 0 && status.st_nlink == 0)
            // As whoever reads weights does.
            let file = ModelFile(model)
            let query = try #require(file.tensor(named: "blk.0.attn_q.weight"))
            #expect(query.fileIndex == 1)
            let whole = try readFile(file.paths[1])
            #expect(UInt64(whole.count) == file.fileSizes[1])
            #expect(
                try whole[Int(query.fileOffset)...].prefix(query.byteCount)
                    .elementsEqual(model.bytes(of: query)))
        }
        // Its number may be another file's by now.
        var now = stat()
        #expect(unsafe stat(path, &now) != 0 || now.st_ino != status.st_ino)
    }

    @Test func itIsWrittenWhenItIsWanted() throws {
        let source = try TemporaryDirectory()
        try write(Self.checkpoint().files, to: source.path)
        let written = try ModelFile(path: source.path)
        let file = try ModelFile(path: source.path, writesDerived: false)
        let sound = try readFile(written.paths[1])
        #expect(file.fileSizes == written.fileSizes)
        #expect(try readFile(file.paths[1]) == [UInt8](repeating: 0, count: sound.count))
        try file.writeDerived()
        #expect(try readFile(file.paths[1]) == sound)
        // Only once, whatever happens to the sources.
        try writeFile("\(source.path)/model.safetensors", [])
        try file.writeDerived()
        #expect(try readFile(file.paths[1]) == sound)
        // A GGUF file has nothing to write.
        try ModelFile(path: Fixture.path("types.gguf")).writeDerived()
    }

    @Test func sourcesThatChangeMeanwhileAreAnError() throws {
        let source = try TemporaryDirectory()
        try write(Self.checkpoint().files, to: source.path)
        let file = try ModelFile(path: source.path, writesDerived: false)
        try writeFile("\(source.path)/model.safetensors", [1, 2, 3])
        #expect {
            try file.writeDerived()
        } throws: { error in
            "\(error)".contains("model.safetensors") && "\(error)".contains("shortened")
        }
    }

    /// Weights of zeros that take no room on the disk, `rows` x `hidden` of them in queries.
    private func sparse(rows: Int, hidden: Int, in directory: String) throws {
        let heads = rows / 128
        var builder = CheckpointBuilder(
            "GraniteMoeForCausalLM",
            HuggingFaceLayoutTests.members.merging([
                "hidden_size": "\(hidden)", "head_dim": "128", "num_attention_heads": "\(heads)",
                "num_local_experts": "1", "num_experts_per_tok": "1", "vocab_size": "1",
            ]) { _, new in new })
        var end = 0
        var entries: [String] = []
        let layer = "model.layers.0."
        for (name, shape) in [
            ("model.embed_tokens", [1, hidden]), ("model.norm", [hidden]),
            ("\(layer)input_layernorm", [hidden]), ("\(layer)post_attention_layernorm", [hidden]),
            ("\(layer)self_attn.q_proj", [rows, hidden]),
            ("\(layer)self_attn.k_proj", [128, hidden]),
            ("\(layer)self_attn.v_proj", [128, hidden]),
            ("\(layer)self_attn.o_proj", [hidden, rows]),
            ("\(layer)block_sparse_moe.router", [1, hidden]),
            ("\(layer)block_sparse_moe.input_linear", [1, 12, hidden]),
            ("\(layer)block_sparse_moe.output_linear", [1, hidden, 6]),
        ] {
            let bytes = shape.reduce(2, *)
            entries.append(
                #""\#(name).weight":{"dtype":"BF16","shape":\#(shape),"data_offsets":[\#(end),\#(end + bytes)]}"#
            )
            end += bytes
        }
        builder.config["shared_intermediate_size"] = "0"
        let header = SafetensorsBuilder("{\(entries.joined(separator: ","))}").bytes
        try writeFile("\(directory)/config.json", Array(builder.configuration.utf8))
        try writeFile("\(directory)/model.safetensors", header)
        try #require(unsafe truncate("\(directory)/model.safetensors", header.count + end) == 0)
    }

    @Test func muchIsAnnounced() throws {
        let source = try TemporaryDirectory()
        try sparse(rows: 8192, hidden: 4096, in: source.path)
        var lines: [String] = []
        let model = try HuggingFaceModel(
            directory: source.path, temporaryFolder: source.path, report: { lines.append($0) })
        #expect(lines.count == 1 && !lines[0].contains("\n"))
        #expect(lines.first?.contains("68.2 MB") == true, "\(lines)")
        #expect(lines.first?.contains(source.path) == true)
        let query = try #require(model.tensors.first { $0.name == "blk.0.attn_q.weight" })
        #expect(query.byteCount == 64 << 20)
    }

    @Test func withoutRoomItIsRefusedInOneLine() throws {
        let source = try TemporaryDirectory()
        // 1 TB of queries.
        try sparse(rows: 1 << 19, hidden: 1 << 20, in: source.path)
        let file = try ModelFile(path: source.path, writesDerived: false)
        #expect(file.fileSizes.count == 2)
        #expect {
            try file.writeDerived()
        } throws: { error in
            let text = "\(error)"
            return text.contains("no room for 1.1 TB") && text.contains("are free")
                && text.contains("set TMPDIR") && !text.contains("\n")
        }
        #expect {
            _ = try HuggingFaceModel(
                directory: source.path, temporaryFolder: "/nonexistent/folder")
        } throws: { error in
            let text = "\(error)"
            return text.hasPrefix("/nonexistent/folder: no file can be made here")
                && text.contains("set TMPDIR")
        }
    }
}
