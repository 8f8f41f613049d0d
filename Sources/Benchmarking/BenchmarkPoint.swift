/// One point of a sweep: everything that was set for the process that was measured.
public struct BenchmarkPoint: Codable, Sendable, Hashable {
    /// What computes.
    public enum Engine: String, Codable, Sendable {
        case sluice
        case llamaCpp = "llama.cpp"
    }

    public var engine: Engine
    /// The model file's name, without its folder.
    public var model: String
    /// What differs between the points of one engine, in words: "cache=2x policy=lfu"; of llama.cpp
    /// "load=mmap read-ahead=128".
    public var setting: String
    /// "best", "defaults" or nil: how a peer's setting was come to.
    public var role: String?
    /// The cache's size as given, of points on a curve over cache sizes.
    public var cache: String?
    /// The control group's limit on all memory, page cache included; nil for none.
    public var memoryLimitBytes: Int?
    /// What the control group lets the disk give at most; nil for no limit.
    public var diskLimitBytesPerSecond: Double?
    /// Name of the board whose limits these are.
    public var board: String?
    public var threads: Int
    public var promptTokens: Int
    /// Decoded before anything was counted, to fill the cache.
    public var warmUpTokens: Int
    public var tokens: Int
    /// The recording that drove the choice of experts; nil for the model's own routers.
    public var routing: String?

    public init(
        engine: Engine, model: String, setting: String, threads: Int, promptTokens: Int,
        warmUpTokens: Int, tokens: Int
    ) {
        self.engine = engine
        self.model = model
        self.setting = setting
        self.threads = threads
        self.promptTokens = promptTokens
        self.warmUpTokens = warmUpTokens
        self.tokens = tokens
    }
}
