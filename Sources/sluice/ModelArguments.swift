public import ArgumentParser
public import ExpertStreaming
import Glibc
public import Inference
import ModelFormats
import Profiling

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

    @Option(
        help: ArgumentHelp(
            """
            Tokens of a prompt computed together: more are faster and take more memory; default: what a 32nd \
            of the memory has room for, 32 to 1024.
            """,
            valueName: "tokens"))
    var chunk: Int?

    @Option(
        help: "Compute threads; default: one for each big core that this process may use.")
    var threads: Int?

    @Option(
        help:
            "How experts are read: auto, direct (io_uring, O_DIRECT), buffered (io_uring) or pread."
    )
    var io: IOArgument = .auto

    @Option(help: "int8 (activations in 8 bits, as fast as it gets) or f32 (the slow reference).")
    var math: Arithmetic = .int8

    @Option(
        help: """
            Keys and values of past tokens: f16, or q8_0 in half the memory and nearly the same answers; \
            f32 under --math f32.
            """)
    var kv: KeyValueFormat = .f16

    @Option(
        help: ArgumentHelp(
            """
            Which expert leaves the cache first: \(EvictionPolicy.names.joined(separator: ", ")). Not asked in \
            a dense model, where the layer that comes round last leaves.
            """,
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
            gate mass they touched is reported. A bare fallback takes the settings that the model's profile \
            was calibrated with, if it was.
            """,
            valueName: "policy"),
        transform: { try MissArgument($0) })
    var miss = MissArgument()

    @Option(
        help: ArgumentHelp(
            """
            Profile whose super experts are kept in memory and never approximated, under every --miss but \
            exact; default: the package's own, or MODEL.profile.json where there is one.
            """,
            valueName: "file"))
    var profile: String?

    @Option(
        help: ArgumentHelp(
            """
            Compute only the best experts of a token that together have this router probability, at most the \
            model's number: fewer where the router is sure. An approximation, in prompts, too, of a model \
            that was not trained so; how many were computed is reported. Default: the model's own rule.
            """,
            valueName: "probability"))
    var expertTopP: Double?

    @Option(
        help: ArgumentHelp(
            """
            Compute every expert with its first planes only, whatever is in memory: for measuring what a \
            prefix costs; default: all.
            """,
            valueName: "planes"))
    var expertPlanes: Int?

    @Option(
        help: ArgumentHelp(
            """
            Guess the next layers' experts in decode: none, next-gate[:layers ahead, 1 to 3], what \
            train-predictor wrote, as learned:FILE or path:FILE, or, with --replay-routing, \
            recorded[:recall] (what will be chosen, with so many right).
            """,
            valueName: "predictor"))
    var predict: PredictorArgument = .none

    @Option(
        help: ArgumentHelp(
            "Guesses per layer to read ahead of time, best first; needs --predict, or a dense model.",
            valueName: "ranks"))
    var prefetch: Int = 0

    func validate() throws {
        if prefetch < 0 { throw ValidationError("--prefetch \(prefetch) is negative.") }
        if let expertTopP, !(expertTopP > 0 && expertTopP <= 1) {
            throw ValidationError("--expert-top-p \(expertTopP) is not above 0, up to 1.")
        }
    }

    /// The options as the engine takes them, with the files they name read for `model`.
    ///
    /// - Parameter replaying: a recorded routing will be forced.
    func options(
        for model: ModelDescription, replaying: Bool = false
    ) throws -> EngineOptions {
        var options = EngineOptions()
        options.memoryBytes = memory?.bytes
        options.cache = cache
        options.context = ctx
        options.chunk = chunk
        options.threads = threads
        options.pinsLeader = true
        options.io = io.mode
        options.arithmetic = math
        options.keyValues = kv
        options.policy = policy
        options.planeShares = planeShares.shares
        options.missPolicy = miss.policy
        options.expertTopP = expertTopP
        options.expertPlanes = expertPlanes
        options.predictor = try predict.predictor(for: model, replaying: replaying)
        options.prefetchRanks = prefetch
        options.instructionSet = unsafe getenv("SLUICE_ISA").map { unsafe String(cString: $0) }
        if miss.policy != .exact, let profile = try ModelLocation.profile(profile, of: model) {
            options.protectedExperts = Set(
                profile.superExperts.map { LayerExpert(layer: $0.layer, expert: $0.expert) })
            if miss.leavesSettingsToProfile, let fallback = profile.fallback,
                fallback.planesPerExpert == model.planesPerExpert
            {
                options.missPolicy = fallback.policy
            }
        }
        return options
    }
}

/// A miss policy as `--miss` names it.
struct MissArgument: CustomStringConvertible {
    var policy = MissPolicy.exact
    /// Whether it is a fallback that names no setting.
    var leavesSettingsToProfile = false

    init() {}

    init(_ text: String) throws {
        policy = try MissPolicy(text)
        leavesSettingsToProfile = text == "fallback"
    }

    var description: String { policy.description }
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
extension KeyValueFormat: ExpressibleByArgument {}

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
enum PredictorArgument: ExpressibleByArgument, CustomStringConvertible {
    case none
    case nextGate(layers: Int)
    case learned(file: String)
    case path(file: String)
    case recorded(recall: Double)

    init?(argument: String) {
        let words = argument.split(separator: ":", maxSplits: 1).map(String.init)
        switch (words.first, words.count) {
        case ("none", 1) where argument == "none": self = .none
        case ("next-gate", 1) where argument == "next-gate": self = .nextGate(layers: 1)
        case ("next-gate", 2):
            guard let layers = Int(words[1]), (1...Predictor.mostLayersAhead).contains(layers)
            else { return nil }
            self = .nextGate(layers: layers)
        case ("learned", 2): self = .learned(file: words[1])
        case ("path", 2): self = .path(file: words[1])
        case ("recorded", 1): self = .recorded(recall: 1)
        case ("recorded", 2):
            guard let recall = Double(words[1]), (0...1).contains(recall) else { return nil }
            self = .recorded(recall: recall)
        default: return nil
        }
    }

    /// The predictor, read from its file if it has one.
    ///
    /// - Parameter replaying: a recorded routing will be forced.
    func predictor(for model: ModelDescription, replaying: Bool) throws -> Predictor {
        let path: String
        switch self {
        case .none: return .none
        case .nextGate(let layers): return .nextGate(layers: layers)
        case .recorded(let recall):
            guard replaying else {
                throw InputError(
                    "--predict \(self) guesses from a recording; give one with --replay-routing "
                        + "(of 'run' and 'bench speed')")
            }
            return .recorded(recall: recall)
        case .learned(let file), .path(let file): path = file
        }
        try Console.requireReadable(path)
        let file = try PredictorFile(
            bytes: WholeFile.read(path, limit: PredictorFile.limitBytes), path: path,
            of: ModelFingerprint(model))
        switch (self, file) {
        case (.learned, .path), (.path, .learned):
            throw InputError(
                "--predict \(self): the file holds the other kind of predictor; name it as that")
        default: break
        }
        return try file.predictor()
    }

    var description: String {
        switch self {
        case .none: "none"
        case .nextGate(let layers): "next-gate:\(layers)"
        case .learned(let file): "learned:\(file)"
        case .path(let file): "path:\(file)"
        case .recorded(let recall): "recorded:\(recall)"
        }
    }

    var defaultValueDescription: String { description }
}

extension ModelDescription {
    /// Refuses a dense model for what records or learns from the choices of routers.
    func requireRouters() throws(InputError) {
        guard isDense else { return }
        throw InputError(
            "\(name) is dense: every token uses all of it, so no router's choices can be recorded or "
                + "learned from; give a model with experts")
    }
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
        if let file = besideExecutable(
            "tools/demo-model/sluice-demo.gguf", installed: "/usr/share/sluice/sluice-demo.gguf")
        {
            return file
        }
        throw InputError(
            "no MODEL given and the demo model is not installed; name a GGUF file, or set "
                + "SLUICE_DEMO_MODEL to the demo model's path", code: Failure.noInput)
    }

    /// A file or folder of a checkout that the executable lies in, or where a package installs it.
    static func besideExecutable(_ path: String, installed: String?) -> String? {
        var folder = executableFolder()
        while let last = folder.lastIndex(of: "/") {
            let candidate = "\(folder)/\(path)"
            if unsafe access(candidate, R_OK) == 0 { return candidate }
            folder = String(folder[..<last])
        }
        return installed.flatMap { unsafe access($0, R_OK) == 0 ? $0 : nil }
    }

    /// Opens and checks the model.
    ///
    /// - Parameter reads: whether its weights will be read. Those of a checkpoint that do not lie as
    ///   they are read are rewritten first, which takes time and disk.
    static func open(_ name: String?, reads: Bool = true) throws -> ModelDescription {
        try ModelDescription(file: file(name, reads: reads))
    }

    /// Where the profile of a model of several files or a directory lies, too: beside the first of
    /// them, or beside the directory.
    static func profilePath(of model: ModelDescription) -> String {
        let first = model.file.paths[0]
        guard case .checkpoint = model.file.kind, let slash = first.lastIndex(of: "/") else {
            return ModelProfile.defaultPath(model: first)
        }
        return ModelProfile.defaultPath(model: String(first[..<slash]))
    }

    /// The profile at `path`, or where none is named the one that comes with the model, if any.
    static func profile(
        _ path: String?, of model: ModelDescription
    ) throws -> ModelProfile? {
        let fingerprint = ModelFingerprint(model)
        if path == nil, let package = model.file.package {
            return try package.profile().map {
                try ModelProfile(bytes: $0, path: package.path, of: fingerprint)
            }
        }
        let file = path ?? profilePath(of: model)
        if path == nil, unsafe access(file, F_OK) != 0 { return nil }
        try Console.requireReadable(file)
        return try ModelProfile(
            bytes: WholeFile.read(file, limit: ModelProfile.limitBytes), path: file, of: fingerprint
        )
    }

    /// Writes a profile to `path`, or where none is named to where it comes with the model.
    ///
    /// - Returns: The file it is in.
    static func write(
        _ profile: ModelProfile, to path: String?, of model: ModelDescription
    ) throws -> String {
        if path == nil, let package = model.file.package {
            try Package.setProfile(profile.encoded(), at: package.path)
            return package.path
        }
        let file = path ?? profilePath(of: model)
        try Console.writeFile(file, profile.encoded())
        return file
    }

    /// Opens the files of a model, which may hold no more than a vocabulary.
    static func file(_ name: String?, reads: Bool = false) throws -> ModelFile {
        let path = try path(name)
        try Console.requireReadable(path)
        return try ModelFile(path: path, writesDerived: reads) { Console.error("sluice: \($0)") }
    }

    private static func executableFolder() -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let length = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        guard length > 0 else { return "" }
        let path = String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }
}
