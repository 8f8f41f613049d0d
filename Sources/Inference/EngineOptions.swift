public import ExpertStreaming

/// What the user may decide about an engine.
public struct EngineOptions: Sendable {
    /// Ceiling on everything the process holds, in bytes; nil takes what the machine allows.
    public var memoryBytes: Int?
    /// How much of it caches experts.
    public var cache = CacheSize.auto
    /// Positions of the key-value cache; nil takes the model's, at most
    /// `EngineOptions.defaultContext`.
    public var context: Int?
    /// Sequences held at the same time, each with `context` positions of its own.
    public var sequences = 1
    /// Compute threads; nil takes all processors this process may use.
    public var threads: Int?
    /// Rung of the I/O ladder; nil probes from the top.
    public var io: IOMode?
    public var arithmetic = Arithmetic.int8
    /// Most tokens computed together in prefill.
    public var chunk = EngineOptions.defaultChunk
    /// Rows of logits computed together; 1 unless every position's logits are wanted.
    public var headRows = 1
    /// Gives memory back while the machine or the control group runs short of it, and takes it
    /// again when that is over.
    public var reactsToPressure = false
    /// Kernels to use, as `InstructionSet.available` names them; nil takes the best.
    public var instructionSet: String?

    public static let defaultContext = 4096
    public static let defaultChunk = 128

    public init() {}
}

/// An engine that cannot be made as asked: which limit, the figures, and what would do.
public struct EngineError: Error, CustomStringConvertible, Sendable {
    public let description: String

    init(_ description: String) { self.description = description }
}
