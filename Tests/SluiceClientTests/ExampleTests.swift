import SluiceClient
import Testing

/// The program that the README shows, as it stands there but for the address.
struct ExampleTests {
    private func example(_ sluice: SluiceClient, print: (String) -> Void) async throws {
        var request = ChatCompletionRequest(messages: [
            ChatMessage(role: .system, content: "You control the lights. Answer in one sentence."),
            ChatMessage(role: .user, content: "It is getting dark."),
        ])
        request.maximumTokens = 200
        request.sampling.temperature = 0
        request.tools = [
            ToolDefinition(
                name: "set_light", description: "Switches a room's light.",
                parameters: [
                    "type": "object", "required": ["room", "on"],
                    "properties": ["room": ["type": "string"], "on": ["type": "boolean"]],
                ])
        ]

        var answer = ChatCompletion.Message()
        do {
            for try await chunk in sluice.streamChat(request) {
                guard let choice = chunk.choices.first else { continue }
                print(choice.delta.content ?? "")
                answer.append(choice.delta)
            }
        } catch let error as ClientError {
            print("\(error)")
            return
        }

        for call in answer.toolCalls {
            let arguments = try JSON(parsing: call.arguments)
            print("\(call.name): \(arguments["room"]?.string ?? "?")")
            request.messages += [answer.asHistory]
            var result = ChatMessage(role: .tool, content: "done")
            result.toolCallID = call.id
            request.messages.append(result)
        }
        let last = try await sluice.chat(request)
        print(last.choices[0].message.content ?? "")
    }

    @Test func `the program of the README calls a tool and says so`() async throws {
        let chunk = #"data: {"id":"c","created":1,"model":"m","choices":[{"index":0,"delta":"#
        let stream = [
            #"{"role":"assistant","content":"A moment. "}}]}"#,
            #"{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"set_light"}}]}}]}"#,
            #"{"tool_calls":[{"index":0,"function":{"arguments":"{\"room\":\"hall\","}}]}}]}"#,
            #"{"tool_calls":[{"index":0,"function":{"arguments":"\"on\":true}"}}]}}]}"#,
        ].map { "\(chunk)\($0)\n\n" }.joined()
        try await FakeServer.run { connection in
            let body = try JSON(parsing: connection.request.body)
            if body["stream"] == true {
                #expect(body["tools"]?.array?.count == 1)
                try await connection.send(
                    Wire.eventStreamHead + Wire.chunk(stream + "data: [DONE]\n\n") + Wire.lastChunk)
            } else {
                let messages = body["messages"]?.array ?? []
                #expect(messages.count == 4)
                #expect(messages.last?["tool_call_id"] == "call_1")
                try await connection.send(Wire.json(AnswerTests.completion))
            }
        } _: { server async throws in
            var printed = ""
            try await example(server.client()) { printed += $0 }
            #expect(printed == "A moment. set_light: hallHi.")
        }
    }
}
