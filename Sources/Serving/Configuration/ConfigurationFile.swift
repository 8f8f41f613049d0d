import ExpertStreaming
import TOMLKit

extension ServiceConfiguration {
    /// Reads a configuration file in TOML.
    ///
    /// - Throws: `ServiceError` with the file, the key and what it may be: for text that is no TOML
    ///   (with line and column), an unknown key, a value of another type or out of bounds.
    public init(path: String) throws(ServiceError) {
        try self.init(toml: try SmallTextFile.read(path, limitBytes: 1 << 20), path: path)
    }

    init(toml: String, path: String) throws(ServiceError) {
        guard !toml.utf8.contains(0) else {
            throw ServiceError("\(path): holds a byte of 0, which no TOML has")
        }
        let root: TOMLTable
        do {
            root = try TOMLTable(string: toml)
        } catch let error as TOMLParseError {
            throw ServiceError(
                "\(path): line \(error.source.begin.line), column \(error.source.begin.column): "
                    + "\(error.description)")
        } catch {
            throw ServiceError("\(path): \(error)")
        }
        self.init()
        var table = TableReader(root, path: path, prefix: "")
        model = try table.text("model")
        alias = try table.text("alias")
        chatTemplate = try table.text("chat_template")
        socket = try table.text("socket")
        mode = try table.parsed("mode", "permissions in octal digits in quotes, as \"0660\"") {
            SocketMode($0)?.bits
        }
        group = try table.text("group")
        listen = try table.addresses("listen")
        listenAnywhere = try table.flag("listen_anywhere")
        apiKeysFile = try table.text("api_keys_file")
        keysOnSocket = try table.flag("keys_on_socket")
        allowedUsers = try table.names("allowed_users")
        allowedGroups = try table.names("allowed_groups")
        slots = try table.integer("slots", Bounds.slots)
        queue = try table.integer("queue", Bounds.queue)
        idleRelease = try table.span("idle_release")
        idleExit = try table.span("idle_exit")
        drainTimeout = try table.span("drain_timeout")
        bodyLimit = try table.size("body_limit")
        if let bodyLimit, !Bounds.bodyBytes.contains(bodyLimit.bytes) {
            throw table.problem("body_limit", "a size between 1K and 1G")
        }
        connections = try table.integer("connections", Bounds.connections)
        logLevel = try table.parsed(
            "log_level",
            "one of " + LogLevel.allCases.map(\.rawValue).joined(separator: ", ")
        ) { LogLevel(rawValue: $0) }
        if var cache = try table.table("prefix_cache") {
            prefixCache.directory = try cache.text("directory")
            prefixCache.size = try cache.size("size")
            try cache.finish()
        }
        if var samples = try table.table("sampling") {
            sampling.temperature = try samples.number("temperature", 0...2)
            sampling.topK = try samples.integer("top_k", 0...1_000_000)
            sampling.topP = try samples.number("top_p", 0...1)
            sampling.minP = try samples.number("min_p", 0...1)
            sampling.typicalP = try samples.number("typical_p", 0...1)
            sampling.repeatPenalty = try samples.number("repeat_penalty", 0.01...100)
            sampling.presencePenalty = try samples.number("presence_penalty", -2...2)
            sampling.frequencyPenalty = try samples.number("frequency_penalty", -2...2)
            sampling.maxTokens = try samples.integer("max_tokens", 1...(1 << 30))
            try samples.finish()
        }
        for key in ServiceConfiguration.engineKeys {
            if let value = try table.word(key) {
                engine.append(
                    EngineOption(name: ServiceConfiguration.optionName(key), value: value))
            }
        }
        try table.finish()
    }
}

/// Permissions of a file as chmod takes them: three or four octal digits.
public struct SocketMode: Sendable {
    public var bits: UInt32

    public init?(_ text: String) {
        guard (3...4).contains(text.utf8.count), let bits = UInt32(text, radix: 8), bits <= 0o777
        else { return nil }
        self.bits = bits
    }
}

/// Takes the members of a table one by one, and names what is left.
private struct TableReader {
    private let table: TOMLTable
    private let path: String
    private let prefix: String
    private var known: Set<String> = []

    init(_ table: TOMLTable, path: String, prefix: String) {
        self.table = table
        self.path = path
        self.prefix = prefix
    }

    func problem(_ key: String, _ expected: String) -> ServiceError {
        let found = table[key].map { value -> String in
            if let text = value.string { return "\"\(text)\"" }
            if let number = value.int { return "\(number)" }
            if let number = value.double { return "\(number)" }
            if let flag = value.bool { return "\(flag)" }
            return "\(value.type)"
        }
        return ServiceError(
            "\(path): \(prefix)\(key): expected \(expected), found \(found ?? "nothing")")
    }

    private mutating func value(_ key: String) -> (any TOMLValueConvertible)? {
        known.insert(key)
        return table[key]
    }

    private mutating func checked<Value>(
        _ key: String, _ expected: String, _ convert: (any TOMLValueConvertible) -> Value?
    ) throws(ServiceError) -> Value? {
        guard let value = value(key) else { return nil }
        guard let converted = convert(value) else { throw problem(key, expected) }
        return converted
    }

    mutating func text(_ key: String) throws(ServiceError) -> String? {
        try checked(key, "text in quotes") { $0.string.flatMap { $0.isEmpty ? nil : $0 } }
    }

    mutating func flag(_ key: String) throws(ServiceError) -> Bool? {
        try checked(key, "true or false") { $0.bool }
    }

    mutating func parsed<Value>(
        _ key: String, _ expected: String, _ parse: (String) -> Value?
    ) throws(ServiceError) -> Value? {
        try checked(key, expected) { $0.string.flatMap(parse) }
    }

    mutating func integer(
        _ key: String, _ range: ClosedRange<Int>
    ) throws(ServiceError) -> Int? {
        try checked(key, "an integer from \(range.lowerBound) to \(range.upperBound)") {
            $0.int.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    mutating func number(
        _ key: String, _ range: ClosedRange<Double>
    ) throws(ServiceError) -> Double? {
        try checked(key, "a number from \(range.lowerBound) to \(range.upperBound)") { value in
            (value.double ?? value.int.map(Double.init)).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// Seconds as a number, or with a unit in quotes.
    mutating func span(_ key: String) throws(ServiceError) -> Double? {
        try checked(key, "seconds, or a time in quotes as \"90s\", \"10min\", \"2h\"") { value in
            let seconds =
                value.string.flatMap { TimeSpan($0)?.seconds } ?? value.double
                ?? value.int.map(Double.init)
            let allowed = ServiceConfiguration.Bounds.seconds
            return seconds.flatMap { allowed.contains($0) ? $0 : nil }
        }
    }

    mutating func size(_ key: String) throws(ServiceError) -> ByteSize? {
        try checked(key, "bytes, or a size in quotes as \"512M\", \"3G\"") { value in
            value.string.flatMap { ByteSize($0) }
                ?? value.int.flatMap { $0 >= 0 ? ByteSize(bytes: $0) : nil }
        }
    }

    /// What the command line would take as one word: text, or a number.
    mutating func word(_ key: String) throws(ServiceError) -> String? {
        try checked(key, "text in quotes, or a number") { value in
            value.string.flatMap { $0.isEmpty ? nil : $0 } ?? value.int.map { "\($0)" }
                ?? value.double.map { "\($0)" }
        }
    }

    /// Names or numbers of users and groups.
    mutating func names(_ key: String) throws(ServiceError) -> [String]? {
        try checked(key, "names or numbers in brackets, as [\"www-data\", 1000]") { value in
            value.array.flatMap { elements in
                var names: [String] = []
                for element in elements {
                    guard let name = element.string ?? element.int.map({ "\($0)" }), !name.isEmpty
                    else { return nil }
                    names.append(name)
                }
                return names
            }
        }
    }

    /// One address or several.
    mutating func addresses(
        _ key: String
    ) throws(ServiceError) -> [ListeningSocket.Address]? {
        try checked(key, "HOST:PORT with a numeric address or localhost, one or an array") {
            value in
            let texts = value.string.map { [$0] } ?? value.array?.map { $0.string ?? "" }
            return texts.flatMap { texts in
                let addresses = texts.compactMap {
                    ListeningSocket.Address(hostAndPort: $0)
                }
                return addresses.count == texts.count ? addresses : nil
            }
        }
    }

    mutating func table(_ key: String) throws(ServiceError) -> TableReader? {
        let (path, prefix) = (path, prefix)
        return try checked(key, "a table") { value in
            value.table.map { TableReader($0, path: path, prefix: "\(prefix)\(key).") }
        }
    }

    /// Refuses what nobody asked for: a key misspelt is a setting that is not in force.
    func finish() throws(ServiceError) {
        guard let unknown = table.keys.first(where: { !known.contains($0) }) else { return }
        throw ServiceError(
            "\(path): no key is called '\(prefix)\(unknown)'; there are "
                + known.sorted().map { prefix + $0 }.joined(separator: ", "))
    }
}
