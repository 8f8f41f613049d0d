/// From tokens to text.
extension Tokenizer {
    /// The bytes that one token stands for, which need not be whole characters.
    ///
    /// Control tokens, and the unknown token, give nothing unless `renderSpecial`, which spells
    /// them out. Numbers outside the vocabulary give nothing.
    public func bytes(of id: Int32, renderSpecial: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        appendBytes(of: id, renderSpecial: renderSpecial, to: &bytes)
        return bytes
    }

    /// Appends the bytes that one token stands for; see `bytes(of:renderSpecial:)`.
    public func appendBytes(of id: Int32, renderSpecial: Bool, to output: inout [UInt8]) {
        guard let id = index(of: id) else { return }
        let range = vocabulary.textRange(of: id)
        switch vocabulary.types[id] {
        case .control, .unknown:
            if renderSpecial { output.append(contentsOf: vocabulary.blob[range]) }
        case .userDefined:
            output.append(contentsOf: vocabulary.blob[range])
        case .byte:
            if let byte = Self.byte(spelledBy: vocabulary.text(of: id)) { output.append(byte) }
        case .unused:
            break
        case .normal:
            switch model {
            case .bytePair: ByteAlphabet.appendBytes(of: vocabulary.blob, range, to: &output)
            case .sentencePiece: appendWithSpaces(range, to: &output)
            }
        }
    }

    /// The bytes that tokens stand for, one after the other.
    ///
    /// The space that SentencePiece puts before a text is taken away again: one before the first
    /// token that is text. What a model goes on with after a prompt should therefore be put
    /// together from `bytes(of:renderSpecial:)` instead.
    public func decode(_ ids: [Int32], renderSpecial: Bool) -> [UInt8] {
        var output: [UInt8] = []
        var removesSpace = false
        if case .sentencePiece(let model) = model { removesSpace = model.spacePrefix != .never }
        for id in ids {
            let start = output.count
            appendBytes(of: id, renderSpecial: renderSpecial, to: &output)
            guard removesSpace, let index = index(of: id) else { continue }
            switch vocabulary.types[index] {
            case .control, .unknown, .userDefined: continue
            case .normal, .byte, .unused: break
            }
            if start < output.count, output[start] == 0x20 { output.remove(at: start) }
            removesSpace = false
        }
        return output
    }

    /// Appends a SentencePiece token's text with its `▁`s as spaces.
    private func appendWithSpaces(_ range: Range<Int>, to output: inout [UInt8]) {
        var position = range.lowerBound
        while position < range.upperBound {
            if position + 2 < range.upperBound,
                vocabulary.blob[position..<position + 3].elementsEqual(SentencePieceModel.space)
            {
                output.append(0x20)
                position += 3
            } else {
                output.append(vocabulary.blob[position])
                position += 1
            }
        }
    }

    /// The byte of a spelling such as `<0x0A>`, nil when it is not one.
    private static func byte(spelledBy text: ArraySlice<UInt8>) -> UInt8? {
        let text = Array(text)
        guard text.count == 6, text.starts(with: "<0x".utf8), text[5] == UInt8(ascii: ">") else {
            return nil
        }
        return UInt8(String(decoding: text[3...4], as: UTF8.self), radix: 16)
    }
}
