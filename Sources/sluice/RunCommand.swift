public import ArgumentParser
import Generation
public import Inference
import ModelFormats
import Tokenization

extension WarmUp: ExpressibleByArgument {}

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Continues a prompt.",
        discussion: """
            The text goes to stdout as it comes; at the end one summary goes to stderr. The prompt is used \
            as it is, without a chat template.

            With --socket or --connect a server computes, with its own model, memory and cache; \
            $SLUICE_API_KEY is its key, where it asks for one.
            """)

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments
    @OptionGroup var replay: ReplayArgument
    @OptionGroup var service: ServiceArguments

    @Option(name: .shortAndLong, help: "The prompt; without -p and -f, standard input is read.")
    var prompt: String?

    @Option(
        name: .shortAndLong, help: ArgumentHelp("File that holds the prompt.", valueName: "file"))
    var file: String?

    @Option(
        name: .customShort("n"), help: ArgumentHelp("Most tokens to generate.", valueName: "tokens")
    )
    var count: Int = 128

    @Option(name: .customLong("temp"), help: "Temperature; 0 takes the likeliest token every time.")
    var temperature: Float = 0.8

    @Option(help: "Draw among the k likeliest tokens; 0 is off.")
    var topK: Int = 40

    @Option(help: "Draw among the likeliest tokens that make up this share; 1 is off.")
    var topP: Float = 0.95

    @Option(help: "Leave out tokens less likely than this share of the likeliest; 0 is off.")
    var minP: Float = 0.05

    @Option(help: "Weaken tokens of the last 64 by this factor; 1 is off.")
    var repeatPenalty: Float = 1

    @Option(help: "Subtract this from the logits of tokens among the last 64; 0 is off.")
    var presencePenalty: Float = 0

    @Option(help: "Subtract this once per occurrence among the last 64; 0 is off.")
    var frequencyPenalty: Float = 0

    @Option(help: "Seed of the draw; default: a random one, which the summary names.")
    var seed: UInt64?

    @Option(
        help: ArgumentHelp("Stop before this text; may be given several times.", valueName: "text"))
    var stop: [String] = []

    @Flag(help: "Read control tokens in the prompt as what they stand for.")
    var parseSpecial = false

    @Flag(help: "Go on past the model's end of text: for measuring.")
    var ignoreEos = false

    @Flag(help: "Read experts into the cache before the first token, as many as fit.")
    var preload = false

    @Option(
        help: ArgumentHelp(
            "Fill the cache between prompt and first token with the experts the prompt used most: none or prompt.",
            valueName: "how"))
    var warmUp: WarmUp = .none

    @Option(
        help: ArgumentHelp(
            """
            Fill the cache from a task of the profile: one by name, before the prompt, or auto, the one nearest \
            to the prompt, after it.
            """,
            valueName: "name"))
    var task: String?

    @Flag(
        help:
            "Print one JSON object with the text, the token ids and all figures, and nothing else.")
    var json = false

    @Option(help: ArgumentHelp("Write all figures of the run as JSON.", valueName: "file"))
    var stats: String?

    func validate() throws {
        if prompt != nil, file != nil { throw ValidationError("Give -p or -f, not both.") }
        if task != nil, preload || warmUp != .none {
            throw ValidationError("--task, --preload and --warm-up each fill the cache; give one.")
        }
        if count < 0 { throw ValidationError("-n \(count) is negative.") }
        if let problem = settings(seed: 0).problem { throw ValidationError(problem) }
        if let address = service.address, !localOptions.isEmpty {
            throw ValidationError(
                "The server at \(address) has its own engine; leave out "
                    + "\(localOptions.joined(separator: ", ")).")
        }
    }

    func run() throws {
        try Failure.reporting {
            if let address = service.address {
                try run(on: address)
                return
            }
            let description = try ModelLocation.open(model.model)
            let tokenizer = try Tokenizer(metadata: description.file.metadata)
            var ids = tokenizer.encode(
                try promptText(), addSpecial: true, parseSpecial: parseSpecial)
            if ids.isEmpty {
                guard let start = tokenizer.beginningOfSequence ?? tokenizer.endOfSequence else {
                    throw InputError(
                        "the prompt is empty, and this model has no token to begin with")
                }
                ids = [start]
            }
            var options = try engine.options(for: description, replaying: replay.isGiven)
            let routing = try replay.load(model: description, promptTokens: ids.count)
            options.warmUp = warmUp
            let warming = try task.map { try TaskWarming($0, engine.profile, of: description) }
            let plan = try MemoryPlan(model: description, options: options)
            guard ids.count <= plan.context else {
                throw InputError(
                    "the prompt has \(ids.count) tokens, the context \(plan.context); "
                        + "shorten it, or raise --ctx (the model allows \(description.contextLength))"
                )
            }
            var loaded = try Loading.engine(description, options, plan)
            try loaded.forceRouting(routing)
            try warming?.beforePrompt(&loaded)
            if preload { try Loading.preload(&loaded) }

            let seed = seed ?? .random(in: 0...UInt64(UInt32.max))
            var generator = Generator(
                sampler: settings(seed: seed), stops: stop, maximumTokens: count)
            generator.ignoresEndOfText = ignoreEos
            let result = try generator.run(
                engine: &loaded, tokenizer: tokenizer, prompt: ids,
                afterPrompt: { try warming?.afterPrompt(&$0) },
                receive: { piece in
                    if !json { Console.out(piece) }
                    return true
                })
            let figures = RunFigures(result, loaded, seed: seed)
            if json {
                Console.out(try JSONOutput.text(figures))
            } else {
                Console.out("\n")
                Console.error(figures.summary)
            }
            if let stats {
                try Console.writeFile(stats, Array(JSONOutput.text(figures.withoutText).utf8))
            }
        }
    }

    func promptText() throws -> [UInt8] {
        try prompt.map { Array($0.utf8) } ?? file.map(Console.readFile) ?? Console.readInput()
    }

    private func settings(seed: UInt64) -> SamplerSettings {
        var settings = SamplerSettings()
        settings.temperature = temperature
        settings.topK = topK
        settings.topP = topP
        settings.minP = minP
        settings.repetitionPenalty = repeatPenalty
        settings.presencePenalty = presencePenalty
        settings.frequencyPenalty = frequencyPenalty
        settings.seed = seed
        return settings
    }
}
