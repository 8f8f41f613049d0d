import ExpertStreaming
import Inference

/// One way of running an engine, as `bench` compares them: words such as `cache=2x` or `io=pread`,
/// named like the options of the same meaning and applied on top of those.
struct EngineSetting {
    /// As it was given, for tables.
    let text: String
    private let words: [(name: String, value: String)]

    init(_ text: String) throws {
        self.text = text
        words = try text.split(whereSeparator: { $0 == " " || $0 == ";" }).map { word in
            let halves = word.split(separator: "=", maxSplits: 1).map(String.init)
            guard halves.count == 2 else {
                throw InputError("--setting '\(text)': '\(word)' is not NAME=VALUE")
            }
            return (halves[0], halves[1])
        }
    }

    /// Every combination of the settings with these cache sizes, separated by commas.
    static func all(_ texts: [String], caches sizes: String?) throws -> [EngineSetting] {
        let caches = try (sizes ?? "").split(separator: ",").map { text in
            guard let size = CacheSize(String(text)) else {
                throw InputError("--caches: '\(text)' is no cache size")
            }
            return size
        }
        let texts = texts.isEmpty ? [""] : texts
        guard !caches.isEmpty else { return try texts.map { try EngineSetting($0) } }
        return try caches.flatMap { cache in
            try texts.map {
                try EngineSetting($0.isEmpty ? "cache=\(cache)" : "cache=\(cache) \($0)")
            }
        }
    }

    /// - Parameter replaying: a recorded routing will be forced.
    func apply(to options: inout EngineOptions, replaying: Bool = false) throws {
        for (name, value) in words {
            switch name {
            case "cache": options.cache = try parsed(name, value, CacheSize(value))
            case "memory": options.memoryBytes = try parsed(name, value, ByteSize(value)).bytes
            case "threads": options.threads = try parsed(name, value, Int(value))
            case "io": options.io = try parsed(name, value, IOArgument(rawValue: value)).mode
            case "math": options.arithmetic = try parsed(name, value, Arithmetic(rawValue: value))
            case "policy": options.policy = try EvictionPolicy(value)
            case "plane-shares":
                options.planeShares = try parsed(
                    name, value, PlaneSharesArgument(argument: value)
                ).shares
            case "miss": options.missPolicy = try MissPolicy(value)
            case "predict":
                options.predictor =
                    try parsed(name, value, PredictorArgument(argument: value))
                    .checked(replaying: replaying)
            case "prefetch": options.prefetchRanks = try parsed(name, value, Int(value))
            case "governor":
                options.governsPrefetch = try parsed(
                    name, value, ["on": true, "off": false][value])
            case "warm-up": options.warmUp = try parsed(name, value, WarmUp(rawValue: value))
            default:
                throw InputError("--setting '\(text)': no setting is called '\(name)'")
            }
        }
    }

    private func parsed<Value>(_ name: String, _ value: String, _ result: Value?) throws -> Value {
        guard let result else {
            throw InputError("--setting '\(text)': '\(value)' is no value for \(name)")
        }
        return result
    }
}
