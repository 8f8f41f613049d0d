/// What a policy knows of every expert, and what it makes of it: the expert with the smallest
/// `retention` leaves first.
///
/// Serves the live cache and the replay of traces alike. Allocates nothing after `init`.
struct EvictionRanking: ~Copyable {
    private var clock: UInt64 = 0
    private var lastUse: FlatArray<UInt64>

    init(policy: EvictionPolicy, layerCount: Int, expertsPerLayer: Int, expertsPerToken: Int) {
        lastUse = FlatArray(repeating: 0, count: layerCount * expertsPerLayer)
    }

    /// A new sequence begins: policies that count per sequence forget.
    mutating func beginSequence() {}

    /// A new token begins, at layer 0.
    mutating func beginToken() {}

    /// An expert serves the current token.
    ///
    /// - Parameter fully: with all its planes, rather than with a prefix.
    mutating func used(expertIndex: Int, fully: Bool) {
        clock += 1
        lastUse[expertIndex] = clock
    }

    /// How much an expert deserves to stay while `layer` computes; compared, never added.
    func retention(expertIndex: Int, layer: Int) -> Double {
        Double(lastUse[expertIndex])
    }
}
