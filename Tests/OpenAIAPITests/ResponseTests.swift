import JSONTree
import OpenAIAPI
import Testing

struct ResponseTests {
    private static let header = ResponseHeader(id: "chatcmpl-1", created: 17, model: "m")

    @Test func `a chat completion has OpenAI's shape`() throws {
        let completion = ChatCompletion(
            header: Self.header,
            choices: [
                .init(
                    index: 0, message: .init(content: "Hi", reasoningContent: "hm"),
                    finishReason: .stop,
                    logprobs: [
                        LogprobEntry(
                            bytes: Array("Hi".utf8), logprob: -0.5,
                            top: [.init(bytes: [0xE2], logprob: -.infinity)])
                    ]),
                .init(
                    index: 1,
                    message: .init(toolCalls: [ToolCall(id: "c", name: "f", arguments: "{}")]),
                    finishReason: .toolCalls),
            ],
            usage: Usage(promptTokens: 5, completionTokens: 2, cachedTokens: 3, reasoningTokens: 1))
        let expected = """
            {"id":"chatcmpl-1","object":"chat.completion","created":17,"model":"m","choices":[\
            {"index":0,"message":{"role":"assistant","content":"Hi","refusal":null,\
            "reasoning_content":"hm"},"logprobs":{"content":[{"token":"Hi","logprob":-0.5,\
            "bytes":[72,105],"top_logprobs":[{"token":"bytes:\\\\xe2","logprob":-9999.0,\
            "bytes":[226]}]}],"refusal":null},"finish_reason":"stop"},\
            {"index":1,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[\
            {"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},\
            "logprobs":null,"finish_reason":"tool_calls"}],\
            "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,\
            "prompt_tokens_details":{"cached_tokens":3},\
            "completion_tokens_details":{"reasoning_tokens":1}}}
            """
        #expect(completion.json.text == expected)
        var read = try ChatCompletion(json: completion.json)
        #expect(read.choices[0].logprobs?[0].top[0].logprob == -9999)
        read.choices[0].logprobs = completion.choices[0].logprobs
        #expect(read == completion)
    }

    @Test func `chunks come as OpenAI sends them`() {
        let writer = ChatChunkWriter(header: Self.header, includesUsage: true)
        let prefix = """
            {"id":"chatcmpl-1","object":"chat.completion.chunk","created":17,"model":"m","choices":[
            """
        let call = ChatChunk.ToolCallDelta(index: 0, id: "c", name: "f", arguments: "")
        let chunks = [
            writer.start(choice: 1),
            writer.piece(choice: 1, .init(content: "é")),
            writer.piece(choice: 1, .init(toolCalls: [call])),
            writer.piece(choice: 1, .init(toolCalls: [.init(index: 0, arguments: "{}")])),
            writer.finish(choice: 1, .length),
        ]
        let choices = [
            #"{"index":1,"delta":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}"#,
            #"{"index":1,"delta":{"content":"é"},"logprobs":null,"finish_reason":null}"#,
            #"{"index":1,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null}"#,
            #"{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}"#,
            #"{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}"#,
        ]
        for (chunk, choice) in zip(chunks, choices) {
            #expect(chunk.json.text == prefix + choice + #"],"usage":null}"#)
        }
        let usage = writer.usage(
            Usage(promptTokens: 1, completionTokens: 2), timings: nil, experts: nil)
        #expect(
            usage?.json.text == prefix
                + #"],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#
        )
        let silent = ChatChunkWriter(header: Self.header, includesUsage: false)
        #expect(silent.finish(choice: 0, .stop).json["usage"] == nil)
        #expect(
            silent.usage(Usage(promptTokens: 1, completionTokens: 2), timings: nil, experts: nil)
                == nil)
    }

    @Test func `pieces of a stream add up to the message`() throws {
        let writer = ChatChunkWriter(header: Self.header, includesUsage: false)
        let deltas: [ChatChunk.Delta] = [
            .init(role: "assistant"), .init(reasoningContent: "h"), .init(reasoningContent: "m"),
            .init(content: "a"), .init(content: "b"),
            .init(toolCalls: [.init(index: 0, id: "c0", name: "f", arguments: "")]),
            .init(toolCalls: [.init(index: 0, arguments: "{\"x\":")]),
            .init(toolCalls: [.init(index: 0, arguments: "1}")]),
            .init(toolCalls: [.init(index: 1, id: "c1", name: "g", arguments: "{}")]),
        ]
        var message = ChatCompletion.Message()
        for delta in deltas {
            let sent = writer.piece(choice: 0, delta)
            let received = try ChatChunk(json: JSON(parsing: sent.json.text))
            #expect(received.choices[0].delta == delta)
            message.append(received.choices[0].delta)
        }
        #expect(
            message
                == .init(
                    content: "ab", reasoningContent: "hm",
                    toolCalls: [
                        ToolCall(id: "c0", name: "f", arguments: "{\"x\":1}"),
                        ToolCall(id: "c1", name: "g", arguments: "{}"),
                    ]))
        #expect(
            try ChatCompletionRequest(
                ["messages": [message.asHistory.json]]).messages == [message.asHistory])
    }

    @Test func `a text completion lists its tokens`() throws {
        // A euro sign in two tokens, after an echoed prompt's first token.
        let logprobs = CompletionLogprobs(
            [
                (bytes: Array("a".utf8), entry: nil),
                (
                    bytes: [0xE2, 0x82],
                    entry: LogprobEntry(
                        bytes: [0xE2, 0x82], logprob: -1,
                        top: [.init(bytes: Array("b".utf8), logprob: -0.5)])
                ),
                (bytes: [0xAC], entry: LogprobEntry(bytes: [0xAC], logprob: -2)),
                (
                    bytes: Array("c".utf8),
                    entry: LogprobEntry(bytes: Array("c".utf8), logprob: -3)
                ),
            ], offset: 10)
        let completion = Completion(
            header: ResponseHeader(id: "cmpl-1", created: 17, model: "m"),
            choices: [.init(index: 0, text: "a€c", finishReason: .length, logprobs: logprobs)],
            usage: Usage(promptTokens: 1, completionTokens: 3))
        let expected = """
            {"id":"cmpl-1","object":"text_completion","created":17,"model":"m","choices":[\
            {"text":"a€c","index":0,"logprobs":{"tokens":["a","bytes:\\\\xe2\\\\x82",\
            "bytes:\\\\xac","c"],"token_logprobs":[null,-1.0,-2.0,-3.0],\
            "top_logprobs":[null,{"b":-0.5},{},{}],"text_offset":[10,11,12,12]},\
            "finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":3,\
            "total_tokens":4,"prompt_tokens_details":{"cached_tokens":0}}}
            """
        #expect(completion.json.text == expected)
        #expect(try Completion(json: completion.json) == completion)
    }

    @Test func `timings and the accounting of experts come back`() throws {
        let timings = Timings(
            cachedTokens: 3, promptTokens: 4, promptSeconds: 0.5, predictedTokens: 10,
            predictedSeconds: 2, queueSeconds: 0.25)
        let experts = ExpertAccounting(
            policy: "full", massByPlanes: [0, 0.25, 0, 0.5], skippedMass: 0.125, swappedMass: 0.125,
            deferredMass: 0, choices: 80, narrowed: 4, skipped: 3, swapped: 2, deferred: 1,
            expertsByPlanes: [0, 20, 0, 60])
        let completion = ChatCompletion(
            header: Self.header, choices: [], usage: Usage(promptTokens: 7, completionTokens: 10),
            timings: timings, experts: experts)
        let json = completion.json
        #expect(json["timings"]?["prompt_per_second"] == 8.0)
        #expect(json["timings"]?["predicted_per_token_ms"] == 200.0)
        #expect(json["timings"]?["prompt_ms"] == 500.0)
        #expect(json["sluice"]?["mass_by_planes"] == [0.0, 0.25, 0.0, 0.5])
        #expect(try ChatCompletion(json: JSON(parsing: json.text)) == completion)
        // Nothing predicted in no time is no division by zero.
        let none = Timings(
            cachedTokens: 0, promptTokens: 0, promptSeconds: 0, predictedTokens: 0,
            predictedSeconds: 0)
        #expect(none.json["predicted_per_second"] == 0.0)
    }

    @Test func `an error has OpenAI's shape and comes back`() throws {
        let error = APIError.busy(retryAfterSeconds: 4)
        #expect(
            String(decoding: error.body, as: UTF8.self)
                == #"{"error":{"message":"The server's queue is full. Try again in 4 s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#
        )
        #expect(error.status == 429)
        var read = APIError(json: error.json, status: 429)
        read.retryAfterSeconds = 4
        #expect(read == error)
        #expect(APIError(json: "gone", status: 502).message == "gone")
        #expect(APIError(json: nil, status: 502).message == "the server answered 502")
        #expect(APIError(json: ["error": ["code": 7]], status: 400).code == "7")
    }

    @Test func `an answer of another shape is refused by name`() throws {
        let noChoices = #expect(throws: ResponseError.self) {
            try ChatCompletion(json: ["id": "x"])
        }
        #expect(noChoices?.description == "the server's answer has no 'choices'")
        let wrong = #expect(throws: ResponseError.self) { try ChatChunk(json: ["choices": 3]) }
        #expect(wrong?.description == "the server's answer has integer as 'choices'")
        // An index out of order makes no gap and no trap.
        var message = ChatCompletion.Message()
        message.append(.init(toolCalls: [.init(index: -5, arguments: "x"), .init(index: 1 << 40)]))
        #expect(message.toolCalls.map(\.arguments) == ["x", ""])
    }

    @Test func `models are listed`() throws {
        var meta = JSONObject()
        meta["n_ctx"] = 4096
        let list = ModelList(models: [ModelCard(id: "m", created: 5, meta: meta)])
        #expect(
            list.json.text
                == #"{"object":"list","data":[{"id":"m","object":"model","created":5,"owned_by":"sluice","meta":{"n_ctx":4096}}]}"#
        )
        #expect(try ModelList(json: list.json) == list)
    }

    @Test func `events are lines of data`() {
        #expect(
            String(decoding: ServerSentEvent.data(["a": "b\nc"]), as: UTF8.self)
                == "data: {\"a\":\"b\\nc\"}\n\n")
    }

    @Test func `ids differ and are of letters and digits`() {
        let one = ResponseHeader.newID("call_")
        #expect(one.hasPrefix("call_") && one.utf8.count == 29)
        #expect(one != ResponseHeader.newID("call_"))
        #expect(one.dropFirst(5).allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) })
    }
}
