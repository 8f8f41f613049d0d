// GGUF headers of any bytes: an error, or a file whose every value can be read and whose tensors lie in it.

import ModelFormats

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    do throws(ModelFileError) {
        let file = try GGUFFile(bytes: bytes)
        for tensor in file.tensors {
            precondition(tensor.fileOffset + UInt64(tensor.byteCount) <= UInt64(count))
            precondition(file.tensor(named: tensor.name)?.fileOffset == tensor.fileOffset)
        }
        for key in file.metadata.keys {
            visit(file.metadata[key]!)
            _ = try? file.metadata.string(key)
            _ = try? file.metadata.integer(key)
            _ = try? file.metadata.number(key)
            _ = try? file.metadata.bool(key)
        }
    } catch {
        precondition(!error.description.utf8.contains { $0 < 32 })
    }
    return 0
}

/// Reads all of a value.
private func visit(_ value: GGUFValue) {
    guard case .array(let array) = value else { return }
    for index in 0..<array.count {
        _ = array.bytes(at: index)
        _ = array.integer(at: index)
        _ = array.number(at: index)
        if array.elementType == .array { visit(array[index]) }
    }
}
