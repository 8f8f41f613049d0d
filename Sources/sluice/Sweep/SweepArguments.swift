import ArgumentParser
import ExpertStreaming
import Glibc

/// What varies in a sweep. Every combination is a point.
struct SweepArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Cache sizes: multiples of what a token uses, shares of all experts, bytes, or auto.",
            valueName: "sizes"))
    var cache = "1x,1.5x,2x,3x,4x,6x,8x,100%"

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp("As of 'run'; may be given several times.", valueName: "policy"))
    var policy: [String] = []

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp("As --predict of 'run'; may be given several times.", valueName: "name"))
    var predictor: [String] = []

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp("As of 'run'; may be given several times.", valueName: "policy"))
    var miss: [String] = []

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "More settings, as 'io=pread prefetch=4'; may be given several times.",
            valueName: "words"))
    var setting: [String] = []

    @Option(
        help: ArgumentHelp(
            """
            Memory of each point's control group, page cache included, as 3G,8G; none for no limit; default: \
            what the plan of the point says it takes.
            """,
            valueName: "sizes"))
    var memoryLimit: String?

    @Option(
        help: ArgumentHelp(
            "The disk is held to so many bytes per second, as 860M,1.6G (10^6, 10^9); default: not.",
            valueName: "rates"))
    var diskLimit: String?

    @Option(help: ArgumentHelp("Compute threads; default: as 'run'.", valueName: "count"))
    var threads: Int?

    /// Settings without the cache, in words; the caches, in words.
    func settings() throws -> (caches: [String], others: [String]) {
        let caches = cache.split(separator: ",").map(String.init)
        for cache in caches where CacheSize(cache) == nil {
            throw InputError("--cache: '\(cache)' is no cache size")
        }
        guard !caches.isEmpty else { throw InputError("--cache '' names no size") }
        var others = [""]
        func multiply(_ name: String?, _ values: [String]) {
            guard !values.isEmpty else { return }
            others = others.flatMap { before in
                values.map { value in
                    [before, name.map { "\($0)=\(value)" } ?? value].filter { !$0.isEmpty }
                        .joined(separator: " ")
                }
            }
        }
        multiply("policy", policy)
        multiply("predict", predictor)
        multiply("miss", miss)
        multiply(nil, setting)
        for other in others {
            let words = try EngineSetting(other)
            var arguments = try EngineArguments.parse([])
            try words.apply(to: &arguments)
        }
        return (caches, others)
    }

    /// Memory limits; nil stands for none, an empty list for the plan's own.
    func memoryLimits() throws -> [Int?] {
        try (memoryLimit ?? "").split(separator: ",").map { word in
            if word == "none" { return nil }
            guard let size = ByteSize(String(word)) else {
                throw InputError("--memory-limit: '\(word)' is no size; try 3G")
            }
            return size.bytes
        }
    }

    func diskLimits() throws -> [Double?] {
        guard let diskLimit else { return [nil] }
        return try diskLimit.split(separator: ",").map { word in
            if word == "none" { return nil }
            let units: [Character: Double] = ["k": 1e3, "M": 1e6, "G": 1e9]
            guard let unit = word.last.flatMap({ units[$0] }), let number = Double(word.dropLast()),
                number > 0, number * unit >= 1e5, number * unit < 1e12
            else {
                throw InputError(
                    "--disk-limit: '\(word)' is no rate; try 860M or 1.6G (bytes per second)")
            }
            return number * unit
        }
    }
}

/// How peers take part.
struct PeerArguments: ParsableArguments {
    @Flag(
        help: """
            Measure llama.cpp, too: its defaults, and the best of its settings that a short search finds. \
            Needs Python with llama-cpp-python, and a checkout.
            """)
    var llamaCpp = false

    @Option(help: ArgumentHelp("Python of the peers.", valueName: "program"))
    var python = "python3"

    @Option(
        help: ArgumentHelp("Tokens of every run of the search.", valueName: "tokens"))
    var searchTokens = 6

    @Option(
        help: ArgumentHelp(
            "A peer's run ends after so long, with the tokens that it has (two at least).",
            valueName: "seconds"))
    var peerSeconds = 40.0
}
