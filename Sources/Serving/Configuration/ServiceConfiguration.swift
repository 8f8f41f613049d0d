public import ExpertStreaming
import Logging

/// What an administrator may decide about a service, from a file or from the command line; nil where
/// nothing was said.
///
/// The keys of the file are the properties' names with underscores. An option of the command line
/// has the key's name and wins.
public struct ServiceConfiguration: Sendable, Equatable {
    /// File or directory of the model.
    public var model: String?
    /// The model's name in the API; nil takes the one in its file.
    public var alias: String?
    /// File with a Jinja template in place of the model's own.
    public var chatTemplate: String?

    /// Path of the Unix socket.
    public var socket: String?
    /// Permissions of the socket file: "0660".
    public var mode: UInt32?
    /// Group of the socket file.
    public var group: String?
    /// Addresses to listen at by TCP.
    public var listen: [ListeningSocket.Address]?
    /// An address that others can reach is meant.
    public var listenAnywhere: Bool?

    /// File with API keys, one per line.
    public var apiKeysFile: String?
    /// Whether keys are asked for on Unix sockets, too; they are unless this is false.
    public var keysOnSocket: Bool?
    /// Users and groups that may use the Unix socket, by name or number; nil: whoever may open it.
    public var allowedUsers: [String]?
    public var allowedGroups: [String]?

    /// Requests computed at the same time.
    public var slots: Int?
    /// Requests that wait.
    public var queue: Int?
    /// Seconds without work after which the expert cache is given back; 0 never.
    public var idleRelease: Double?
    /// Seconds without work after which a service that systemd can start again ends; 0 never.
    public var idleExit: Double?
    /// Seconds that running requests have when the service is stopped.
    public var drainTimeout: Double?
    /// Where prompts are kept across starts, and how much of them.
    public var prefixCache = PrefixCache()
    /// Longest body of a request, in bytes.
    public var bodyLimit: ByteSize?
    /// Connections at the same time.
    public var connections: Int?
    /// Least important log entries that are written.
    public var logLevel: LogLevel?
    /// What requests that do not say otherwise are sampled with.
    public var sampling = SamplingDefaults()

    /// Options of the engine as the command line takes them, without the dashes: `("cache", "2x")`.
    public var engine: [EngineOption] = []

    public init() {}

    public struct PrefixCache: Sendable, Equatable {
        public var directory: String?
        public var size: ByteSize?
    }

    public struct EngineOption: Sendable, Equatable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The least and greatest of what is bounded.
    enum Bounds {
        static let slots = 1...256
        static let queue = 1...65_536
        static let connections = 1...65_536
        static let seconds = 0.0...1e7
        static let bodyBytes = 1024...(1 << 30)
    }

    /// Keys whose value the engine's options take as text, as an integer, or as either.
    static let engineKeys = [
        "memory", "cache", "ctx", "chunk", "threads", "io", "math", "kv", "policy", "plane_shares",
        "miss", "profile", "expert_top_p", "expert_planes", "predict", "prefetch",
    ]

    /// Puts what `flags` say in the place of what the file says.
    public func overridden(by flags: ServiceConfiguration) -> ServiceConfiguration {
        var result = self
        func take<Value>(_ key: WritableKeyPath<ServiceConfiguration, Value?>) {
            if let value = flags[keyPath: key] { result[keyPath: key] = value }
        }
        take(\.model)
        take(\.alias)
        take(\.chatTemplate)
        take(\.socket)
        take(\.mode)
        take(\.group)
        take(\.listen)
        take(\.listenAnywhere)
        take(\.apiKeysFile)
        take(\.keysOnSocket)
        take(\.allowedUsers)
        take(\.allowedGroups)
        take(\.slots)
        take(\.queue)
        take(\.idleRelease)
        take(\.idleExit)
        take(\.drainTimeout)
        take(\.prefixCache.directory)
        take(\.prefixCache.size)
        take(\.bodyLimit)
        take(\.connections)
        take(\.logLevel)
        result.engine += flags.engine
        return result
    }

    /// What differs from `other` and takes effect only with a new start, by key.
    func needingRestart(since other: ServiceConfiguration) -> [String] {
        var keys: [String] = []
        func check<Value: Equatable>(_ name: String, _ key: KeyPath<ServiceConfiguration, Value>) {
            if self[keyPath: key] != other[keyPath: key] { keys.append(name) }
        }
        check("model", \.model)
        check("alias", \.alias)
        check("chat_template", \.chatTemplate)
        check("socket", \.socket)
        check("mode", \.mode)
        check("group", \.group)
        check("listen", \.listen)
        check("listen_anywhere", \.listenAnywhere)
        check("slots", \.slots)
        check("queue", \.queue)
        check("idle_release", \.idleRelease)
        check("idle_exit", \.idleExit)
        check("prefix_cache", \.prefixCache)
        check("body_limit", \.bodyLimit)
        check("connections", \.connections)
        for key in ServiceConfiguration.engineKeys where key != "memory" {
            if engineOption(key) != other.engineOption(key) { keys.append(key) }
        }
        return keys
    }

    /// The value of an option of the engine; nil if nothing was said.
    func engineOption(_ key: String) -> String? {
        let name = ServiceConfiguration.optionName(key)
        return engine.last { $0.name == name }?.value
    }

    static func optionName(_ key: String) -> String {
        String(key.map { $0 == "_" ? "-" : $0 })
    }
}

/// How tokens are drawn where a request does not say.
public struct SamplingDefaults: Sendable, Equatable {
    public var temperature: Double?
    public var topK: Int?
    public var topP: Double?
    public var minP: Double?
    public var typicalP: Double?
    public var repeatPenalty: Double?
    public var presencePenalty: Double?
    public var frequencyPenalty: Double?
    /// Most tokens of an answer; nil goes on to the context's end.
    public var maxTokens: Int?

    public init() {}
}

/// A span of time as people write it: "90", "90s", "10min", "2h", "1.5h".
public struct TimeSpan: Sendable {
    public var seconds: Double

    public init?(_ text: String) {
        let units = [("ms", 0.001), ("min", 60.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        let (suffix, factor) = units.first { text.hasSuffix($0.0) } ?? ("", 1)
        var number = text.dropLast(suffix.count)
        while number.last == " " { number.removeLast() }
        guard let first = number.first, first.isASCII, first.isNumber,
            number.utf8.allSatisfy({ (48...57).contains($0) || $0 == UInt8(ascii: ".") }),
            let value = Double(number), value.isFinite
        else { return nil }
        seconds = value * factor
    }
}

/// How important a log entry is.
public enum LogLevel: String, CaseIterable, Sendable {
    case trace, debug, info, notice, warning, error

    var level: Logger.Level {
        switch self {
        case .trace: .trace
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        }
    }
}
