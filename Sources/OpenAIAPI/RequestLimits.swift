/// How much one request may ask for. What goes beyond is refused by name before any work starts.
public struct RequestLimits: Sendable, Equatable {
    /// `n`.
    public var choices = 128
    /// Texts in `stop`, and UTF-8 bytes of each.
    public var stops = 16
    public var stopBytes = 1024
    /// `top_logprobs`, and `logprobs` of a text completion.
    public var topLogprobs = 20
    /// Entries of `logit_bias`.
    public var logitBiases = 1024
    public var messages = 4096
    public var tools = 128
    /// Texts in the `prompt` of one text completion.
    public var prompts = 128
    /// Ids in one prompt, or in one request to `/detokenize`.
    public var tokens = 1 << 20

    public init() {}
}
