/// How a scheduler treats its requests.
public struct SchedulerSettings: Sendable {
    /// Requests that may wait; one more is refused.
    public var queueLimit = 32
    /// Seconds without work after which the expert cache is given back; nil keeps it.
    public var idleSeconds: Double?
    /// Where computed prompts are kept beyond their time in memory; nil keeps none. Made if it is
    /// not there.
    public var prefixCacheDirectory: String?
    /// Most bytes of all files in it.
    public var prefixCacheBytes = 4 << 30
    /// Shorter sequences are not worth a file.
    public var prefixCacheLeastTokens = 256
    /// Seconds without work after which sequences are written to it.
    public var prefixCacheDelaySeconds = 2.0
    /// The share of the time that prompts get while other sequences generate. 0.05 ... 0.95.
    public var prefillShare = 0.5
    /// Gives memory back while the machine runs short of it, as `EngineOptions.reactsToPressure`.
    public var reactsToPressure = true
    /// Blocks the engine's thread for ever after so many tokens: to test what guards against that.
    public var wedgeAfterTokens: Int?
    /// Takes a line about something that the operator may want to know.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
}
