import JSONTree
import Logging
import NIOHTTP1
import OpenAIAPI

/// Finds out what a request wants, whether it may have it, and who answers it; then writes the line
/// of the log.
struct Endpoints: Sendable {
    let context: ServiceContext
    /// Open connections now.
    let connectionCount: @Sendable () -> Int

    private typealias Handler = @Sendable (Exchange) async throws -> Void

    /// Answers one request. Nothing escapes: what an endpoint throws becomes an error in OpenAI's
    /// shape, unless the client is gone or its answer has begun.
    func respond(_ request: HTTPRequest, _ writer: HTTPAnswerWriter) async {
        let exchange = Exchange(request, writer, logger: context.logger)
        do {
            do {
                try await handler(for: exchange)(exchange)
            } catch let error as APIError where exchange.status == nil {
                try await exchange.send(error)
            }
        } catch let error as APIError {
            exchange.logger.error("answer broken off: \(error.message)")
            // In the middle of a stream there is no status left to say it with. Without the event
            // that ends a stream, and with the connection closed, nobody takes it for an end.
            try? await exchange.sendEvents(ServerSentEvent.data(error.json))
        } catch {
            exchange.logger.debug("client gone: \(error)")
        }
        finish(exchange)
    }

    private func handler(for exchange: Exchange) throws(APIError) -> Handler {
        let request = exchange.request
        let path = request.path
        guard let methods = routes(path) else { throw .unknownPath(path) }
        let names = methods.map { $0.0 } + [.OPTIONS]
        let allowed = names.map(\.rawValue) + (names.contains(.GET) ? ["HEAD"] : [])
        if request.method == .OPTIONS {
            return { exchange in
                var answer = HTTPAnswer(.noContent, [])
                answer.headers.append(("allow", allowed.joined(separator: ", ")))
                try await exchange.send(answer)
            }
        }
        let method = request.method == .HEAD ? HTTPMethod.GET : request.method
        guard let handler = methods.first(where: { $0.0 == method })?.1 else {
            return { exchange in
                var answer = HTTPAnswer(
                    APIError.methodNotAllowed(
                        request.method.rawValue, path: path, allowed: allowed))
                answer.headers.append(("allow", allowed.joined(separator: ", ")))
                try await exchange.send(answer)
            }
        }
        if !path.hasSuffix("/health") { try authorize(request) }
        return handler
    }

    /// What a path offers; nil for one that is none of ours.
    private func routes(_ path: String) -> [(HTTPMethod, Handler)]? {
        switch path {
        case "/health", "/v1/health": [(.GET, health)]
        case "/metrics": [(.GET, metrics)]
        case "/props": [(.GET, properties)]
        case "/v1/models": [(.GET, models)]
        case "/v1/chat/completions": [(.POST, ChatEndpoint(context: context).answer)]
        case "/v1/completions": [(.POST, CompletionEndpoint(context: context).answer)]
        case "/tokenize", "/v1/tokenize": [(.POST, tokenize)]
        case "/detokenize", "/v1/detokenize": [(.POST, detokenize)]
        case "/apply-template", "/v1/apply-template": [(.POST, applyTemplate)]
        case "/v1/sluice/cache": [(.GET, cache), (.POST, changeCache)]
        default:
            Endpoints.modelName(path).map { [(.GET, model($0))] }
        }
    }

    /// The name in `/v1/models/NAME`, without its escapes; names may hold slashes.
    private static func modelName(_ path: String) -> String? {
        let prefix = "/v1/models/"
        guard path.hasPrefix(prefix) else { return nil }
        var bytes: [UInt8] = []
        var rest = Array(path.utf8.dropFirst(prefix.utf8.count))[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                let digits = String(decoding: rest.prefix(2), as: UTF8.self)
                guard digits.utf8.count == 2, let value = UInt8(digits, radix: 16) else {
                    return nil
                }
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }

    /// Checks the key, where there are any.
    private func authorize(_ request: HTTPRequest) throws(APIError) {
        let live = context.live
        if live.keys.isEmpty {
            // A browser sends this with what a page of any site posts to a port of this machine,
            // and the page needs no answer to empty a cache or to keep the engine busy.
            if case .address = request.peer, request.header("origin") != nil {
                throw .forbidden(
                    "Pages in a browser may use this service only with an API key; its administrator can set some."
                )
            }
            return
        }
        if case .process = request.peer, !live.keysOnSocket { return }
        guard let given = request.header("authorization") else {
            throw .unauthorized(
                "You didn't provide an API key. Send it in an Authorization header: Bearer YOUR_KEY."
            )
        }
        let words = given.split(separator: " ", maxSplits: 1)
        guard words.count == 2, words[0].lowercased() == "bearer",
            live.keys.accept(words[1].trimmed)
        else { throw .unauthorized("Incorrect API key provided.") }
    }

    private func finish(_ exchange: Exchange) {
        let request = exchange.request
        let seconds = exchange.seconds
        let path = metricsPath(request.path)
        // 499 is what web servers note for a client that left before its answer.
        let status = exchange.status ?? 499
        context.metrics.add(path: path, status: status, seconds: seconds)
        var fields: Logger.Metadata = [
            "status": "\(status)", "seconds": "\(rounded(seconds, 1000))",
        ]
        if let usage = exchange.usage {
            fields["prompt-tokens"] = "\(usage.promptTokens)"
            fields["cached-tokens"] = "\(usage.cachedTokens)"
            fields["completion-tokens"] = "\(usage.completionTokens)"
            if usage.decodeSeconds > 0, usage.completionTokens > 1 {
                let rate = Double(usage.completionTokens - 1) / usage.decodeSeconds
                fields["tokens-per-second"] = "\(rounded(rate, 100))"
            }
        }
        // What asks every few seconds whether the service lives would drown what it does.
        let isPoll = ["/health", "/v1/health", "/metrics"].contains(path) && status < 400
        exchange.logger.log(
            level: isPoll ? .debug : .info,
            "\(request.method) \(request.path.prefix(128)) \(status)", metadata: fields)
    }

    /// What strangers ask for must not make labels.
    private func metricsPath(_ path: String) -> String {
        if path.hasPrefix("/v1/models/") { return "/v1/models/" }
        return routes(path) == nil ? "other" : path
    }

    private func rounded(_ value: Double, _ parts: Double) -> Double {
        (value * parts).rounded() / parts
    }
}

extension HTTPAnswer {
    init(_ status: HTTPResponseStatus, json: JSON) {
        var bytes: [UInt8] = []
        json.appendText(to: &bytes)
        self.init(status, bytes)
    }
}
