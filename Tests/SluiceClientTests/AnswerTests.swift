import Foundation
import SluiceClient
import Testing

struct AnswerTests {
    static let question = ChatCompletionRequest(messages: [
        ChatMessage(role: .user, content: "Hello?")
    ])

    static let completion =
        #"{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"#
        + #""message":{"role":"assistant","content":"Hi."},"finish_reason":"stop"}],"#
        + #""usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#

    @Test func `a whole answer arrives typed, and only what was set is sent`() async throws {
        try await FakeServer.run { connection in
            let lines = connection.request.head.components(separatedBy: "\r\n")
            #expect(lines[0] == "POST /v1/chat/completions HTTP/1.1")
            #expect(lines.contains("content-type: application/json"))
            #expect(lines.contains("host: localhost"))
            #expect(lines.contains("authorization: Bearer key-1"))
            #expect(
                try JSON(parsing: connection.request.body) == [
                    "messages": [["role": "user", "content": "Hello?"]], "temperature": 0.5,
                ])
            try await connection.send(Wire.json(Self.completion))
        } _: { server async throws in
            var request = Self.question
            request.sampling.temperature = 0.5
            let answer = try await server.client(apiKey: "key-1").chat(request)
            #expect(answer.choices.map(\.message.content) == ["Hi."])
            #expect(answer.usage.totalTokens == 7)
        }
    }

    @Test func `a stream arrives typed, and a call always asks for what it returns`() async throws {
        try await FakeServer.run { connection in
            let isStream = try JSON(parsing: connection.request.body)["stream"] == true
            try await connection.send(
                isStream
                    ? Wire.eventStreamHead + Wire.chunk(Wire.delta("Hel") + Wire.delta("lo"))
                        + Wire.chunk("data: [DONE]\n\n") + Wire.lastChunk
                    : Wire.json(Self.completion))
        } _: { server async throws in
            var request = Self.question
            #expect(try await server.client().streamChat(request).text() == "Hello")
            request.streams = true
            #expect(try await server.client().chat(request).choices[0].message.content == "Hi.")
        }
    }

    @Test func `a stream ends with its last event and not with its connection`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(
                Wire.eventStreamHead + Wire.chunk(Wire.delta("x") + "data: [DONE]\n\n"))
            try await connection.untilClosed()
        } _: { server async throws in
            #expect(try await server.client().streamChat(Self.question).text() == "x")
        }
    }

    @Test func `an answer ends with its length and not with its connection`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(Wire.json(Self.completion))
            try await connection.untilClosed()
        } _: { server async throws in
            let answer = try await server.client().chat(Self.question)
            #expect(answer.choices.count == 1)
        }
    }

    @Test func `an answer may come cut anywhere`() async throws {
        let stream = Array(
            (Wire.eventStreamHead + Wire.chunk(Wire.delta("gr\u{00FC}n")) + Wire.chunk(": hm\n\n")
                + Wire.chunk("data: [DONE]\n\n") + Wire.lastChunk).utf8)
        try await FakeServer.run { connection in
            // The path tells the place, in the model's name.
            let model = try JSON(parsing: connection.request.body)["model"]?.string ?? ""
            let cut = Int(model) ?? 0
            try await connection.send(stream[..<cut])
            try await Task.sleep(for: .milliseconds(1))
            try await connection.send(stream[cut...])
        } _: { server async throws in
            let client = server.client()
            for cut in 0...stream.count {
                var request = Self.question
                request.model = String(cut)
                #expect(try await client.streamChat(request).text() == "gr\u{00FC}n", "at \(cut)")
            }
        }
    }

    @Test func `an answer may come byte by byte, and with the connection as its end`() async throws
    {
        let response =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + Self.completion
        try await FakeServer.run { connection in
            for byte in response.utf8 {
                try await connection.send([byte])
                await Task.yield()
            }
        } _: { server async throws in
            let answer = try await server.client().chat(Self.question)
            #expect(answer.choices[0].message.content == "Hi.")
        }
    }

    @Test func `a server may be asked by TCP, at whichever address of its name answers`()
        async throws
    {
        let port = Counter()
        try await FakeServer.run(port: port) { connection in
            #expect(connection.request.head.contains("\r\nhost: localhost:"))
            try await connection.send(Wire.json(Self.completion))
        } _: { _ async throws in
            let client = SluiceClient(.tcp(host: "localhost", port: port.value))
            let answer = try await client.chat(Self.question)
            #expect(answer.choices[0].message.content == "Hi.")
        }
    }

    @Test func `a text is continued, whole and in pieces`() async throws {
        let piece = #"{"id":"t","object":"text_completion","created":1,"model":"m","choices":[{"#
        try await FakeServer.run { connection in
            #expect(connection.request.head.hasPrefix("POST /v1/completions "))
            let body = try JSON(parsing: connection.request.body)
            #expect(body["prompt"] == "Once")
            if body["stream"] == true {
                let first = piece + #""index":0,"text":" upon","finish_reason":null}]}"#
                let last = piece + #""index":0,"text":" a","finish_reason":"length"}]}"#
                try await connection.send(
                    Wire.eventStreamHead
                        + Wire.chunk("data: \(first)\n\ndata: \(last)\n\ndata: [DONE]\n\n")
                        + Wire.lastChunk)
            } else {
                try await connection.send(
                    Wire.json(piece + #""index":0,"text":" upon a","finish_reason":"length"}]}"#))
            }
        } _: { server async throws in
            let request = CompletionRequest(prompts: [.text("Once")])
            let whole = try await server.client().complete(request)
            #expect(whole.choices.map(\.text) == [" upon a"])
            var pieces: [String] = []
            for try await piece in server.client().streamComplete(request) {
                pieces += piece.choices.map(\.text)
            }
            #expect(pieces == [" upon", " a"])
        }
    }

    @Test func `each call of the service has its path and its type`() async throws {
        try await FakeServer.run { connection in
            let line = connection.request.head.prefix { $0 != "\r\n" }
            let body = (try? JSON(parsing: connection.request.body)) ?? .null
            let answer: String
            switch line {
            case "GET /v1/models HTTP/1.1":
                answer = #"{"object":"list","data":[{"id":"m","object":"model","created":3}]}"#
            case "POST /tokenize HTTP/1.1":
                #expect(body["content"] == "a b")
                answer = #"{"tokens":[1,2,3]}"#
            case "POST /detokenize HTTP/1.1":
                #expect(body["tokens"] == [1, 2])
                answer = #"{"content":"a"}"#
            case "POST /apply-template HTTP/1.1":
                #expect(body["messages"]?.array?.count == 1)
                answer = #"{"prompt":"<user>Hello?"}"#
            case "GET /health HTTP/1.1": answer = #"{"status":"ok"}"#
            case "GET /props HTTP/1.1": answer = #"{"n_ctx":4096}"#
            case "GET /v1/sluice/cache HTTP/1.1": answer = #"{"bytes":1}"#
            case "POST /v1/sluice/cache HTTP/1.1":
                #expect(body == ["memory": "3G"] || body == ["release": true])
                answer = body["release"] == nil ? #"{"bytes":2}"# : #"{"bytes":0}"#
            default:
                Issue.record("\(line)")
                return
            }
            try await connection.send(Wire.json(answer))
        } _: { server async throws in
            let client = server.client()
            #expect(try await client.models().models.map(\.id) == ["m"])
            #expect(try await client.tokenize("a b") == [1, 2, 3])
            #expect(try await client.detokenize([1, 2]) == "a")
            #expect(try await client.applyTemplate(Self.question) == "<user>Hello?")
            #expect(try await client.health().isReady)
            #expect(try await client.props()["n_ctx"] == 4096)
            #expect(try await client.cache()["bytes"] == 1)
            #expect(try await client.resize(memory: "3G")["bytes"] == 2)
            #expect(try await client.releaseCache()["bytes"] == 0)
        }
    }

    @Test func `a server that is loading is not ready, and that is no error`() async throws {
        try await FakeServer.run { connection in
            try await connection.send(
                Wire.json(
                    #"{"error":{"message":"loading the model (40 %)","type":"x"}}"#,
                    status: "503 Service Unavailable"))
        } _: { server async throws in
            let health = try await server.client().health()
            #expect(!health.isReady)
            #expect(health.status == "loading the model (40 %)")
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `a reader that waits makes the server wait`() async throws {
        let sent = Counter()
        let piece = Wire.bulk + Wire.chunk(Wire.delta("x"))
        let farTooMuch = 200 << 20
        try await FakeServer.run { connection in
            try await connection.send(Wire.eventStreamHead)
            while sent.value < farTooMuch {
                try await connection.send(piece)
                sent.add(piece.utf8.count)
            }
        } _: { server async throws in
            for try await _ in server.client().streamChat(Self.question) {
                // Until the server gets nothing off any more.
                var before = -1
                while sent.value != before {
                    before = sent.value
                    try await Task.sleep(for: .milliseconds(100))
                }
                break
            }
        }
        #expect(sent.value < farTooMuch)
    }

    @Test func `a reader that goes on after a wait misses nothing`() async throws {
        let pieces = 200
        try await FakeServer.run { connection in
            try await connection.send(Wire.eventStreamHead)
            for piece in 0..<pieces {
                try await connection.send(Wire.bulk + Wire.chunk(Wire.delta("\(piece) ")))
            }
            try await connection.send(Wire.chunk("data: [DONE]\n\n") + Wire.lastChunk)
            try await connection.untilClosed()
        } _: { server async throws in
            var text = ""
            for try await chunk in server.client().streamChat(Self.question) {
                text += chunk.choices[0].delta.content ?? ""
                if text == "0 " { try await Task.sleep(for: .milliseconds(300)) }
            }
            #expect(text == (0..<pieces).map { "\($0) " }.joined())
        }
    }
}

extension ResponseStream<ChatChunk> {
    /// The first choice's content, all of it.
    func text() async throws -> String {
        var text = ""
        for try await chunk in self { text += chunk.choices.first?.delta.content ?? "" }
        return text
    }
}
