/// Which expert leaves the cache first.
public enum EvictionPolicy: Sendable, Equatable {
    /// The least recently used.
    case lru
}
