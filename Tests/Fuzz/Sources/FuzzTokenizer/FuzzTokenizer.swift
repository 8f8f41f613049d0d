// Files of any bytes with a tokenizer in them, and texts of any bytes: an error, or tokens of the
// vocabulary.

import ModelFormats
import Tokenization

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    do throws(ModelFileError) {
        let tokenizer = try Tokenizer(metadata: GGUFFile(bytes: bytes).metadata)
        // The file's own end holds its tokens' or merges' texts, so some of them occur.
        for text in [
            Array(bytes.suffix(300)), Array("Hello, we'LL  see\r\n 1234 漢字<|im_end|>".utf8),
        ] {
            for parse in [false, true] {
                let ids = tokenizer.encode(text, addSpecial: true, parseSpecial: parse)
                precondition(ids.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularyCount })
                _ = tokenizer.decode(ids, renderSpecial: true)
            }
        }
        precondition(
            tokenizer.endOfGeneration.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularyCount })
    } catch {
        precondition(!error.description.utf8.contains { $0 < 32 })
    }
    return 0
}
