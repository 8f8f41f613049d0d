public import JSONTree

/// Tokens that a request took.
public struct Usage: Sendable, Equatable {
    public var promptTokens: Int
    /// Of all choices.
    public var completionTokens: Int
    /// Of the prompt, found in the prefix cache.
    public var cachedTokens: Int
    /// Of the completion, before the answer; nil where nobody counted.
    public var reasoningTokens: Int?

    public init(
        promptTokens: Int, completionTokens: Int, cachedTokens: Int = 0, reasoningTokens: Int? = nil
    ) {
        self.promptTokens = promptTokens
        self.completionTokens = completionTokens
        self.cachedTokens = cachedTokens
        self.reasoningTokens = reasoningTokens
    }

    public var totalTokens: Int { promptTokens + completionTokens }

    public var json: JSON {
        var object = JSONObject()
        object["prompt_tokens"] = .integer(promptTokens)
        object["completion_tokens"] = .integer(completionTokens)
        object["total_tokens"] = .integer(totalTokens)
        object["prompt_tokens_details"] = ["cached_tokens": .integer(cachedTokens)]
        if let reasoningTokens {
            object["completion_tokens_details"] = ["reasoning_tokens": .integer(reasoningTokens)]
        }
        return .object(object)
    }

    init?(json: JSON?) {
        guard let json, json.object != nil else { return nil }
        self.init(
            promptTokens: json["prompt_tokens"]?.integer ?? 0,
            completionTokens: json["completion_tokens"]?.integer ?? 0,
            cachedTokens: json["prompt_tokens_details"]?["cached_tokens"]?.integer ?? 0,
            reasoningTokens: json["completion_tokens_details"]?["reasoning_tokens"]?.integer)
    }
}

/// How long a request took, under the names that llama-server gives it.
public struct Timings: Sendable, Equatable {
    /// Tokens of the prompt found in the prefix cache, and those computed.
    public var cachedTokens: Int
    public var promptTokens: Int
    public var promptSeconds: Double
    /// Tokens of all choices.
    public var predictedTokens: Int
    public var predictedSeconds: Double
    /// Before a slot was free.
    public var queueSeconds: Double

    public init(
        cachedTokens: Int, promptTokens: Int, promptSeconds: Double, predictedTokens: Int,
        predictedSeconds: Double, queueSeconds: Double = 0
    ) {
        self.cachedTokens = cachedTokens
        self.promptTokens = promptTokens
        self.promptSeconds = promptSeconds
        self.predictedTokens = predictedTokens
        self.predictedSeconds = predictedSeconds
        self.queueSeconds = queueSeconds
    }

    public var predictedPerSecond: Double { Self.rate(predictedTokens, predictedSeconds) }
    public var promptPerSecond: Double { Self.rate(promptTokens, promptSeconds) }

    private static func rate(_ tokens: Int, _ seconds: Double) -> Double {
        seconds > 0 ? Double(tokens) / seconds : 0
    }

    public var json: JSON {
        func perToken(_ seconds: Double, _ tokens: Int) -> JSON {
            .number(tokens > 0 ? seconds * 1000 / Double(tokens) : 0)
        }
        return [
            "cache_n": .integer(cachedTokens), "prompt_n": .integer(promptTokens),
            "prompt_ms": .number(promptSeconds * 1000),
            "prompt_per_token_ms": perToken(promptSeconds, promptTokens),
            "prompt_per_second": .number(promptPerSecond),
            "predicted_n": .integer(predictedTokens),
            "predicted_ms": .number(predictedSeconds * 1000),
            "predicted_per_token_ms": perToken(predictedSeconds, predictedTokens),
            "predicted_per_second": .number(predictedPerSecond),
            "queue_ms": .number(queueSeconds * 1000),
        ]
    }

    init?(json: JSON?) {
        guard let json, json.object != nil else { return nil }
        func seconds(_ name: String) -> Double { (json[name]?.number ?? 0) / 1000 }
        self.init(
            cachedTokens: json["cache_n"]?.integer ?? 0,
            promptTokens: json["prompt_n"]?.integer ?? 0, promptSeconds: seconds("prompt_ms"),
            predictedTokens: json["predicted_n"]?.integer ?? 0,
            predictedSeconds: seconds("predicted_ms"), queueSeconds: seconds("queue_ms"))
    }
}

/// What the miss policy did to the router's choices while an answer was computed: the `sluice`
/// object of a response. Shares are of the gate mass in decode and add up to 1; all else are
/// counts.
public struct ExpertAccounting: Sendable, Equatable {
    /// The miss policy's name.
    public var policy: String
    /// Share computed as chosen with so many planes, by their number from 1 on.
    public var massByPlanes: [Double]
    public var skippedMass: Double
    public var swappedMass: Double
    /// Added one layer later.
    public var deferredMass: Double
    /// Experts that the router chose: k for each token and layer.
    public var choices: Int
    /// Of those, computed with fewer planes than there are.
    public var narrowed: Int
    public var skipped: Int
    public var swapped: Int
    public var deferred: Int
    /// Experts computed with 1 ... 4 planes, prompt included.
    public var expertsByPlanes: [Int]

    public init(
        policy: String, massByPlanes: [Double], skippedMass: Double, swappedMass: Double,
        deferredMass: Double, choices: Int, narrowed: Int, skipped: Int, swapped: Int,
        deferred: Int, expertsByPlanes: [Int]
    ) {
        self.policy = policy
        self.massByPlanes = massByPlanes
        self.skippedMass = skippedMass
        self.swappedMass = swappedMass
        self.deferredMass = deferredMass
        self.choices = choices
        self.narrowed = narrowed
        self.skipped = skipped
        self.swapped = swapped
        self.deferred = deferred
        self.expertsByPlanes = expertsByPlanes
    }

    public var json: JSON {
        [
            "policy": .string(policy), "mass_by_planes": .array(massByPlanes.map { .number($0) }),
            "skipped_mass": .number(skippedMass), "swapped_mass": .number(swappedMass),
            "deferred_mass": .number(deferredMass), "choices": .integer(choices),
            "narrowed": .integer(narrowed), "skipped": .integer(skipped),
            "swapped": .integer(swapped), "deferred": .integer(deferred),
            "experts_by_planes": .array(expertsByPlanes.map { .integer($0) }),
        ]
    }

    init?(json: JSON?) {
        guard let json, json.object != nil else { return nil }
        func mass(_ name: String) -> Double { json[name]?.number ?? 0 }
        func count(_ name: String) -> Int { json[name]?.integer ?? 0 }
        self.init(
            policy: json["policy"]?.string ?? "",
            massByPlanes: json["mass_by_planes"]?.array?.compactMap(\.number) ?? [],
            skippedMass: mass("skipped_mass"), swappedMass: mass("swapped_mass"),
            deferredMass: mass("deferred_mass"), choices: count("choices"),
            narrowed: count("narrowed"), skipped: count("skipped"), swapped: count("swapped"),
            deferred: count("deferred"),
            expertsByPlanes: json["experts_by_planes"]?.array?.compactMap(\.integer) ?? [])
    }
}
