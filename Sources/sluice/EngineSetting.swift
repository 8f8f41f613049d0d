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

    /// Puts its words in the place of the options of the same meaning.
    func apply(to arguments: inout EngineArguments) throws {
        for (name, value) in words {
            switch name {
            case "cache": arguments.cache = try parsed(name, value, CacheSize(value))
            case "memory": arguments.memory = try parsed(name, value, ByteSize(value))
            case "ctx": arguments.ctx = try parsed(name, value, Int(value))
            case "chunk": arguments.chunk = try parsed(name, value, Int(value))
            case "threads": arguments.threads = try parsed(name, value, Int(value))
            case "io": arguments.io = try parsed(name, value, IOArgument(rawValue: value))
            case "math": arguments.math = try parsed(name, value, Arithmetic(rawValue: value))
            case "kv": arguments.kv = try parsed(name, value, KeyValueFormat(rawValue: value))
            case "policy": arguments.policy = try EvictionPolicy(value)
            case "plane-shares":
                arguments.planeShares = try parsed(
                    name, value, PlaneSharesArgument(argument: value))
            case "miss": arguments.miss = try MissArgument(value)
            case "profile": arguments.profile = value
            case "expert-top-p": arguments.expertTopP = try parsed(name, value, Double(value))
            case "expert-planes": arguments.expertPlanes = try parsed(name, value, Int(value))
            case "predict":
                arguments.predict = try parsed(name, value, PredictorArgument(argument: value))
            case "prefetch": arguments.prefetch = try parsed(name, value, Int(value))
            // Of the engine, not of the command: see below.
            case "governor", "warm-up": break
            default:
                throw InputError("--setting '\(text)': no setting is called '\(name)'")
            }
        }
    }

    /// Applies the words that name what only the engine's options have.
    func apply(to options: inout EngineOptions) throws {
        for (name, value) in words {
            switch name {
            case "governor":
                options.governsPrefetch = try parsed(
                    name, value, ["on": true, "off": false][value])
            case "warm-up": options.warmUp = try parsed(name, value, WarmUp(rawValue: value))
            default: break
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
