public import JSONTree

/// The lines that carry a streamed answer (server-sent events, text/event-stream).
public enum ServerSentEvent {
    /// One event with a document as its data.
    public static func data(_ json: JSON) -> [UInt8] {
        var bytes = Array("data: ".utf8)
        json.appendText(to: &bytes)
        bytes.append(contentsOf: "\n\n".utf8)
        return bytes
    }

    /// What ends a stream.
    public static let done = Array("data: [DONE]\n\n".utf8)

    /// Nothing, but it shows that the server lives and finds out whether the client does.
    public static let keepAlive = Array(": keep-alive\n\n".utf8)
}
