/// The tokens of a model as a trie of their bytes: one walk over it finds all tokens that may come next.
///
/// Nodes lie in the order of the walk, each with the distance to the node after its subtree:
///
///     "a" ─ "b" ─ "c"      a  skip 4      what cannot follow "ab" is skipped at once,
///             └─ "d"       b  skip 4      "abc" and "abd" with it
///     "e"                  c  skip 3
///                          d  skip 4
///                          e  skip 5
///
/// Built once per model and shared; 152,000 tokens take about 7 MB.
public struct ConstraintVocabulary: Sendable {
    struct Node: Sendable {
        /// The node after everything that begins like this one.
        var skip: Int32
        /// Where the tokens that end here begin in `ids`, and how many they are.
        var first: Int32
        var count: UInt16
        /// Bytes from the root.
        var depth: UInt16
        var byte: UInt8
    }

    let nodes: [Node]
    /// Tokens in the order of their bytes.
    let ids: [Int32]
    let greatestDepth: Int
    public let tokenCount: Int
    /// The bytes of each token.
    let tokens: [[UInt8]]
    /// Control tokens that have a text, and can so stand for it where a constraint says that they may.
    let named: [Int32]
    let endOfGeneration: [Int32]
    /// Bytes that are a token by themselves.
    let spellable: ByteSet

    /// - Parameters:
    ///   - tokens: the bytes of each token, by number. One without bytes is never offered.
    ///   - special: control tokens. They are offered only where a literal of a `ConstraintPart` or free text
    ///     has their text, never inside a value.
    ///   - endOfGeneration: tokens offered when the text is complete, and at no other time.
    public init(tokens: [[UInt8]], special: Set<Int32>, endOfGeneration: Set<Int32>) {
        self.tokens = tokens
        tokenCount = tokens.count
        self.endOfGeneration = endOfGeneration.filter { $0 >= 0 && $0 < tokens.count }.sorted()
        named = special.filter {
            $0 >= 0 && $0 < tokens.count && !tokens[Int($0)].isEmpty
                && !endOfGeneration.contains($0)
        }.sorted()
        let ordinary = tokens.indices.filter {
            (1...Limits.tokenBytes).contains(tokens[$0].count) && !special.contains(Int32($0))
                && !endOfGeneration.contains(Int32($0))
        }
        let ids = ordinary.map { Int32($0) }.sorted { one, other in
            tokens[Int(one)].lexicographicallyPrecedes(tokens[Int(other)])
        }
        var nodes: [Node] = []
        var open: [Int] = []
        var spellable = ByteSet()
        var depth = 0
        for (position, id) in ids.enumerated() {
            let bytes = tokens[Int(id)]
            if bytes.count == 1 { spellable.insert(bytes[0]) }
            depth = max(depth, bytes.count)
            // Back to what this token shares with the one before.
            var shared = 0
            while shared < min(open.count, bytes.count), nodes[open[shared]].byte == bytes[shared] {
                shared += 1
            }
            while open.count > shared { nodes[open.removeLast()].skip = Int32(nodes.count) }
            for index in shared..<bytes.count {
                open.append(nodes.count)
                nodes.append(
                    Node(
                        skip: 0, first: Int32(position), count: 0, depth: UInt16(index + 1),
                        byte: bytes[index]))
            }
            // Beyond that count, the same bytes again would be a broken vocabulary.
            if nodes[open[open.count - 1]].count == 0 {
                nodes[open[open.count - 1]].first = Int32(position)
            }
            if nodes[open[open.count - 1]].count < .max { nodes[open[open.count - 1]].count += 1 }
        }
        while let last = open.popLast() { nodes[last].skip = Int32(nodes.count) }
        self.nodes = nodes
        self.ids = ids
        self.spellable = spellable
        greatestDepth = depth
    }

    /// Words of a mask: one bit per token.
    public var maskWordCount: Int { (tokenCount + 63) / 64 }

    /// The fewest ordinary tokens that spell the text; nil where none do.
    func split(_ text: [UInt8]) -> [Int32]? {
        // best[i]: the fewest tokens for the bytes from i on, and the first of them.
        var best: [(count: Int, id: Int32, length: Int)?] = Array(
            repeating: nil, count: text.count + 1)
        best[text.count] = (0, -1, 0)
        for start in stride(from: text.count - 1, through: 0, by: -1) {
            var node = 0
            var end = nodes.count
            var position = start
            while node < end, position < text.count {
                let it = nodes[node]
                guard it.byte == text[position] else {
                    node = Int(it.skip)
                    continue
                }
                position += 1
                if it.count > 0, let rest = best[position],
                    rest.count + 1 < best[start]?.count ?? .max
                {
                    best[start] = (rest.count + 1, ids[Int(it.first)], position - start)
                }
                node += 1
                end = Int(it.skip)
            }
        }
        guard best[0] != nil else { return nil }
        var result: [Int32] = []
        var position = 0
        while position < text.count, let step = best[position] {
            result.append(step.id)
            position += step.length
        }
        return result
    }
}
