import ArgumentParser
import ExpertStreaming
import Inference
import OpenAIAPI
import SluiceClient

/// `run` by a server: the same prompt and the same draw, computed by an engine that is there already.
extension RunCommand {
    func run(on address: SluiceClient.Address) throws {
        let client = ServiceArguments.client(address)
        let bytes = try promptText()
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw InputError(
                "the prompt is not UTF-8, and a server takes nothing else", code: Failure.badData)
        }
        _ = try ServerWait.untilReady(client)
        let seed = seed ?? .random(in: 0...UInt64(UInt32.max))
        let request = try request(seed: seed)
        // The server is asked for the tokens first: control tokens count as --parse-special says.
        let parsesSpecial = parseSpecial
        let isJSON = json
        let outcome = try Waiting.forTask {
            let ids = try await client.tokenize(
                text, addsSpecial: true, parsesSpecial: parsesSpecial)
            var request = request
            if !ids.isEmpty { request.prompts = [.tokens(ids)] }
            return isJSON
                ? try await client.complete(request) : try await Self.stream(request, client)
        }
        if isJSON {
            Console.out(outcome.json.text + "\n")
        } else {
            Console.out("\n")
            Console.error(Self.summary(outcome, seed: seed))
        }
    }

    private func request(seed: UInt64) throws -> CompletionRequest {
        guard let seed = Int(exactly: seed) else {
            throw InputError("--seed \(seed): a server takes seeds of at most \(Int.max)")
        }
        var request = CompletionRequest(prompts: [.text("")])
        request.includesUsage = true
        request.maximumTokens = count
        request.stops = stop
        request.ignoresEndOfText = ignoreEos
        request.sampling.temperature = Double(temperature)
        request.sampling.topK = topK
        request.sampling.topP = Double(topP)
        request.sampling.minP = Double(minP)
        request.sampling.repetitionPenalty = Double(repeatPenalty)
        request.sampling.presencePenalty = Double(presencePenalty)
        request.sampling.frequencyPenalty = Double(frequencyPenalty)
        request.sampling.seed = seed
        return request
    }

    /// Prints the answer as it comes. Returns its last piece, which has the figures.
    private static func stream(
        _ request: CompletionRequest, _ client: SluiceClient
    ) async throws -> Completion {
        var last: Completion?
        for try await piece in client.streamComplete(request) {
            if let text = piece.choices.first?.text { Console.out(text) }
            if last == nil || piece.usage != nil { last = piece }
        }
        guard let last else {
            throw InputError(
                "\(client.address): the answer has no pieces", code: Failure.unavailable)
        }
        return last
    }

    private static func summary(_ answer: Completion, seed: UInt64) -> String {
        var words: [String] = []
        if let usage = answer.usage {
            let prompt = "\(usage.promptTokens) tokens, \(usage.cachedTokens) cached"
            let decode = "\(usage.completionTokens) tokens"
            if let timings = answer.timings {
                words = [
                    "prefill \(fixed(timings.promptPerSecond, 1)) tok/s (\(prompt))",
                    "decode \(fixed(timings.predictedPerSecond, 1)) tok/s (\(decode))",
                    "queue \(fixed(timings.queueSeconds, 2)) s",
                ]
            } else {
                words = ["prefill \(prompt)", "decode \(decode)"]
            }
        }
        words.append("seed \(seed)")
        return words.joined(separator: " | ")
    }

    /// What is asked for that a server has settled for itself.
    var localOptions: [String] {
        let options: [(name: String, isGiven: Bool)] = [
            ("MODEL", model.model != nil),
            ("--replay-routing", replay.isGiven),
            ("--preload", preload),
            ("--warm-up", warmUp != .none),
            ("--task", task != nil),
            ("--stats", stats != nil),
        ]
        return options.filter(\.isGiven).map(\.name) + engine.given
    }
}

extension EngineArguments {
    /// The options that say anything else than their defaults.
    fileprivate var given: [String] {
        let defaults = MissArgument()
        let options: [(name: String, isGiven: Bool)] = [
            ("--memory", memory != nil),
            ("--cache", cache != .auto),
            ("--ctx", ctx != nil),
            ("--chunk", chunk != nil),
            ("--threads", threads != nil),
            ("--io", io != .auto),
            ("--math", math != .int8),
            ("--kv", kv != .f16),
            ("--policy", policy != .lfuDefault),
            ("--plane-shares", !planeShares.shares.isEmpty),
            (
                "--miss",
                miss.policy != defaults.policy
                    || miss.leavesSettingsToProfile != defaults.leavesSettingsToProfile
            ),
            ("--profile", profile != nil),
            ("--expert-top-p", expertTopP != nil),
            ("--expert-planes", expertPlanes != nil),
            ("--predict", predict.description != "none"),
            ("--prefetch", prefetch != 0),
        ]
        return options.filter(\.isGiven).map(\.name)
    }
}
