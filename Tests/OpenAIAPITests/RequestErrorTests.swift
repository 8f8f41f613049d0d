import JSONTree
import OpenAIAPI
import Testing

/// Bodies that must be refused, with the field that is named and the code.
struct RequestErrorTests {
    struct Refused: CustomTestStringConvertible, Sendable {
        var fields: String
        var param: String?
        var code: String?
        var says: String
        var testDescription: String { fields }

        init(_ fields: String, _ param: String?, _ code: String?, _ says: String) {
            self.fields = fields
            self.param = param
            self.code = code
            self.says = says
        }
    }

    private static func check(_ error: APIError?, _ refused: Refused) {
        #expect(error?.status == 400)
        #expect(error?.type == "invalid_request_error")
        #expect(error?.param == refused.param)
        #expect(error?.code == refused.code)
        #expect(error?.message.contains(refused.says) == true, "\(error?.message ?? "no error")")
    }

    @Test(arguments: [
        Refused(
            #""temperature":"hot""#, "temperature", "invalid_type",
            "expected a decimal, but got a string instead"),
        Refused(
            #""temperature":2.5"#, "temperature", "decimal_above_max_value",
            "Expected a value <= 2.0, but got 2.5 instead"),
        Refused(#""temperature":-1"#, "temperature", "decimal_below_min_value", ">= 0.0"),
        Refused(#""top_p":1.01"#, "top_p", "decimal_above_max_value", "top_p"),
        Refused(#""min_p":-0.1"#, "min_p", "decimal_below_min_value", "min_p"),
        Refused(#""typical_p":2"#, "typical_p", "decimal_above_max_value", "typical_p"),
        Refused(#""top_k":-1"#, "top_k", "integer_below_min_value", "top_k"),
        Refused(
            #""top_k":1.5"#, "top_k", "invalid_type", "expected an integer, but got a decimal"),
        Refused(
            #""frequency_penalty":-2.1"#, "frequency_penalty", "decimal_below_min_value", "-2.0"),
        Refused(#""presence_penalty":3"#, "presence_penalty", "decimal_above_max_value", "2.0"),
        Refused(
            #""repeat_penalty":1.1,"repetition_penalty":1.2"#, "repetition_penalty",
            "conflicting_parameters", "mean the same and differ"),
        Refused(#""seed":"x""#, "seed", "invalid_type", "an integer"),
        Refused(#""n":0"#, "n", "integer_below_min_value", ">= 1"),
        Refused(#""n":129"#, "n", "integer_above_max_value", "<= 128"),
        Refused(#""max_tokens":0"#, "max_tokens", "integer_below_min_value", ">= 1"),
        Refused(
            #""max_tokens":4,"max_completion_tokens":5"#, "max_tokens", "conflicting_parameters",
            "differ"),
        Refused(#""stop":7"#, "stop", "invalid_type", "a string or an array of strings"),
        Refused(#""stop":["a",null]"#, "stop[1]", "invalid_type", "got null"),
        Refused(#""stop":"""#, "stop", "empty_string", "1 to 1024 bytes"),
        Refused(
            #""stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#,
            "stop", "array_above_max_length", "maximum length 16"),
        Refused(#""stream":"yes""#, "stream", "invalid_type", "a boolean"),
        Refused(
            #""stream_options":{"include_usage":true}"#, "stream_options", "invalid_value",
            "only allowed when 'stream'"),
        Refused(
            #""stream":true,"stream_options":{"usage":true}"#, "stream_options.usage",
            "unknown_parameter", "Unrecognized request argument supplied: stream_options.usage"),
        Refused(#""top_logprobs":3"#, "top_logprobs", "invalid_value", "when 'logprobs'"),
        Refused(
            #""logprobs":true,"top_logprobs":21"#, "top_logprobs", "integer_above_max_value",
            "<= 20"),
        Refused(#""logprobs":5"#, "logprobs", "invalid_type", "a boolean"),
        Refused(#""logit_bias":[1]"#, "logit_bias", "invalid_type", "an object"),
        Refused(#""logit_bias":{"a":1}"#, "logit_bias", "invalid_value", "'a'"),
        Refused(#""logit_bias":{"-4":1}"#, "logit_bias", "invalid_value", "'-4'"),
        Refused(
            #""logit_bias":{"4":101}"#, "logit_bias.4", "decimal_above_max_value", "<= 100.0"),
        Refused(#""response_format":"json""#, "response_format", "invalid_type", "an object"),
        Refused(
            #""response_format":{"type":"xml"}"#, "response_format.type", "invalid_value",
            "'text', 'regex', 'grammar', 'json_object', 'json_schema'"),
        Refused(
            #""response_format":{"type":"json_schema"}"#, "response_format.json_schema",
            "missing_required_parameter", "json_schema"),
        Refused(
            #""response_format":{"type":"json_schema","json_schema":{"name":"a"}}"#,
            "response_format.json_schema.schema", "missing_required_parameter", "schema"),
        Refused(
            #""response_format":{"type":"json_schema","json_schema":{"name":"a b","schema":{}}}"#,
            "response_format.json_schema.name", "invalid_value", "pattern"),
        Refused(
            #""response_format":{"type":"json_object"},"grammar":"root ::= \"a\"""#, "grammar",
            "conflicting_parameters", "Give one of them"),
        Refused(#""tools":{}"#, "tools", "invalid_type", "an array"),
        Refused(
            #""tools":[{"type":"retrieval"}]"#, "tools[0].type", "invalid_value", "'function'"),
        Refused(
            #""tools":[{"type":"function","function":{}}]"#, "tools[0].function.name",
            "missing_required_parameter", "name"),
        Refused(
            #""tools":[{"type":"function","function":{"name":"a","parameters":[]}}]"#,
            "tools[0].function.parameters", "invalid_type", "an object"),
        Refused(
            #""tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"a"}}]"#,
            "tools[1].function.name", "invalid_value", "given twice"),
        Refused(
            #""tool_choice":"required""#, "tool_choice", "invalid_value", "when 'tools' are"),
        Refused(#""tool_choice":"maybe""#, "tool_choice", "invalid_value", "'required'"),
        Refused(
            #""tools":[{"type":"function","function":{"name":"a"}}],"tool_choice":{"type":"function","function":{"name":"b"}}"#,
            "tool_choice", "invalid_value", "no function named 'b'"),
        Refused(
            #""tool_choice":{"type":"allowed_tools"}"#, "tool_choice.type", "invalid_value",
            "'function'"),
        Refused(
            #""functions":[{"name":"a"}]"#, "functions", "unsupported_parameter",
            "give them in 'tools'"),
        Refused(
            #""function_call":"auto""#, "function_call", "unsupported_parameter", "'tool_choice'"),
        Refused(
            #""modalities":["text","audio"]"#, "modalities", "unsupported_parameter", "['text']"),
        Refused(#""audio":{"voice":"x"}"#, "audio", "unsupported_parameter", "Sound"),
        Refused(#""verbosity":"low""#, "verbosity", "unsupported_parameter", "'medium'"),
        Refused(
            #""web_search_options":{}"#, "web_search_options", "unsupported_parameter", "network"),
        Refused(#""reasoning_effort":"huge""#, "reasoning_effort", "invalid_value", "'medium'"),
        Refused(
            #""chat_template_kwargs":{"messages":[]}"#, "chat_template_kwargs.messages",
            "invalid_value", "a field of its own"),
        Refused(
            #""continue_final_message":true"#, "continue_final_message", "invalid_value",
            "role 'assistant'"),
        Refused(
            #""temprature":1"#, "temprature", "unknown_parameter",
            "Unrecognized request argument supplied: temprature"),
        Refused(#""user":3"#, "user", "invalid_type", "a string"),
        Refused(#""model":["a"]"#, "model", "invalid_type", "got an array"),
    ]) func `a chat completion names the field that it refuses`(_ refused: Refused) throws {
        let json = try JSON(
            parsing: #"{"messages":[{"role":"user","content":"Hi"}],\#(refused.fields)}"#)
        let error = #expect(throws: APIError.self) { try ChatCompletionRequest(json) }
        Self.check(error, refused)
    }

    @Test(arguments: [
        Refused("[]", "messages", "empty_array", "minimum length 1"),
        Refused("7", "messages", "invalid_type", "got an integer"),
        Refused("null", "messages", "missing_required_parameter", "'messages'"),
        Refused("[7]", "messages[0]", "invalid_type", "an object"),
        Refused("[{}]", "messages[0].role", "missing_required_parameter", "role"),
        Refused(
            #"[{"role":"robot","content":""}]"#, "messages[0].role", "invalid_value",
            "'system', 'developer', 'user', 'assistant', 'tool'"),
        Refused(
            #"[{"role":"function","name":"f","content":""}]"#, "messages[0].role",
            "unsupported_parameter", "role 'tool'"),
        Refused(
            #"[{"role":"user"}]"#, "messages[0].content", "missing_required_parameter", "content"),
        Refused(
            #"[{"role":"user","content":3}]"#, "messages[0].content", "invalid_type",
            "a string or an array of content parts"),
        Refused(
            #"[{"role":"user","content":[]}]"#, "messages[0].content", "empty_array", "content"),
        Refused(
            #"[{"role":"user","content":["x"]}]"#, "messages[0].content[0]", "invalid_type",
            "an object"),
        Refused(
            #"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:"}}]}]"#,
            "messages[0].content[1].type", "unsupported_value", "reads text only"),
        Refused(
            #"[{"role":"user","content":[{"type":"smell"}]}]"#, "messages[0].content[0].type",
            "invalid_value", "'text'"),
        Refused(
            #"[{"role":"user","content":"a","tool_calls":[]}]"#, "messages[0].tool_calls",
            "unknown_parameter", "messages[0].tool_calls"),
        Refused(
            #"[{"role":"tool","content":"a"}]"#, "messages[0].tool_call_id",
            "missing_required_parameter", "tool_call_id"),
        Refused(
            #"[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":{}}}]}]"#,
            "messages[0].tool_calls[0].function.arguments", "invalid_type", "a string"),
        Refused(
            #"[{"role":"assistant","content":null,"function_call":{"name":"f"}}]"#,
            "messages[0].function_call", "unsupported_parameter", "'tool_calls'"),
    ]) func `a message names the member that it refuses`(_ refused: Refused) throws {
        let json = try JSON(parsing: #"{"messages":\#(refused.fields)}"#)
        let error = #expect(throws: APIError.self) { try ChatCompletionRequest(json) }
        Self.check(error, refused)
    }

    @Test(arguments: [
        Refused("{}", "prompt", "missing_required_parameter", "'prompt'"),
        Refused(#"{"prompt":{}}"#, "prompt", "invalid_type", "a string, an array"),
        Refused(#"{"prompt":[]}"#, "prompt", "empty_array", "prompt"),
        Refused(#"{"prompt":["a",1]}"#, "prompt[1]", "invalid_type", "a string"),
        Refused(#"{"prompt":[1,"a"]}"#, "prompt[1]", "invalid_type", "an integer"),
        Refused(#"{"prompt":[1,-2]}"#, "prompt[1]", "invalid_value", "id of a token"),
        Refused(#"{"prompt":[4294967296]}"#, "prompt[0]", "invalid_value", "4294967296"),
        Refused(#"{"prompt":[[1],[]]}"#, "prompt[1]", "empty_array", "prompt[1]"),
        Refused(#"{"prompt":"a","suffix":"b"}"#, "suffix", "unsupported_parameter", "gap"),
        Refused(#"{"prompt":"a","best_of":2}"#, "best_of", "unsupported_parameter", "'n'"),
        Refused(
            #"{"prompt":"a","max_tokens":0}"#, "max_tokens", "integer_below_min_value", ">= 1"),
        Refused(#"{"prompt":"a","logprobs":true}"#, "logprobs", "invalid_type", "an integer"),
        Refused(
            #"{"prompt":["a","b"],"n":65}"#, "prompt", "array_above_max_length",
            "more than 128 answers"),
        Refused(
            #"{"prompt":"a","messages":[]}"#, "messages", "unknown_parameter", "messages"),
        Refused("[]", "body", "invalid_type", "an object"),
    ]) func `a text completion names the field that it refuses`(_ refused: Refused) throws {
        let json = try JSON(parsing: refused.fields)
        let error = #expect(throws: APIError.self) { try CompletionRequest(json) }
        Self.check(error, refused)
    }

    @Test func `a body that is no JSON says where`() {
        let error = #expect(throws: APIError.self) { try JSON(body: Array("{\"a\":}".utf8)) }
        #expect(error?.status == 400)
        #expect(error?.code == "invalid_json")
        #expect(error?.message.contains("line 1, column 6") == true)
    }

    @Test func `the small requests check their fields too`() throws {
        let tokenize = #expect(throws: APIError.self) { try TokenizeRequest(["content": 3]) }
        #expect(tokenize?.param == "content")
        let detokenize = #expect(throws: APIError.self) { try DetokenizeRequest(["tokens": ["a"]]) }
        #expect(detokenize?.param == "tokens[0]")
        let resize = #expect(throws: APIError.self) { try CacheRequest(["memory": -1]) }
        #expect(resize?.param == "memory")
        #expect(try CacheRequest(["memory": "6GiB"]).memory == "6GiB")
        #expect(try CacheRequest(["memory": 4096]).memory == "4096")
        #expect(try DetokenizeRequest(["tokens": []]).tokens == [])
    }
}
