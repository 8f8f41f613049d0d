/// Why a choice ended.
public enum FinishReason: String, Sendable, CaseIterable {
    /// The model ended it, or a stop text did.
    case stop
    /// At the greatest number of tokens, or at the context's end.
    case length
    case toolCalls = "tool_calls"
    /// Of other servers only.
    case contentFilter = "content_filter"
}
