public import JSONTree

/// What is answered in place of a result, in the shape OpenAI gives its errors.
public struct APIError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Of HTTP.
    public var status: Int
    /// One sentence or two: what was expected, what was found, and what to do.
    public var message: String
    /// OpenAI's word for the class of error, such as `invalid_request_error`.
    public var type: String
    /// The field at fault, as a path: `messages[2].content`.
    public var param: String?
    /// For programs: `invalid_type`, `context_length_exceeded` and so on.
    public var code: String?
    /// For the Retry-After header.
    public var retryAfterSeconds: Int?

    public init(
        status: Int, message: String, type: String, param: String? = nil, code: String? = nil,
        retryAfterSeconds: Int? = nil
    ) {
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retryAfterSeconds = retryAfterSeconds
    }

    public var description: String { message }

    public var json: JSON {
        [
            "error": [
                "message": .string(message), "type": .string(type), "param": JSON(param),
                "code": JSON(code),
            ]
        ]
    }

    /// The JSON text of the answer, in UTF-8.
    public var body: [UInt8] {
        var bytes: [UInt8] = []
        json.appendText(to: &bytes)
        return bytes
    }

    /// An error as a server sent it. Lenient: a body of another shape becomes a message that says
    /// the status, so that no failure is lost.
    public init(json: JSON, status: Int) {
        let error = json["error"] ?? json
        // Some servers give numbers for codes.
        let code = error["code"].flatMap { $0.string ?? $0.integer.map { String($0) } }
        self.init(
            status: status,
            message: error["message"]?.string ?? error.string ?? "the server answered \(status)",
            type: error["type"]?.string ?? (status >= 500 ? "server_error" : "unknown_error"),
            param: error["param"]?.string, code: code)
    }
}

extension APIError {
    /// Status 400, for a request that can never succeed as it is.
    public static func invalid(_ message: String, param: String? = nil, code: String? = nil) -> Self
    {
        Self(
            status: 400, message: message, type: "invalid_request_error", param: param, code: code)
    }

    /// The body is no JSON document.
    public static func malformed(_ error: JSONError) -> Self {
        invalid("We could not parse the JSON body of your request: \(error).", code: "invalid_json")
    }

    /// The prompt leaves no room in the context.
    ///
    /// - Parameter context: tokens that prompt and answer share.
    public static func contextExceeded(tokens: Int, context: Int, param: String) -> Self {
        invalid(
            "This model's maximum context length is \(context) tokens. However, your request has "
                + "\(tokens) tokens before the answer. Please reduce the length of '\(param)'.",
            param: param, code: "context_length_exceeded")
    }

    public static func unauthorized(_ message: String) -> Self {
        Self(
            status: 401, message: message, type: "invalid_request_error", code: "invalid_api_key")
    }

    public static func forbidden(_ message: String) -> Self {
        Self(status: 403, message: message, type: "permission_error", code: "permission_denied")
    }

    public static func unknownPath(_ path: String) -> Self {
        Self(
            status: 404, message: "Unknown request URL: \(path).", type: "invalid_request_error",
            code: "unknown_url")
    }

    public static func unknownModel(_ name: String, known: [String]) -> Self {
        Self(
            status: 404,
            message: "The model '\(name)' does not exist here. This server has: "
                + known.joined(separator: ", ") + ".",
            type: "invalid_request_error", param: "model", code: "model_not_found")
    }

    public static func methodNotAllowed(_ method: String, path: String, allowed: [String]) -> Self {
        Self(
            status: 405,
            message: "Not allowed to \(method) on \(path). Use \(allowed.joined(separator: " or "))"
                + ".", type: "invalid_request_error", code: "method_not_supported")
    }

    /// - Parameter limit: bytes that a body may have.
    public static func bodyTooLarge(limit: Int) -> Self {
        Self(
            status: 413, message: "The request's body has more than \(limit) bytes.",
            type: "invalid_request_error", code: "request_too_large")
    }

    public static func unsupportedMediaType(_ type: String) -> Self {
        Self(
            status: 415,
            message: "Unsupported Content-Type '\(type)'. Send the body as application/json.",
            type: "invalid_request_error", code: "unsupported_content_type")
    }

    /// Every slot is taken and the queue is full.
    public static func busy(retryAfterSeconds: Int) -> Self {
        Self(
            status: 429,
            message: "The server's queue is full. Try again in \(retryAfterSeconds) s.",
            type: "requests", code: "rate_limit_exceeded", retryAfterSeconds: retryAfterSeconds)
    }

    /// Loading, stopping, or otherwise not now.
    public static func unavailable(_ message: String, retryAfterSeconds: Int? = nil) -> Self {
        Self(
            status: 503, message: message, type: "service_unavailable_error",
            code: "service_unavailable", retryAfterSeconds: retryAfterSeconds)
    }

    public static func failed(_ message: String) -> Self {
        Self(status: 500, message: message, type: "server_error", code: "internal_error")
    }
}

extension JSON {
    init(_ text: String?) { self = text.map { .string($0) } ?? .null }

    /// The document in a request's body.
    public init(body: [UInt8]) throws(APIError) {
        do { try self.init(parsing: body) } catch { throw .malformed(error) }
    }
}
