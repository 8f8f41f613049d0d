public import OpenAIAPI

/// Why there is no answer, in one line that names what to do.
public struct ClientError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// The server read the request and refused it, or failed at it.
        case refused(APIError)
        /// There is no connection: no socket, nobody listening, no permission.
        case unreachable
        /// The connection ended before the answer did.
        case connectionLost
        /// The server was silent for longer than `SluiceClient.Timeouts` allows.
        case timedOut
        /// What came is no answer as OpenAI's API defines it, or too long a one.
        case badResponse
        /// The request cannot be sent as it is.
        case badRequest
    }

    public let kind: Kind
    /// One line: where, what, and what to do.
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    init(_ error: APIError, from address: SluiceClient.Address) {
        kind = .refused(error)
        let status = error.status == 200 ? "" : " (status \(error.status))"
        let retry = error.retryAfterSeconds.map { "; try again in \($0) s" } ?? ""
        // What a server says may have any number of lines.
        let message = error.message.split(whereSeparator: \.isNewline).joined(separator: " ")
        description = "\(address): \(message)\(status)\(retry)"
    }

    /// What the server said, if it is what refused.
    public var apiError: APIError? {
        if case .refused(let error) = kind { error } else { nil }
    }
}
