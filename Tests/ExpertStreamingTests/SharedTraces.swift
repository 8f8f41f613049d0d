import Glibc

@testable import ExpertStreaming

/// Traces recorded by others, which are not in the repository: in `shared/traces` beside the
/// checkout, or below $SLUICE_SHARED.
enum SharedTraces {
    static func path(_ name: String) -> String {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false)
            .dropLast(3).joined(separator: "/")
        let shared = unsafe getenv("SLUICE_SHARED").map { unsafe String(cString: $0) }
        return "\(shared ?? "\(root)/../shared")/traces/\(name)"
    }

    static let names = ["qwen.route.csv", "gemma.route.csv", "trace_olmoe_299.jsonl"]
    static let areHere = names.allSatisfy { unsafe access(path($0), R_OK) == 0 }
    static let absence = "no recorded traces in ../shared/traces; set SLUICE_SHARED to their parent"
}

extension RoutingTrace {
    /// A trace of decoded tokens, each given as experts by layer; `prefill` tokens first.
    static func of(
        _ tokens: [[[UInt16]]], experts: Int, bytes: [Int] = [], prefill: Int = 0,
        sequences: [UInt32]? = nil
    ) throws -> RoutingTrace {
        var shape = TraceShape(
            layerCount: tokens[0].count, expertsPerLayer: experts,
            expertsPerToken: tokens[0].map(\.count).max() ?? 0)
        shape.planeBytes = bytes.map { [$0] }
        var trace = try RoutingTrace(shape: shape)
        for (index, layers) in tokens.enumerated() {
            let padded = layers.flatMap { layer in
                layer
                    + [UInt16](
                        repeating: RoutingTrace.absent, count: shape.expertsPerToken - layer.count)
            }
            let problem = trace.append(
                sequence: sequences?[index] ?? 0, phase: index < prefill ? .prefill : .decode,
                tokenID: -1, experts: padded[...], weights: [])
            precondition(problem == nil, problem ?? "")
        }
        return trace
    }

    /// A seeded trace with favourites, so that caches have something to find.
    static func random(
        seed: Int, tokens: Int, layers: Int, experts: Int, perToken: Int, bytes: [Int] = [],
        prefill: Int = 0
    ) throws -> RoutingTrace {
        var generator = SplitMix(seed: UInt64(seed))
        var list: [[[UInt16]]] = []
        for token in 0..<tokens {
            list.append(
                (0..<layers).map { layer in
                    var chosen: [UInt16] = []
                    while chosen.count < perToken {
                        let narrow = Int.random(in: 0..<3, using: &generator) > 0
                        let favourite =
                            (token / 7 + layer + Int.random(in: 0...2, using: &generator))
                        let expert = UInt16(
                            narrow
                                ? favourite % experts
                                : Int.random(in: 0..<experts, using: &generator))
                        if !chosen.contains(expert) { chosen.append(expert) }
                    }
                    return chosen
                })
        }
        return try of(list, experts: experts, bytes: bytes, prefill: prefill)
    }
}
