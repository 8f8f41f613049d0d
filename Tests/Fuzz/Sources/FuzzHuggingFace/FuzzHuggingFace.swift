// Files of a model directory of any bytes, each in turn beside sound ones: an error in one line, or a model whose
// tensors lie in their files and whose tokenizer tokenizes.

import Glibc
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

/// A sound model, read once.
private let sound: [String: [UInt8]] = {
    let folder =
        #filePath.split(separator: "/").dropLast(4).reduce(into: "") { $0 += "/" + $1 }
        + "/Fixtures/huggingface/"
    return [
        "config.json": read(folder + "tokenizers/config.json"),
        "model.safetensors": read(folder + "tokenizers/model.safetensors"),
        "tokenizer.json": read(folder + "tokenizers/sentencepiece-prepend.json"),
    ]
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

private func read(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "rb") else { fatalError("\(path) is missing") }
    defer { fclose(file) }
    return [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in
        count = fread(buffer.baseAddress!, 1, buffer.count, file)
    }
}
