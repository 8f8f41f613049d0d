import Inference
import ModelFormats
import Testing

@testable import Generation
@testable import Tokenization

/// A tiny model, its engine's answers, and a scheduler's.
struct ServedModel {
    let model: ModelDescription
    let tokenizer: Tokenizer

    static let context = 96

    /// Where the model is.
    static let path: String = {
        let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false)
        return tests.dropLast(2).joined(separator: "/") + "/Fixtures/models/qwen3moe-k-quants.gguf"
    }()

    /// Models whose sequences have a state.
    static let statefulPaths = ["lfm2moe", "qwen3next"].map {
        path.replacing("models/qwen3moe-k-quants", with: "families/\($0)/\($0)")
    }

    init(path: String = ServedModel.path) throws {
        model = try ModelDescription(file: GGUFFile(path: path))
        tokenizer = try Tokenizer(metadata: model.file.metadata)
    }

    func options(slots: Int) -> EngineOptions {
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = ServedModel.context
        options.sequences = slots
        options.threads = 1
        options.chunk = 8
        return options
    }

    /// A scheduler that is ready.
    func scheduler(
        slots: Int, gate: Gate? = nil, _ change: (inout SchedulerSettings) -> Void = { _ in }
    ) async throws -> Scheduler {
        let scheduler = try loading(slots: slots) {
            if let gate { $0.beforeStep = { gate.pass() } }
            change(&$0)
        }
        try await scheduler.ready()
        return scheduler
    }

    func loading(
        slots: Int, settings change: (inout SchedulerSettings) -> Void = { _ in },
        options changeOptions: (inout EngineOptions) -> Void = { _ in }
    ) throws -> Scheduler {
        var settings = SchedulerSettings()
        settings.reactsToPressure = false
        change(&settings)
        var options = options(slots: slots)
        changeOptions(&options)
        let plan = try MemoryPlan(model: model, options: options)
        return Scheduler(
            model: model, options: options, plan: plan, tokenizer: tokenizer, settings: settings)
    }

    /// What an engine of its own answers, by the generator that has no slots.
    func alone(
        _ request: GenerationRequest, choice: Int = 0,
        _ changeOptions: (inout EngineOptions) -> Void = { _ in }
    ) throws -> GenerationResult {
        var options = options(slots: 1)
        changeOptions(&options)
        var engine = try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
        var sampler = request.sampler
        sampler.seed += UInt64(choice)
        var generator = Generator(
            sampler: sampler, stops: request.stops,
            maximumTokens: request.maximumTokens ?? ServedModel.context)
        generator.ignoresEndOfText = request.ignoresEndOfText
        return try generator.run(
            engine: &engine, tokenizer: tokenizer, prompt: request.prompt, receive: { _ in true })
    }

    /// A prompt of `count` ids that depends on `seed` alone.
    func prompt(_ seed: Int, count: Int) -> [Int32] {
        (0..<count).map { Int32(($0 * 7 + seed * 13 + $0 * $0 * seed) % model.vocabularyCount) }
    }

    func request(
        _ prompt: [Int32], tokens: Int? = 12, _ change: (inout GenerationRequest) -> Void = { _ in }
    ) -> GenerationRequest {
        var request = GenerationRequest(prompt: prompt)
        request.sampler.temperature = 0
        request.maximumTokens = tokens
        request.ignoresEndOfText = true
        change(&request)
        return request
    }
}

/// Lets an engine take so many steps, and then waits.
final class Gate: Sendable {
    private let steps: Monitor<Int>

    init(steps: Int) { self.steps = Monitor(steps) }

    /// For `SchedulerSettings.beforeStep`.
    func pass() {
        steps.wait(until: nil) { $0 == 0 }
        steps.withLock { $0 -= 1 }
    }

    func allow(_ more: Int) {
        steps.withLock { $0 += more }
        steps.signal()
    }

    func open() { allow(1 << 40) }
}

/// All events of a request.
struct Answer {
    var texts: [String] = []
    var logprobs: [[TokenLogprob]] = []
    var tokens: [Int] = []
    var reasons: [StopReason?] = []
    var stops: [String?] = []
    var cachedTokens: Int?
    var promptLogprobs: [TokenLogprob?]?
    var usage: GenerationUsage?

    /// - Parameter seen: called with every event.
    init(
        _ generation: Generation, choices: Int = 1,
        _ seen: (GenerationEvent) async throws -> Void = { _ in }
    ) async throws {
        texts = Array(repeating: "", count: choices)
        logprobs = Array(repeating: [], count: choices)
        tokens = Array(repeating: 0, count: choices)
        reasons = Array(repeating: nil, count: choices)
        stops = Array(repeating: nil, count: choices)
        for try await event in generation {
            #expect(usage == nil, "something comes after the end")
            switch event {
            case .started(let cached):
                #expect(cachedTokens == nil)
                cachedTokens = cached
            case .promptLogprobs(let all): promptLogprobs = all
            case .text(let choice, let text, let logprobs, let tokens):
                #expect(cachedTokens != nil && reasons[choice] == nil)
                texts[choice] += text
                self.logprobs[choice] += logprobs
                self.tokens[choice] += tokens
            case .finished(let choice, let reason, let stop):
                #expect(reasons[choice] == nil)
                reasons[choice] = reason
                stops[choice] = stop
            case .done(let usage): self.usage = usage
            }
            try await seen(event)
        }
        #expect(usage != nil, "the events ended without done")
        #expect(reasons.allSatisfy { $0 != nil })
        #expect(usage?.completionTokens == tokens.reduce(0, +))
    }
}
