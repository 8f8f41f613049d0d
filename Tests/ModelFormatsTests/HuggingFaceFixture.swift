// Checkpoints as transformers saves them; tools/make_huggingface_fixtures.py makes them.

import Glibc
import ModelFormats

enum HuggingFaceFixture {
    static let directory =
        Fixture.directory.split(separator: "/").dropLast().reduce(into: "") { $0 += "/" + $1 }
        + "/huggingface"

    static let models = ["qwen3moe-f32", "qwen3moe-yarn-f16", "olmoe-bf16", "mixtral-f32"]

    static func path(_ name: String) -> String { "\(directory)/models/\(name)" }

    private static let parts = [
        "config.json", "generation_config.json", "model.safetensors",
        "model.safetensors.index.json", "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]

    /// The files of a checkpoint, by name.
    static func files(_ name: String) throws -> [String: [UInt8]] {
        var files: [String: [UInt8]] = [:]
        for part in parts where unsafe access("\(path(name))/\(part)", F_OK) == 0 {
            files[part] = try readFile("\(path(name))/\(part)")
        }
        return files
    }
}

extension [String: [UInt8]] {
    /// The same files, with `text` in place of every occurrence of `old` in the file called `name`.
    func replacing(_ old: String, with text: String, in name: String) -> Self {
        var files = self
        files[name] = (files[name] ?? []).replacing(Array(old.utf8), with: Array(text.utf8))
        precondition(files[name] != self[name], "'\(old)' is not in \(name)")
        return files
    }

    /// The same files, with a member more at the start of the JSON object in the file called `name`.
    func adding(_ member: String, to name: String) -> Self {
        var files = self
        let rest = (files[name] ?? Array("{}".utf8)).drop { $0 != UInt8(ascii: "{") }.dropFirst()
        let isEmpty = !rest.contains(UInt8(ascii: ":"))
        files[name] = Array(("{" + member + (isEmpty ? "" : ",")).utf8) + rest
        return files
    }
}

/// Safetensors files, right or wrong as a test wants them.
struct SafetensorsBuilder {
    /// The header, as text.
    var header: String
    var data: [UInt8]
    /// What the file says the header's length is; nil for the truth.
    var statedLength: UInt64?

    init(_ header: String, data: Int = 0) {
        self.header = header
        self.data = [UInt8](repeating: 0, count: data)
    }

    var bytes: [UInt8] {
        let length = statedLength ?? UInt64(header.utf8.count)
        return (0..<8).map { UInt8(truncatingIfNeeded: length >> UInt64(8 * $0)) }
            + Array(header.utf8) + data
    }
}
