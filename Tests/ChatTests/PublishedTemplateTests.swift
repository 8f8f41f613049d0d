// The templates of many models, as their makers published them. They are not ours to ship: the
// tests run where somebody has put them beside the repository, in the folder `templates` of
// SLUICE_SHARED or of `../shared`.

import Constraints
import Foundation
import JSONTree
import OpenAIAPI
import Testing

@testable import Chat

/// The folder of templates, nil when there is none.
private let templateFolder: URL? = {
    let folder =
        if let shared = ProcessInfo.processInfo.environment["SLUICE_SHARED"] {
            URL(fileURLWithPath: shared)
        } else {
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("shared")
        }
    let templates = folder.appendingPathComponent("templates")
    return FileManager.default.fileExists(atPath: templates.path) ? templates : nil
}()

@Suite(.enabled(if: templateFolder != nil, "no folder ../shared/templates of published templates"))
struct PublishedTemplateTests {
    /// What each template shows of its model.
    static let families: [(String, ChatFamily)] = [
        ("Apriel-1.6-15b-Thinker-fixed", .apriel), ("Bielik-11B-v3.0-Instruct", .hermes),
        ("ByteDance-Seed-OSS", .seed), ("Cohere2MoE", .command),
        ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", .command), ("GLM-4.6", .glm),
        ("GLM-5.2", .glm), ("GigaChat3-10B-A1.8B", .gigachatHeader),
        ("GigaChat3.1-10B-A1.8B", .gigachat), ("HuggingFaceTB-SmolLM3-3B", .hermes),
        ("Kimi-K2-Instruct", .kimi), ("LFM2-8B-A1B", .lfm2), ("MiMo-VL", .hermes),
        ("Mistral-Small-3.2-24B-Instruct-2506", .mistralArguments),
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", .qwenCoder),
        ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", .hermes),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", .hermes), ("Qwen-QwQ-32B", .hermes),
        ("Qwen-Qwen2.5-7B-Instruct", .hermes), ("Qwen-Qwen3-0.6B", .hermes),
        ("Qwen3-Coder", .qwenCoder), ("Reka-Edge", .hermes), ("StepFun3.5-Flash", .qwenCoder),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", .deepseekR1),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", .deepseekR1),
        ("deepseek-ai-DeepSeek-V3.1", .deepseekV31), ("deepseek-ai-DeepSeek-V4", .deepseekML),
        ("google-gemma-2-2b-it", .hermes), ("ibm-granite-granite-3.3-2B-Instruct", .granite),
        ("llama-cpp-deepseek-r1", .deepseekR1), ("llama-cpp-rwkv-world", .hermes),
        ("meetkai-functionary-medium-v3.1", .functionary),
        ("meta-llama-Llama-3.1-8B-Instruct", .llama3),
        ("meta-llama-Llama-3.2-3B-Instruct", .llama3),
        ("meta-llama-Llama-3.3-70B-Instruct", .llama3),
        ("microsoft-Phi-3.5-mini-instruct", .hermes),
        ("mistralai-Ministral-3-14B-Reasoning-2512", .mistralArguments),
        ("mistralai-Mistral-Nemo-Instruct-2407", .mistral), ("moonshotai-Kimi-K2", .kimi),
        ("openai-gpt-oss-120b", .harmony), ("stepfun-ai-Step-3.5-Flash", .qwenCoder),
        ("unsloth-Apriel-1.5", .apriel), ("unsloth-mistral-Devstral-Small-2507", .mistralArguments),
    ]

    static func model(_ name: String) throws -> ChatModel {
        let folder = try #require(templateFolder)
        let text = try String(
            contentsOf: folder.appendingPathComponent(name + ".jinja"), encoding: .utf8)
        return try ChatModel(
            template: text, architecture: "", beginning: "<BOS>", end: "<EOS>",
            tokenTexts: { _ in false })
    }

    static let arguments = #"{"city": "Rome", "days": 3}"#

    static var request: ChatCompletionRequest {
        var request = ChatCompletionRequest(messages: [.init(role: .user, content: "Hi")])
        request.tools = [OutputParserTests.weather, OutputParserTests.time]
        return request
    }

    /// How the template itself writes a call: what it renders behind the prompt.
    private static func writtenCall(_ model: ChatModel) throws -> String {
        var prompt = try model.prompt(for: request, now: 0)
        // Templates that open the thoughts in the prompt leave them out of what was said.
        if let open = model.syntax.reasoning?.open, prompt.suffix(40).contains(open) {
            while !prompt.hasSuffix(open) { prompt.removeLast() }
            prompt.removeLast(open.count)
        }
        var said = request
        var message = ChatMessage(role: .assistant, content: "")
        message.toolCalls = [
            ToolCall(id: "functions.get_weather:0", name: "get_weather", arguments: arguments)
        ]
        said.messages.append(message)
        said.addsGenerationPrompt = false
        let whole = try model.prompt(for: said, now: 0)
        let common = zip(whole, prompt).prefix { $0 == $1 }.count
        #expect(whole.dropFirst(common).contains("get_weather"))
        return String(whole.dropFirst(common))
    }

    @Test(arguments: families)
    func `what a template writes is told apart again`(_ name: String, _ family: ChatFamily) throws {
        let model = try Self.model(name)
        #expect(model.family == family)
        let text = try Self.writtenCall(model)
        var parser = ChatOutputParser(
            model.syntax, tools: Self.request.tools, startsInReasoning: false,
            splitsReasoning: true, greatestCallCount: .max, idStyle: family.idStyle)
        let said = Said(parser.append(text) + parser.finish())
        #expect(said.calls.map(\.name) == ["get_weather"], "\(text)")
        let read = try JSON(parsing: said.calls.first?.arguments ?? "")
        #expect(try read == JSON(parsing: Self.arguments))
        #expect(said.reasoning == "")
        #expect(!said.content.contains("get_weather"))
    }

    @Test(arguments: families)
    func `what a template writes is a call that may be required`(
        _ name: String, _ family: ChatFamily
    ) throws {
        let model = try Self.model(name)
        // LFM2 writes Python, and what is required of it is JSON. One template forgets the end of a
        // section with a single call.
        if family == .lfm2 || name == "deepseek-ai-DeepSeek-R1-Distill-Llama-8B" { return }
        var request = Self.request
        request.toolChoice = .required
        let constraint = try #require(try model.constraint(for: request, .never))
        let text = try Self.writtenCall(model)
        let opening =
            switch family {
            case .llama3: "{"
            case .harmony: " to="
            default: model.syntax.openings[0].marker
            }
        let start = try #require(text.utf8.firstRange(of: opening.utf8)).lowerBound
        let bytes = Array(text.utf8[start...])
        let end = (1...bytes.count).first { constraint.matches(Array(bytes[..<$0])) }
        #expect(end != nil, "\(text)")
    }

    @Test func `tools show in every prompt, whatever the template knows`() throws {
        for (name, _) in Self.families {
            let model = try Self.model(name)
            var request = Self.request
            #expect(try model.prompt(for: request, now: 0).contains("get_weather"), "\(name)")
            request.toolChoice = .none
            #expect(try !model.prompt(for: request, now: 0).contains("get_weather"), "\(name)")
            request.messages.insert(.init(role: .developer, content: "Be brief."), at: 0)
            #expect(try model.prompt(for: request, now: 0).contains("Be brief."), "\(name)")
        }
    }

    /// A conversation of every kind of message, with two calls at once and ids of OpenAI's kind.
    @Test func `whole conversations can be rendered`() throws {
        for (name, _) in Self.families {
            let model = try Self.model(name)
            var request = Self.request
            var calling = ChatMessage(role: .assistant, content: "I look.")
            calling.reasoningContent = "Look it up."
            calling.toolCalls = [
                ToolCall(id: "call_1aB", name: "get_weather", arguments: Self.arguments),
                ToolCall(id: "call_2aB", name: "get_time", arguments: "{}"),
            ]
            var results = ["result one", "result two"].map {
                ChatMessage(role: .tool, content: $0)
            }
            results[0].toolCallID = "call_1aB"
            results[1].toolCallID = "call_2aB"
            request.messages += [calling] + results
            let text = try model.prompt(for: request, now: 0)
            for word in ["result one", "result two", "get_time", "Rome"] {
                #expect(text.contains(word), "\(name): \(text)")
            }
        }
    }
}
