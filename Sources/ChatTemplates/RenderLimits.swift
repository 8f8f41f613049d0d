/// What a rendering may cost. Templates come out of model files, so nobody has read them: each bound turns
/// a template that runs away into a `TemplateError`.
public struct RenderLimits: Sendable {
    /// Statements and operators carried out, and elements visited.
    public var steps = 20_000_000
    /// Bytes of all strings, lists and dictionaries that are made on the way, also of those already dropped.
    public var bytes = 512 << 20
    /// Bytes of the rendering.
    public var outputBytes = 64 << 20
    /// Statements, expressions and calls inside each other. A thread's stack has to hold them.
    public var depth = 500

    public init() {}
}

/// Arrays and dictionaries inside each other, at most.
let greatestValueDepth = 200
