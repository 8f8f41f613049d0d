/// Traces that other programs record as text.
///
/// `# route_trace v1`: comments of `key=value` words (arch, n_layer, n_expert, n_expert_used;
/// per layer, layer and expert_bytes), one line naming the columns, and one line per chosen expert:
///
///     turn,phase,step,layer,slot,expert,weight,residency,bytes
///
/// JSON lines: one object per token, `{"tok": 1, "layers": [[6, 8], [7, 16]]}`. It names neither
/// the number of experts nor their size: the highest id counts, and caches are measured in experts.
enum TextTrace {
    /// Longest text read: far beyond what is recorded in an afternoon.
    static let largestBytes = 1 << 30

    static let commaSeparatedStart = Array("# route_trace v1".utf8)

    static func commaSeparated(_ bytes: [UInt8], name: String) throws(TraceError) -> RoutingTrace {
        var table = ChoiceTable(name: name)
        var scanner = TextScanner(bytes, name: name)
        while !scanner.isAtEnd {
            if scanner.take("#") {
                let text = scanner.restOfLine()
                try table.comment(text, scanner)
            } else if scanner.take("turn,") || scanner.isAtLineEnd {
                _ = scanner.restOfLine()
            } else {
                try table.row(&scanner)
            }
            scanner.nextLine()
        }
        return try table.trace()
    }

    static func jsonLines(_ bytes: [UInt8], name: String) throws(TraceError) -> RoutingTrace {
        var tokens: [(id: Int32, layers: [[UInt16]])] = []
        var scanner = TextScanner(bytes, name: name)
        scanner.skipSpace()
        while !scanner.isAtEnd {
            tokens.append(try jsonToken(&scanner))
            guard let first = tokens.first?.layers, let last = tokens.last?.layers else { break }
            guard last.count == first.count, last.allSatisfy({ $0.count == first[0].count }) else {
                throw scanner.error(
                    "layers",
                    "token \(tokens.count - 1) has not the \(first.count) layers of "
                        + "\(first[0].count) experts that the first one has")
            }
            scanner.skipSpace()
        }
        guard let first = tokens.first else { throw scanner.error("tok", "no token at all") }
        let highest = tokens.lazy.flatMap { $0.layers.joined() }.max() ?? 0
        var trace = try RoutingTrace(
            shape: TraceShape(
                layerCount: first.layers.count, expertsPerLayer: Int(highest) + 1,
                expertsPerToken: first.layers[0].count))
        for (index, token) in tokens.enumerated() {
            let problem = trace.append(
                sequence: 0, phase: .decode, tokenID: token.id,
                experts: Array(token.layers.joined())[...], weights: [])
            if let problem {
                throw TraceError(.malformed, "\(name): token \(index), \(problem)")
            }
        }
        return trace
    }

    private static func jsonToken(
        _ scanner: inout TextScanner
    ) throws(TraceError) -> (id: Int32, layers: [[UInt16]]) {
        var id: Int32 = -1
        var layers: [[UInt16]] = []
        try scanner.expect("{", "token")
        repeat {
            scanner.skipSpace()
            if scanner.take("\"tok\"") {
                try scanner.expect(":", "tok")
                let number = try scanner.integer("tok", below: 1 << 31)
                id = Int32(number)
            } else if scanner.take("\"layers\"") {
                try scanner.expect(":", "layers")
                guard layers.isEmpty else { throw scanner.error("layers", "given twice") }
                try scanner.list("layers") { scanner throws(TraceError) in
                    guard layers.count < 1 << 16 else {
                        throw scanner.error("layers", "more than 65536")
                    }
                    var experts: [UInt16] = []
                    try scanner.list("layers") { scanner throws(TraceError) in
                        guard experts.count < 1024 else {
                            throw scanner.error("layers", "more than 1024 experts in one layer")
                        }
                        let below = Int(RoutingTrace.absent)
                        experts.append(UInt16(try scanner.integer("layers", below: below)))
                    }
                    layers.append(experts)
                }
            } else {
                throw scanner.error("token", "expected \"tok\" or \"layers\"")
            }
            scanner.skipSpace()
        } while scanner.take(",")
        try scanner.expect("}", "token")
        guard let width = layers.first?.count, width > 0 else {
            throw scanner.error("layers", "missing or empty")
        }
        return (id, layers)
    }
}

/// Rows of a comma-separated trace, gathered by token: they may come layer by layer.
private struct ChoiceTable {
    private struct TokenKey: Hashable, Comparable {
        var sequence: UInt32
        var step: Int

        static func < (left: TokenKey, right: TokenKey) -> Bool {
            (left.sequence, left.step) < (right.sequence, right.step)
        }
    }

    private struct Token {
        var phase: RoutingTrace.Phase
        var experts: [UInt16]
        var weights: [Float]
    }

    private let name: String
    private var shape = TraceShape(layerCount: 0, expertsPerLayer: 0, expertsPerToken: 0)
    private var bytesOfLayer: [Int: Int] = [:]
    /// Place of a layer among those that have experts.
    private var placeOfLayer: [Int: Int]?
    private var tokens: [TokenKey: Token] = [:]
    private var choiceCount = 0

    init(name: String) { self.name = name }

    mutating func comment(
        _ text: Substring, _ scanner: TextScanner
    ) throws(TraceError) {
        var words: [String: String] = [:]
        var key = ""
        for word in text.split(separator: " ") {
            let halves = word.split(separator: "=", maxSplits: 1)
            if halves.count == 2 {
                key = String(halves[0])
                words[key] = String(halves[1])
            } else {
                words[key]?.append(" \(word)")  // a path may hold spaces
            }
        }
        func number(_ key: String, below: Int) throws(TraceError) -> Int? {
            guard let text = words[key] else { return nil }
            guard let number = plainInteger(text[...]), number < below else {
                throw scanner.error(key, "'\(text)' is not a number below \(below)")
            }
            return number
        }
        if let architecture = words["arch"] { shape.architecture = architecture }
        if let path = words["model"] {
            shape.model = String(path.split(separator: "/").last ?? "")
        }
        if let layers = try number("n_layer", below: 1 << 16) { shape.layerCount = layers }
        if let experts = try number("n_expert", below: Int(RoutingTrace.absent)) {
            shape.expertsPerLayer = experts
        }
        if let used = try number("n_expert_used", below: 1025) { shape.expertsPerToken = used }
        if let layer = try number("layer", below: 1 << 16),
            let bytes = try number("expert_bytes", below: ExpertLayout.largestExpertBytes + 1)
        {
            bytesOfLayer[layer] = bytes
        }
    }

    mutating func row(_ scanner: inout TextScanner) throws(TraceError) {
        if placeOfLayer == nil { try begin(scanner) }
        let turn = try scanner.column("turn", below: 1 << 32)
        let phase = try scanner.column("phase", below: 2)
        let step = try scanner.column("step", below: 1 << 48)
        let layer = try scanner.column("layer", below: 1 << 16)
        let slot = try scanner.column("slot", below: shape.expertsPerToken)
        let expert = try scanner.column("expert", below: shape.expertsPerLayer)
        let weight = try scanner.number("weight")
        _ = scanner.restOfLine()
        guard let place = placeOfLayer?[layer] else {
            throw scanner.error("layer", "\(layer) is not one of the layers announced")
        }
        let key = TokenKey(sequence: UInt32(turn), step: step)
        let width = shape.layerCount * shape.expertsPerToken
        if tokens[key] == nil {
            choiceCount += width
            guard choiceCount <= RoutingTrace.largestChoiceCount else {
                throw scanner.error("step", "more choices than fit memory; split the trace")
            }
            tokens[key] = Token(
                phase: phase == 0 ? .prefill : .decode,
                experts: [UInt16](repeating: RoutingTrace.absent, count: width),
                weights: [Float](repeating: 0, count: width))
        }
        let index = place * shape.expertsPerToken + slot
        guard tokens[key]!.experts[index] == RoutingTrace.absent else {
            throw scanner.error("slot", "step \(step), layer \(layer), slot \(slot) comes twice")
        }
        tokens[key]!.experts[index] = UInt16(expert)
        tokens[key]!.weights[index] = weight
    }

    /// The comments are read: the shape is known.
    private mutating func begin(_ scanner: TextScanner) throws(TraceError) {
        let layers = bytesOfLayer.keys.sorted()
        if layers.isEmpty {
            placeOfLayer = Dictionary(
                uniqueKeysWithValues: (0..<shape.layerCount).map { ($0, $0) })
        } else {
            placeOfLayer = Dictionary(
                uniqueKeysWithValues: layers.enumerated().map { ($0.element, $0.offset) })
            shape.layerCount = layers.count
            shape.planeBytes = layers.map { [bytesOfLayer[$0]!] }
        }
        if let problem = shape.problem {
            throw scanner.error("comments", "no model routes like this: \(problem)")
        }
    }

    func trace() throws(TraceError) -> RoutingTrace {
        guard placeOfLayer != nil else {
            throw TraceError(.malformed, "\(name): no token at all")
        }
        var trace = try RoutingTrace(shape: shape)
        for (key, token) in tokens.sorted(by: { $0.key < $1.key }) {
            let problem = trace.append(
                sequence: key.sequence, phase: token.phase, tokenID: -1,
                experts: token.experts[...], weights: token.weights[...])
            if let problem {
                throw TraceError(
                    .malformed, "\(name): turn \(key.sequence), step \(key.step), \(problem)")
            }
        }
        return trace
    }
}
