import ExpertStreaming
import Glibc
import Inference
import JSONTree
import ModelFormats
import Synchronization
import Testing

@testable import Serving

/// A service with the demo model in this process.
final class RunningService: Sendable {
    let directory: TemporaryDirectory
    let path: String
    let manager: DatagramSocket
    /// What a reload reads.
    private let configuration: SharedConfiguration
    private let signals: AsyncStream<ServiceSignal>.Continuation
    private let task: Task<Void, any Error>

    final class SharedConfiguration: Sendable {
        private let value: Mutex<ServiceConfiguration>

        init(_ value: ServiceConfiguration) { self.value = Mutex(value) }

        var current: ServiceConfiguration {
            get { value.withLock { $0 } }
            set { value.withLock { $0 = newValue } }
        }
    }

    /// The demo model; nil where the checkout has none.
    static let model: ModelDescription? = {
        var parts = #filePath.split(separator: "/")
        parts.removeLast(3)
        let path = "/" + parts.joined(separator: "/") + "/tools/demo-model/sluice-demo.gguf"
        return try? ModelDescription(file: ModelFile(path: path))
    }()

    /// Starts one, and waits until it says that it is ready.
    init(
        limits: ServiceLimits = ServiceLimits(), environment: [String: String] = [:],
        _ change: (inout ServiceConfiguration, TemporaryDirectory) throws -> Void = { _, _ in }
    ) async throws {
        directory = try TemporaryDirectory()
        path = directory.path + "/s.sock"
        manager = try DatagramSocket(directory.path + "/notify")
        var first = ServiceConfiguration()
        first.socket = path
        first.logLevel = .error
        first.slots = 2
        try change(&first, directory)
        let shared = SharedConfiguration(first)
        configuration = shared
        var options = EngineOptions()
        options.memoryBytes = 256 << 20
        options.context = 256
        options.threads = 1
        let notify = manager.path
        let service = try Service(
            configuration: first, model: #require(RunningService.model), options: options,
            limits: limits,
            environment: { $0 == "NOTIFY_SOCKET" ? notify : environment[$0] },
            reread: { shared.current })
        let (stream, continuation) = AsyncStream.makeStream(of: ServiceSignal.self)
        signals = continuation
        task = Task { try await service.run(signals: stream) }
        _ = try await manager.receive(until: "READY=1")
    }

    /// Reads the configuration again, changed.
    func reload(_ change: (inout ServiceConfiguration) -> Void) async throws {
        var new = configuration.current
        change(&new)
        configuration.current = new
        signals.yield(.reload)
        _ = try await manager.receive(until: "RELOADING=1")
        _ = try await manager.receive(until: "READY=1")
    }

    func stop() { signals.yield(.stop) }

    /// Stops it and waits for its end.
    func end() async throws {
        stop()
        try await task.value
    }

    func client() throws -> RawClient { try RawClient(path: path) }

    /// One request on a connection of its own.
    func ask(
        _ method: String, _ path: String, body: String? = nil, headers: [String] = []
    ) async throws -> RawAnswer {
        let client = try client()
        return try await client.ask(method, path, body: body, headers: headers)
    }

    /// A figure of `/metrics` that has no labels.
    func metric(_ name: String) async throws -> Int {
        let text = try await ask("GET", "/metrics").body
        let line = text.split(separator: "\n").first { $0.hasPrefix("sluice_\(name) ") }
        return try #require(line.flatMap { Int($0.split(separator: " ")[1]) })
    }
}

/// A chat of so many tokens.
private func chat(_ tokens: Int, _ further: String = "") -> String {
    #"{"messages": [{"role": "user", "content": "The sea."}], "max_tokens": \#(tokens), "ignore_eos": true\#(further)}"#
}

private let chatPath = "/v1/chat/completions"

@Suite(.enabled(if: RunningService.model != nil), .timeLimit(.minutes(5)))
struct ServiceTests {
    @Test func aChatIsAnswered() async throws {
        let service = try await RunningService()
        let client = try service.client()
        for _ in 0..<2 {
            let answer = try await client.ask("POST", chatPath, body: chat(5))
            #expect(answer.status == 200)
            #expect(answer.headers["x-request-id"]?.hasPrefix("req_") == true)
            let json = try JSON(parsing: answer.body)
            #expect(json["usage"]?["completion_tokens"]?.integer == 5)
            #expect(json["model"]?.string == "sluice-demo")
        }
        try await service.end()
    }

    /// A client that leaves in the middle of a stream takes nothing with it but its own answer.
    @Test(arguments: [true, false])
    func aClientThatLeavesIsForgotten(streams: Bool) async throws {
        let service = try await RunningService()
        for _ in 0..<3 {
            let client = try service.client()
            // Counted up, not running now: a short answer may be over before it is seen to run.
            let before = try await service.metric("generated_tokens_total")
            let body = chat(200, #", "stream": \#(streams)"#)
            client.send(
                "POST \(chatPath) HTTP/1.1\r\nhost: a\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            if streams {
                #expect(try await client.receive(until: "data: ").contains("text/event-stream"))
            } else {
                while try await service.metric("generated_tokens_total") == before {}
            }
        }
        while try await service.metric("running_sequences") > 0 {}
        #expect(try await service.ask("GET", "/health").status == 200)
        #expect(try await service.ask("POST", chatPath, body: chat(2)).status == 200)
        try await service.end()
    }

    @Test(arguments: [
        ("GET", "/nothing", 404, "unknown_url"), ("GET", chatPath, 405, "method_not_supported"),
        ("POST", "/health", 405, "method_not_supported"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("GET", "/v1/models/%zz", 404, "unknown_url"),
    ])
    func whatIsNotThereIsRefused(
        method: String, path: String, status: Int, code: String
    ) async throws {
        let service = try await RunningService()
        let answer = try await service.ask(method, path)
        #expect(answer.status == status)
        #expect(try JSON(parsing: answer.body)["error"]?["code"]?.string == code)
        try await service.end()
    }

    @Test(arguments: [
        ("{", 400, "invalid_json"), ("", 400, "invalid_json"),
        (#"{"messages": []}"#, 400, "empty_array"),
        (
            #"{"model": "x", "messages": [{"role": "user", "content": "a"}]}"#, 404,
            "model_not_found"
        ),
    ])
    func whatIsNoRequestIsRefused(body: String, status: Int, code: String) async throws {
        let service = try await RunningService()
        let answer = try await service.ask("POST", chatPath, body: body)
        #expect(answer.status == status)
        #expect(try JSON(parsing: answer.body)["error"]?["code"]?.string == code)
        try await service.end()
    }

    @Test func aPromptThatDoesNotFitIsRefusedBeforeAnyWork() async throws {
        let service = try await RunningService()
        let long = String(repeating: "sea ", count: 600)
        let answer = try await service.ask(
            "POST", "/v1/completions", body: #"{"prompt": "\#(long)"}"#)
        #expect(answer.status == 400)
        let error = try JSON(parsing: answer.body)["error"]
        #expect(error?["code"]?.string == "context_length_exceeded")
        #expect(error?["param"]?.string == "prompt")
        try await service.end()
    }

    @Test func aFullQueueSaysWhenToComeBack() async throws {
        // The engine stops after a token, so that the first request ends only with the service.
        let service = try await RunningService(environment: ["SLUICE_WEDGE_AFTER": "1"]) {
            configuration, _ in
            configuration.slots = 1
            configuration.queue = 1
            configuration.drainTimeout = 0
        }
        let first = try service.client()
        let second = try service.client()
        let body = chat(230, #", "stream": true"#)
        let request =
            "POST \(chatPath) HTTP/1.1\r\nhost: a\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
        first.send(request)
        _ = try await first.receive(until: "data: ")
        second.send(request)
        while try await service.metric("queue_requests") == 0 {}
        let answer = try await service.ask("POST", chatPath, body: chat(2))
        #expect(answer.status == 429)
        #expect(answer.headers["retry-after"].flatMap { Int($0) } ?? 0 >= 1)
        #expect(
            try JSON(parsing: answer.body)["error"]?["code"]?.string == "rate_limit_exceeded")
        try await service.end()
    }

    @Test func keysAreAskedFor() async throws {
        let service = try await RunningService { configuration, directory in
            configuration.apiKeysFile = try directory.write("keys", "sesame\n")
        }
        func status(_ headers: [String]) async throws -> Int {
            try await service.ask("GET", "/v1/models", headers: headers).status
        }
        #expect(try await status([]) == 401)
        #expect(try await status(["authorization: Bearer sesam"]) == 401)
        #expect(try await status(["authorization: Basic sesame"]) == 401)
        #expect(try await status(["authorization: bearer sesame"]) == 200)
        #expect(try await service.ask("GET", "/health").status == 200)
        try await service.reload { $0.keysOnSocket = false }
        #expect(try await status([]) == 200)
        try await service.end()
    }

    @Test func aPeerWithoutTheRightIsRefusedUntilItGetsIt() async throws {
        let service = try await RunningService { configuration, _ in
            configuration.allowedUsers = ["4242"]
        }
        let answer = try await service.ask("GET", "/health")
        #expect(answer.status == 403)
        #expect(
            try JSON(parsing: answer.body)["error"]?["message"]?.string?.contains("uid \(getuid())")
                == true)
        try await service.reload { $0.allowedUsers = ["4242", "\(getuid())"] }
        #expect(try await service.ask("GET", "/health").status == 200)
        try await service.end()
    }

    @Test func aReloadChangesSamplingAndMemory() async throws {
        let service = try await RunningService()
        try await service.reload {
            $0.sampling.maxTokens = 3
            $0.engine = [.init(name: "memory", value: "128M")]
        }
        let answer = try await service.ask(
            "POST", chatPath,
            body: #"{"messages": [{"role": "user", "content": "a"}], "ignore_eos": true}"#)
        #expect(try JSON(parsing: answer.body)["usage"]?["completion_tokens"]?.integer == 3)
        let cache = try JSON(parsing: try await service.ask("GET", "/v1/sluice/cache").body)
        #expect(cache["memory"]?["budget"]?.integer == 128 << 20)
        // A budget that will not do leaves everything as it was, the rest of the file too.
        try await service.reload {
            $0.sampling.maxTokens = 9
            $0.engine = [.init(name: "memory", value: "1M")]
        }
        let properties = try JSON(parsing: try await service.ask("GET", "/props").body)
        #expect(
            properties["default_generation_settings"]?["max_tokens"]?.integer == 3)
        try await service.end()
    }

    @Test func aStopFinishesWhatRunsAndTakesNothingNew() async throws {
        let service = try await RunningService()
        let client = try service.client()
        let body = chat(60, #", "stream": true"#)
        client.send(
            "POST \(chatPath) HTTP/1.1\r\nhost: a\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
        )
        let begun = try await client.receive(until: "data: ")
        service.stop()
        _ = try await service.manager.receive(until: "STOPPING=1")
        let all = try await begun + client.receiveAll()
        #expect(all.contains("data: [DONE]"))
        try await service.end()
        #expect(throws: (any Error).self) { _ = try service.client() }
    }

    @Test func aBodyTooLongIsRefusedInOpenAIsShape() async throws {
        let service = try await RunningService { configuration, _ in
            configuration.bodyLimit = ByteSize(bytes: 2000)
        }
        let answer = try await service.ask(
            "POST", chatPath, body: String(repeating: " ", count: 2001))
        #expect(answer.status == 413)
        #expect(
            try JSON(parsing: answer.body)["error"]?["code"]?.string == "request_too_large")
        try await service.end()
    }

    @Test func metricsAreText() async throws {
        let service = try await RunningService()
        _ = try await service.ask("POST", chatPath, body: chat(4))
        let answer = try await service.ask("GET", "/metrics")
        #expect(answer.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
        for line in [
            "sluice_generated_tokens_total 4", "sluice_info{model=\"sluice-demo\"} 1",
            "sluice_http_requests_total{path=\"/v1/chat/completions\",status=\"200\"} 1",
            "sluice_first_token_seconds_count 1",
        ] {
            #expect(answer.body.contains(line + "\n"), "\(line)")
        }
        try await service.end()
    }

    @Test func aTemplateThatIsNoneIsNamed() async throws {
        let directory = try TemporaryDirectory()
        var configuration = ServiceConfiguration()
        configuration.chatTemplate = try directory.write("t.jinja", "a\n{% if %}")
        let model = try #require(RunningService.model)
        let error = try #require(throws: ServiceError.self) {
            try Service(
                configuration: configuration, model: model, options: EngineOptions(),
                environment: { _ in nil }, reread: { ServiceConfiguration() })
        }
        #expect(error.description.contains("t.jinja: line 2"))
    }
}
