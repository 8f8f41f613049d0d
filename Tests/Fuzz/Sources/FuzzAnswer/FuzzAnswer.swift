// Answers of any text, in every family's syntax: however they are cut, the pieces add up to the same.

import Chat
import OpenAIAPI

private let tools = [
    ToolDefinition(name: "f", parameters: ["properties": ["a": ["type": "string"]]]),
    ToolDefinition(name: "g"),
]

/// One for each family: what its template shows of it, and the tools.
private let parsers: [ChatOutputParser] = [
    "<tool_call><think>", "<function=<tool_call><think>", "<seed:tool_call><seed:think>",
    "<function=", "[TOOL_CALLS]", "[TOOL_CALLS][ARGS][THINK]", "<|start_header_id|>\"parameters\"",
    "<｜tool▁calls▁begin｜>```json<think>", "<｜tool▁calls▁begin｜>", "｜DSML｜",
    "<|tool_calls_section_begin|>", "<arg_key><think>", "<|channel|><|message|>", "<|tool_call|>",
    "<|tool_list_start|>", "<tool_calls>", "<|START_ACTION|><|START_THINKING|>",
    "<|function_call|>",
    "function call<|role_sep|>",
].map { marks in
    var request = ChatCompletionRequest(messages: [ChatMessage(role: .user, content: "Hi")])
    request.tools = tools
    guard
        let model = try? ChatModel(
            template: marks + "{{ tools }}{{ messages[0].content }}", architecture: "",
            beginning: nil, end: nil, tokenTexts: { _ in false })
    else { preconditionFailure("the template of \(marks)") }
    return model.parser(for: request)
}

private func whole(_ deltas: [ChatDelta]) -> ChatCompletion.Message {
    var message = ChatCompletion.Message()
    for delta in deltas { message.append(delta.chunkDelta) }
    // Ids are random.
    for index in message.toolCalls.indices { message.toolCalls[index].id = "" }
    return message
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    guard bytes.count > 2 else { return 0 }
    let parser = parsers[Int(bytes[0]) % parsers.count]
    let text = String(decoding: bytes.dropFirst(2), as: UTF8.self)
    var once = parser
    let expected = whole(once.append(text) + once.finish())
    // In pieces of 1 to 8 characters.
    var cut = parser
    var deltas: [ChatDelta] = []
    var rest = Substring(text).unicodeScalars
    while !rest.isEmpty {
        let piece = rest.prefix(Int(bytes[1] % 8) + 1)
        rest = rest.dropFirst(piece.count)
        deltas += cut.append(String(piece))
    }
    precondition(whole(deltas + cut.finish()) == expected)
    return 0
}
