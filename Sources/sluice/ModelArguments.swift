public import ArgumentParser
public import ExpertStreaming
import Glibc
public import Inference
import ModelFormats

/// Which model; see `ModelLocation`.
struct ModelArgument: ParsableArguments {
    @Argument(
        help: """
            GGUF file (of a split one, any part), package, or directory with config.json and safetensors; \
            none means the demo model.
            """)
    var model: String?
}

/// The options of every command that plans or loads a model.
struct EngineArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Ceiling on all memory the process takes, as in 3G or 800M; default: what the machine allows.",
            valueName: "size"))
    var memory: ByteSize?

    @Option(
        help: ArgumentHelp(
            """
            Memory for experts: 512M, 50% of them or all, 2x the experts one token uses, or auto (all \
            memory that is left).
            """,
            valueName: "size"))
    var cache: CacheSize = .auto

    @Option(
        help: ArgumentHelp(
            "Positions to keep; default: the model's, at most \(EngineOptions.defaultContext).",
            valueName: "tokens"))
    var ctx: Int?

    @Option(help: "Compute threads; default: every processor this process may use.")
    var threads: Int?

    @Option(
        help:
            "How experts are read: auto, direct (io_uring, O_DIRECT), buffered (io_uring) or pread."
    )
    var io: IOArgument = .auto

    @Option(help: "int8 (activations in 8 bits, as fast as it gets) or f32 (the slow reference).")
    var math: Arithmetic = .int8

    @Option(
        help: ArgumentHelp(
            "Which expert leaves the cache first: \(EvictionPolicy.names.joined(separator: ", ")).",
            valueName: "policy"),
        transform: { try EvictionPolicy($0) })
    var policy: EvictionPolicy = .lfuDefault

    @Option(
        help: ArgumentHelp(
            """
            Slots for the planes of a package's experts relative to those of the first, as 1,0.7: less than 1 \
            keeps more experts coarse and fewer whole.
            """,
            valueName: "shares"))
    var planeShares: PlaneSharesArgument = PlaneSharesArgument()

    @Option(
        help: ArgumentHelp(
            """
            What to do in decode when an expert is not in memory: \(MissPolicy.names.joined(separator: ", ")), \
            with settings as in fallback,T1=0.6,T2=0.9; all but exact change the answer, and how much of the \
            gate mass they touched is reported.
            """,
            valueName: "policy"),
        transform: { try MissPolicy($0) })
    var miss: MissPolicy = .exact

    @Option(
        help: ArgumentHelp(
            """
            Guess the next layers' experts in decode: none, next-gate[:layers ahead, 1 to 3], or, with \
            --replay-routing, recorded[:recall] (what will be chosen, with so many right).
            """,
            valueName: "predictor"))
    var predict: PredictorArgument = PredictorArgument()

    @Option(
        help: ArgumentHelp(
            "Guesses per layer to read ahead of time, best first; needs --predict.",
            valueName: "ranks"))
    var prefetch: Int = 0

    func validate() throws {
        if prefetch < 0 { throw ValidationError("--prefetch \(prefetch) is negative.") }
    }

    /// The options as the engine takes them.
    ///
    /// - Parameter replaying: a recorded routing will be forced.
    func options(replaying: Bool = false) throws -> EngineOptions {
        var options = EngineOptions()
        options.memoryBytes = memory?.bytes
        options.cache = cache
        options.context = ctx
        options.threads = threads
        options.io = io.mode
        options.arithmetic = math
        options.policy = policy
        options.planeShares = planeShares.shares
        options.missPolicy = miss
        options.predictor = try predict.checked(replaying: replaying)
        options.prefetchRanks = prefetch
        options.instructionSet = unsafe getenv("SLUICE_ISA").map { unsafe String(cString: $0) }
        return options
    }
}

extension ByteSize: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension CacheSize: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }

    public var defaultValueDescription: String { description }
}

enum IOArgument: String, ExpressibleByArgument, CaseIterable {
    case auto, direct, buffered, pread

    var mode: IOMode? { IOMode(rawValue: rawValue) }
}

extension Arithmetic: ExpressibleByArgument {}

/// Relative slot counts as `--plane-shares` takes them.
struct PlaneSharesArgument: ExpressibleByArgument, CustomStringConvertible {
    var shares: [Double] = []

    init() {}

    init?(argument: String) {
        for word in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let share = Double(word), share > 0, share <= 1 else { return nil }
            shares.append(share)
        }
    }

    var description: String {
        shares.isEmpty ? "1" : shares.map { "\($0)" }.joined(separator: ",")
    }
}

/// A predictor as `--predict` names it.
struct PredictorArgument: ExpressibleByArgument, CustomStringConvertible {
    var predictor = Predictor.none

    init() {}

    init?(argument: String) {
        let words = argument.split(separator: ":", omittingEmptySubsequences: false)
        switch (words[0], words.count) {
        case ("none", 1): break
        case ("next-gate", 1): predictor = .nextGate(layers: 1)
        case ("next-gate", 2):
            guard let layers = Int(words[1]), (1...Predictor.mostLayersAhead).contains(layers)
            else { return nil }
            predictor = .nextGate(layers: layers)
        case ("recorded", 1): predictor = .recorded(recall: 1)
        case ("recorded", 2):
            guard let recall = Double(words[1]), (0...1).contains(recall) else { return nil }
            predictor = .recorded(recall: recall)
        default: return nil
        }
    }

    /// The predictor, where it can work.
    ///
    /// - Parameter replaying: a recorded routing will be forced.
    func checked(replaying: Bool) throws -> Predictor {
        if case .recorded = predictor, !replaying {
            throw InputError(
                "--predict \(self) guesses from a recording; give one with --replay-routing "
                    + "(of 'run' and 'bench speed')")
        }
        return predictor
    }

    var description: String {
        switch predictor {
        case .none: "none"
        case .nextGate(let layers): "next-gate:\(layers)"
        case .path: "path"
        case .learned: "learned"
        case .recorded(let recall): "recorded:\(recall)"
        }
    }

    var defaultValueDescription: String { description }
}

/// Where models are found.
enum ModelLocation {
    /// The path of `name`: itself, or the demo model's for none and for the word demo.
    ///
    /// The demo model is looked for at $SLUICE_DEMO_MODEL, then in every folder above the
    /// executable (a checkout), then where a package installs it.
    static func path(_ name: String?) throws -> String {
        if let name, name != "demo" { return name }
        if let variable = unsafe getenv("SLUICE_DEMO_MODEL") {
            return unsafe String(cString: variable)
        }
        var folder = executableFolder()
        while let last = folder.lastIndex(of: "/") {
            let candidate = "\(folder)/tools/demo-model/sluice-demo.gguf"
            if unsafe access(candidate, R_OK) == 0 { return candidate }
            folder = String(folder[..<last])
        }
        let installed = "/usr/share/sluice/sluice-demo.gguf"
        if unsafe access(installed, R_OK) == 0 { return installed }
        throw InputError(
            "no MODEL given and the demo model is not installed; name a GGUF file, or set "
                + "SLUICE_DEMO_MODEL to the demo model's path", code: Failure.noInput)
    }

    /// Opens and checks the model.
    static func open(_ name: String?) throws -> ModelDescription {
        try ModelDescription(file: file(name))
    }

    /// Opens the files of a model, which may hold no more than a vocabulary.
    static func file(_ name: String?) throws -> ModelFile {
        let path = try path(name)
        guard unsafe access(path, R_OK) == 0 else {
            throw InputError(
                "\(path): cannot be opened: \(Console.reason())", code: Failure.noInput)
        }
        return try ModelFile(path: path)
    }

    private static func executableFolder() -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let length = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        guard length > 0 else { return "" }
        let path = String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }
}
