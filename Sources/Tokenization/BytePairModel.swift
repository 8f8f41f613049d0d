/// Byte-level byte-pair encoding: text is cut into words, a word into bytes, and neighbours are
/// merged in the order of the merges' ranks.
struct BytePairModel: Sendable {
    let preTokenizer: PreTokenizer
    let merges: MergeTable
    /// The token of each byte; negative where the vocabulary has none. Such a byte is left out, as
    /// in llama.cpp and in the `tokenizers` package.
    let byteIDs: [Int32]

    private struct Rules: MergeRules {
        let merges: MergeTable

        @inline(__always)
        func merge(_ left: MergeSymbol, _ right: MergeSymbol) -> Merge? {
            merges.merge(left.id, right.id)
        }
    }

    /// Appends the tokens of a range of the text.
    func encode(
        _ text: ScannedText, _ range: Range<Int>, vocabulary: Vocabulary,
        workspace: inout MergeWorkspace, into ids: inout [Int32]
    ) {
        let rules = Rules(merges: merges)
        var spelling: [UInt8] = []
        var words = WordIterator(preTokenizer, range: range)
        while let word = words.next(in: text) {
            if word.count == 1 {
                let id = byteIDs[Int(text.bytes[word.lowerBound])]
                if id >= 0 { ids.append(id) }
                continue
            }
            if preTokenizer.ignoresMerges, word.count <= vocabulary.longestText {
                spelling.removeAll(keepingCapacity: true)
                for position in word {
                    ByteAlphabet.appendCharacter(of: text.bytes[position], to: &spelling)
                }
                if let id = vocabulary.plainID(of: spelling, 0..<spelling.count) {
                    ids.append(id)
                    continue
                }
            }
            workspace.symbols.removeAll(keepingCapacity: true)
            for (offset, position) in word.enumerated() {
                workspace.symbols.append(
                    MergeSymbol(
                        id: byteIDs[Int(text.bytes[position])], start: UInt32(offset),
                        end: UInt32(offset + 1)))
            }
            workspace.mergeAll(rules)
            for symbol in workspace.symbols where symbol.id >= 0 { ids.append(symbol.id) }
        }
    }
}
