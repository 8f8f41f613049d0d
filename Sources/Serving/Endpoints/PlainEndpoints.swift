import Chat
import ExpertStreaming
import Generation
import Inference
import JSONTree
import Logging
import ModelFormats
import NIOHTTP1
import OpenAIAPI
import Tokenization

// Everything that answers at once.
extension Endpoints {
    // MARK: State

    /// 200 as soon as requests are taken, and until then 503 with what the service is doing.
    func health(_ exchange: Exchange) async throws {
        let (status, word): (Int, JSON) =
            switch context.scheduler.state {
            case .ready: (200, ["status": "ok"])
            case .loading(let share):
                (503, ["status": "loading", "progress": .number((share * 1000).rounded() / 1000)])
            case .draining, .stopped: (503, ["status": "stopping"])
            case .failed(let reason): (503, ["status": "failed", "reason": .string(reason)])
            }
        var answer = HTTPAnswer(.init(statusCode: status), json: word)
        if status == 503 { answer.headers.append(("retry-after", "2")) }
        try await exchange.send(answer)
    }

    func metrics(_ exchange: Exchange) async throws {
        let text = MetricsText.text(context, connections: connectionCount())
        try await exchange.send(
            HTTPAnswer(.ok, text, contentType: MetricsText.contentType))
    }

    func models(_ exchange: Exchange) async throws {
        try await exchange.send(HTTPAnswer(.ok, json: ModelList(models: [card]).json))
    }

    func model(_ name: String) -> @Sendable (Exchange) async throws -> Void {
        { exchange in
            try context.model.check(name)
            try await exchange.send(HTTPAnswer(.ok, json: card.json))
        }
    }

    private var card: ModelCard {
        let model = context.model
        var meta = JSONObject()
        meta["architecture"] = .string(model.description.architecture.name)
        meta["format"] = .string(model.description.file.formatName)
        meta["context_length"] = .integer(model.plan.context)
        meta["trained_context_length"] = .integer(model.description.contextLength)
        meta["vocabulary"] = .integer(model.description.vocabularyCount)
        meta["layers"] = .integer(model.description.layerCount)
        meta["experts"] = .integer(model.description.expertCount)
        meta["experts_per_token"] = .integer(model.description.expertsPerToken)
        meta["bytes"] = .integer(Int(model.description.file.fileSizes.reduce(0, +)))
        return ModelCard(id: model.id, created: model.created, meta: meta)
    }

    func properties(_ exchange: Exchange) async throws {
        let model = context.model
        let snapshot = context.scheduler.snapshot()
        let sampler = context.live.sampler(SamplingFields())
        func number(_ value: Float) -> JSON { .number(Double("\(value)") ?? Double(value)) }
        var properties = JSONObject()
        properties["model"] = .string(model.id)
        properties["model_path"] = .string(model.description.file.paths[0])
        properties["context"] = .integer(model.plan.context)
        properties["total_slots"] = .integer(model.plan.sequences)
        properties["chat_template"] = model.template.map { .string($0) } ?? .null
        properties["chat_template_problem"] = model.templateProblem.map { .string($0) }
        properties["bos_token"] = token(model.tokenizer.beginningOfSequence)
        properties["eos_token"] = token(model.tokenizer.endOfSequence)
        properties["default_generation_settings"] = [
            "temperature": number(sampler.temperature), "top_k": .integer(sampler.topK),
            "top_p": number(sampler.topP), "min_p": number(sampler.minP),
            "typical_p": number(sampler.typicalP),
            "repeat_penalty": number(sampler.repetitionPenalty),
            "presence_penalty": number(sampler.presencePenalty),
            "frequency_penalty": number(sampler.frequencyPenalty),
            "max_tokens": context.live.sampling.maxTokens.map { .integer($0) } ?? .null,
        ]
        properties["miss_policy"] = .string("\(model.options.missPolicy)")
        properties["threads"] = .integer(model.plan.threads)
        properties["chunk"] = .integer(model.plan.chunk)
        properties["memory"] = memory(snapshot)
        try await exchange.send(HTTPAnswer(.ok, json: .object(properties)))
    }

    private func token(_ id: Int32?) -> JSON {
        id.map { .string(context.model.tokenizer.text(of: $0)) } ?? .null
    }

    // MARK: Text and tokens

    func tokenize(_ exchange: Exchange) async throws {
        let request = try TokenizeRequest(try JSON(body: exchange.request.body))
        let tokenizer = context.model.tokenizer
        let ids = tokenizer.encode(
            request.content, addSpecial: request.addsSpecial, parseSpecial: request.parsesSpecial)
        let pieces =
            request.withPieces ? ids.map { tokenizer.bytes(of: $0, renderSpecial: true) } : nil
        try await exchange.send(
            HTTPAnswer(.ok, json: TokenizeRequest.answer(ids, pieces: pieces)))
    }

    func detokenize(_ exchange: Exchange) async throws {
        let request = try DetokenizeRequest(
            try JSON(body: exchange.request.body), limits: context.requestLimits)
        let tokenizer = context.model.tokenizer
        for (index, id) in request.tokens.enumerated()
        where id < 0 || Int(id) >= tokenizer.vocabularyCount {
            throw APIError.invalid(
                "Invalid 'tokens[\(index)]': \(id) is not one of the model's "
                    + "\(tokenizer.vocabularyCount) tokens.", param: "tokens[\(index)]",
                code: "invalid_value")
        }
        let bytes = request.tokens.flatMap { tokenizer.bytes(of: $0, renderSpecial: true) }
        try await exchange.send(
            HTTPAnswer(.ok, json: ["content": .string(String(decoding: bytes, as: UTF8.self))]))
    }

    func applyTemplate(_ exchange: Exchange) async throws {
        let request = try ChatCompletionRequest(
            try JSON(body: exchange.request.body), limits: context.requestLimits)
        let chat = try ChatEndpoint(context: context).usableChat()
        let prompt = try chat.prompt(for: request, now: WallClock.now())
        try await exchange.send(HTTPAnswer(.ok, json: ["prompt": .string(prompt)]))
    }

    // MARK: Cache

    func cache(_ exchange: Exchange) async throws {
        try await exchange.send(HTTPAnswer(.ok, json: cacheState))
    }

    /// `{"memory": "3G"}` gives the engine another budget, `{"release": true}` the expert cache back
    /// until the next request.
    func changeCache(_ exchange: Exchange) async throws {
        let json = try JSON(body: exchange.request.body)
        do {
            if json["release"] != nil, json["memory"] == nil {
                guard json["release"]?.bool == true, json.object?.count == 1 else {
                    throw APIError.invalid(
                        "Invalid 'release': expected true, and nothing else.", param: "release",
                        code: "invalid_value")
                }
                try await context.scheduler.releaseCache()
            } else {
                let request = try CacheRequest(json)
                guard let size = ByteSize(request.memory) else {
                    throw APIError.invalid(
                        "Invalid 'memory': expected bytes or a size such as '3G', but got '\(request.memory)'.",
                        param: "memory", code: "invalid_value")
                }
                try await context.scheduler.resize(memoryBytes: size.bytes)
                exchange.logger.notice("memory changed to \(size) by request")
            }
        } catch let error as EngineError {
            throw APIError.invalid("\(error)", param: "memory", code: "invalid_value")
        } catch let error as SchedulingError {
            throw APIError(error, promptField: "memory")
        } catch let error as StreamingError {
            throw APIError.unavailable("\(error)")
        }
        try await exchange.send(HTTPAnswer(.ok, json: cacheState))
    }

    private var cacheState: JSON {
        let snapshot = context.scheduler.snapshot()
        let streaming = snapshot.statistics.streaming
        let full = snapshot.plan.streaming.needs.fullBytes
        return [
            "memory": memory(snapshot), "released": .bool(snapshot.isCacheReleased),
            "experts_bytes": .integer(full),
            "active_set_bytes": .integer(snapshot.plan.streaming.needs.activeSetBytes),
            "hits": .integer(Int(streaming.hits)), "misses": .integer(Int(streaming.misses)),
            "hit_rate": .number(streaming.hitRate),
            "bytes_read": .integer(Int(streaming.bytesRead)),
            "evictions": .integer(Int(streaming.evictions)),
            "prefix_cache": [
                "files": .integer(snapshot.prefixCache.files),
                "bytes": .integer(snapshot.prefixCache.bytes),
            ],
        ]
    }

    /// Bytes by what they are for.
    private func memory(_ snapshot: SchedulerSnapshot) -> JSON {
        let plan = snapshot.plan
        return [
            "budget": .integer(plan.budgetBytes), "weights": .integer(plan.residentBytes),
            "key_values": .integer(plan.keyValueBytes), "states": .integer(plan.stateBytes),
            "scratch": .integer(plan.scratchBytes), "prediction": .integer(plan.predictionBytes),
            "process": .integer(plan.processBytes),
            "expert_cache": .integer(snapshot.cacheBytes),
            "least_budget": .integer(plan.resizeFloorBytes),
        ]
    }
}
