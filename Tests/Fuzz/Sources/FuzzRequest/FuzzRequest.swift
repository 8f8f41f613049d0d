// Bodies of requests of any bytes: an error that names what is wrong, or a request that is written as it
// was read, and that a template can render or refuse.

import Chat
import JSONTree
import OpenAIAPI

private let model: ChatModel = {
    let template = """
        {%- for message in messages -%}
        <|im_start|>{{ message.role }}
        {{ message.content }}{{ message.tool_calls }}<|im_end|>
        {% endfor -%}
        """
    guard
        let model = try? ChatModel(
            template: template, architecture: "qwen3moe", beginning: nil, end: nil,
            tokenTexts: { $0 == "<think>" })
    else { preconditionFailure("the template") }
    return model
}()

private func check(_ error: APIError) {
    precondition((400..<500).contains(error.status))
    precondition(APIError(json: error.json, status: error.status).message == error.message)
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    guard let kind = bytes.first else { return 0 }
    do throws(APIError) {
        let json = try JSON(body: Array(bytes.dropFirst()))
        switch kind % 6 {
        case 0, 1, 2:
            let request = try ChatCompletionRequest(json)
            let again = try ChatCompletionRequest(request.json)
            precondition(again == request)
            _ = try model.prompt(for: request, now: 0)
            var parser = model.parser(for: request)
            _ = parser.append("<tool_call>{") + parser.finish()
        case 3:
            let request = try CompletionRequest(json)
            let again = try CompletionRequest(request.json)
            precondition(again == request)
        case 4:
            _ = try TokenizeRequest(json)
            _ = try DetokenizeRequest(json)
        default:
            _ = try CacheRequest(json)
        }
    } catch {
        check(error)
    }
    // The same bytes as a server's answer.
    if let json = try? JSON(parsing: Array(bytes.dropFirst())) {
        if let chunk = try? ChatChunk(json: json) {
            var message = ChatCompletion.Message()
            for choice in chunk.choices { message.append(choice.delta) }
            _ = chunk.json.text
        }
        _ = (try? ChatCompletion(json: json))?.json.text
        _ = (try? Completion(json: json))?.json.text
    }
    return 0
}
