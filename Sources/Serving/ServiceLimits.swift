/// What the service holds out, in one place. Bytes, seconds, counts.
///
/// A request is kept whole in memory before it is looked at, so what strangers can make the process
/// hold is `connections` times `bodyBytes`: the defaults bound it by 512 MiB, and far less is ever
/// seen, because a chat of 32,000 tokens is 150 KB.
public struct ServiceLimits: Sendable, Equatable {
    /// Longest body of a request.
    public var bodyBytes = 8 << 20
    /// Connections at the same time; one more is answered with 503 and closed.
    public var connections = 64
    /// Longest wait for a request's head, on a new connection and between two requests.
    public var headSeconds = 60.0
    /// Longest time that a body may take from its head to its end.
    public var bodySeconds = 60.0
    /// Longest time that a client may leave what was sent to it unread.
    public var stallSeconds = 30.0

    /// Longest line and longest sum of a request's header fields, and their number.
    static let headerBytes = 32 << 10
    static let headerFields = 100
    /// Refused connections that are told so, beside those that are served.
    static let refusedConnections = 32

    public init() {}
}
