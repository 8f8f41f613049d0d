import JSONTree
import OpenAIAPI
import Testing

struct RequestTests {
    @Test func `a chat completion of every field comes through`() throws {
        let body = """
            {"model":"m","messages":[{"role":"developer","content":"Be brief."},
            {"role":"user","name":"ann","content":[{"type":"text","text":"a"},
            {"type":"text","text":"b"}]},
            {"role":"assistant","content":null,"refusal":null,"reasoning_content":"hm",
            "tool_calls":[{"index":0,"id":"c1","type":"function",
            "function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"c1","content":"42"}],
            "stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":9,
            "stop":["x","y"],"seed":-3,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,
            "typical_p":0.7,"frequency_penalty":-1,"presence_penalty":1,"repeat_penalty":1.1,
            "repeat_last_n":32,"logit_bias":{"50256":-100,"7":2.5},"logprobs":true,
            "top_logprobs":5,"n":2,"user":"u","response_format":{"type":"json_schema",
            "json_schema":{"name":"s","schema":{"type":"object"},"strict":true}},
            "tools":[{"type":"function","function":{"name":"f","description":"d",
            "parameters":{"type":"object"},"strict":true}}],
            "tool_choice":{"type":"function","function":{"name":"f"}},
            "parallel_tool_calls":false,"chat_template_kwargs":{"enable_thinking":false},
            "reasoning_effort":"high","reasoning_format":"none","ignore_eos":true,
            "cache_prompt":false,"add_generation_prompt":false}
            """
        let request = try ChatCompletionRequest(JSON(parsing: body))
        #expect(request.model == "m")
        #expect(request.messages.map(\.role) == [.developer, .user, .assistant, .tool])
        #expect(request.messages[1].content == "a\nb")
        #expect(request.messages[1].name == "ann")
        #expect(request.messages[2].content == nil)
        #expect(request.messages[2].reasoningContent == "hm")
        #expect(
            request.messages[2].toolCalls == [ToolCall(id: "c1", name: "f", arguments: "{}")])
        #expect(request.messages[3].toolCallID == "c1")
        #expect(request.streams && request.includesUsage)
        #expect(request.maximumTokens == 9)
        #expect(request.stops == ["x", "y"])
        #expect(request.sampling.seed == -3)
        #expect(request.sampling.temperature == 0.5)
        #expect(request.sampling.topP == 0.9)
        #expect(request.sampling.topK == 40)
        #expect(request.sampling.minP == 0.05)
        #expect(request.sampling.typicalP == 0.7)
        #expect(request.sampling.frequencyPenalty == -1)
        #expect(request.sampling.presencePenalty == 1)
        #expect(request.sampling.repetitionPenalty == 1.1)
        #expect(request.sampling.penaltyWindow == 32)
        #expect(request.sampling.logitBias == [50256: -100, 7: 2.5])
        #expect(request.topLogprobs == 5)
        #expect(request.choices == 2)
        #expect(request.user == "u")
        #expect(
            request.responseFormat
                == .jsonSchema(name: "s", schema: ["type": "object"], strict: true))
        #expect(request.tools.map(\.name) == ["f"])
        #expect(request.tools[0].strict)
        #expect(request.toolChoice == .function("f"))
        #expect(!request.allowsParallelToolCalls)
        #expect(request.templateVariables["enable_thinking"] == false)
        #expect(request.reasoningEffort == .high)
        #expect(!request.splitsReasoning)
        #expect(request.ignoresEndOfText && !request.usesPrefixCache)
        #expect(!request.addsGenerationPrompt)
        // What a client writes is what a server reads.
        #expect(try ChatCompletionRequest(request.json) == request)
    }

    @Test func `what is not given is the server's to choose`() throws {
        let request = try ChatCompletionRequest(
            ["messages": [["role": "user", "content": "Hi"]], "temperature": nil, "stop": nil])
        #expect(request == ChatCompletionRequest(messages: [.init(role: .user, content: "Hi")]))
        #expect(request.sampling == SamplingFields())
        #expect(request.topLogprobs == nil)
        #expect(try ChatCompletionRequest(request.json) == request)
    }

    @Test func `fields of OpenAI's own service are taken and ignored`() throws {
        let body = """
            {"messages":[{"role":"user","content":"Hi"}],"store":true,"metadata":{"a":"b"},
            "service_tier":"auto","safety_identifier":"x","prompt_cache_key":"k",
            "prediction":{"type":"content","content":"Hi"},"modalities":["text"],
            "verbosity":"medium","function_call":"none","functions":[]}
            """
        let request = try ChatCompletionRequest(JSON(parsing: body))
        #expect(request == ChatCompletionRequest(messages: [.init(role: .user, content: "Hi")]))
    }

    @Test(
        arguments: [
            (#""response_format":{"type":"json_object"}"#, ResponseFormat.jsonObject),
            (#""response_format":{"type":"text"}"#, .text),
            (#""response_format":{"type":"regex","regex":"a+"}"#, .regex("a+")),
            (
                #""response_format":{"type":"grammar","grammar":"root ::= []"}"#,
                .grammar("root ::= []")
            ),
            (#""grammar":"root ::= []""#, .grammar("root ::= []")),
            (
                #""json_schema":{"type":"null"}"#,
                .jsonSchema(name: "schema", schema: ["type": "null"], strict: true)
            ),
            (
                #""response_format":{"type":"json_object","schema":{"type":"null"}}"#,
                .jsonSchema(name: "schema", schema: ["type": "null"], strict: true)
            ),
        ] as [(String, ResponseFormat)])
    func `an answer's format can be given in several ways`(
        _ fields: String, _ format: ResponseFormat
    )
        throws
    {
        let json = try JSON(parsing: #"{"messages":[{"role":"user","content":""}],\#(fields)}"#)
        let request = try ChatCompletionRequest(json)
        #expect(request.responseFormat == format)
        #expect(try ChatCompletionRequest(request.json).responseFormat == format)
    }

    @Test(
        arguments: [
            (#""a""#, [.text("a")]), (#"["a","b"]"#, [.text("a"), .text("b")]),
            ("[1,2]", [.tokens([1, 2])]), ("[[1],[2,3]]", [.tokens([1]), .tokens([2, 3])]),
        ] as [(String, [CompletionRequest.Prompt])])
    func `a prompt is text or ids, one or several`(
        _ prompt: String, _ expected: [CompletionRequest.Prompt]
    ) throws {
        let request = try CompletionRequest(
            JSON(parsing: #"{"prompt":\#(prompt),"echo":true,"max_tokens":0,"logprobs":2}"#))
        #expect(request.prompts == expected)
        #expect(request.echoes && request.maximumTokens == 0 && request.topLogprobs == 2)
        #expect(try CompletionRequest(request.json) == request)
    }

    @Test func `the last message can be gone on with`() throws {
        let request = try ChatCompletionRequest([
            "messages": [
                ["role": "user", "content": "Hi"], ["role": "assistant", "content": "He"],
            ],
            "continue_final_message": true, "add_generation_prompt": false,
        ])
        #expect(request.continuesFinalMessage && !request.addsGenerationPrompt)
        #expect(try ChatCompletionRequest(request.json) == request)
    }
}
