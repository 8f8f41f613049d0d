import ArgumentParser
import ExpertStreaming
import Generation
import Inference
import ModelFormats
import Tokenization

struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Records which experts a model's routers choose.",
        discussion: """
            The first --prompt tokens of the text are computed in chunks, as a prompt is, the others one by \
            one, each given whatever the model would have said; with -n, as many tokens follow as the model \
            says itself. Layers are counted from 0 among those that have experts. The recording is for \
            'sluice replay'.
            """)

    @Argument(
        help: ArgumentHelp(
            "GGUF file and file of text (- for standard input); of one argument alone, the text.",
            valueName: "model> <text"))
    var arguments: [String]

    @Option(name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"))
    var output: String

    @OptionGroup var engine: EngineArguments

    @Option(
        help: ArgumentHelp(
            "Tokens of the text that are computed together; default: none of them, with -n all.",
            valueName: "tokens"))
    var prompt: Int?

    @Option(
        name: .customShort("n"),
        help: ArgumentHelp("Tokens that the model continues the text with.", valueName: "tokens"))
    var count: Int = 0

    @Option(help: "Temperature of the continuation; 0 takes the likeliest token every time.")
    var temp: Float = 0

    @Option(help: "Seed of the continuation.")
    var seed: UInt64 = 1

    @Flag(help: "Record what each router is given, too, in 16 bits: for training predictors.")
    var inputs = false

    @Flag(help: "Read control tokens in the text as what they stand for.")
    var parseSpecial = false

    func validate() throws {
        guard (1...2).contains(arguments.count) else {
            throw ValidationError("Give a model and a text, or a text alone for the demo model.")
        }
        if count < 0 { throw ValidationError("-n \(count) is negative.") }
        if let prompt, prompt < 0 { throw ValidationError("--prompt \(prompt) is negative.") }
        if !(temp >= 0 && temp.isFinite) {
            throw ValidationError("--temp \(temp) is no temperature.")
        }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(arguments.count == 2 ? arguments[0] : nil)
            try description.requireRouters()
            let tokenizer = try Tokenizer(metadata: description.file.metadata)
            let text = arguments[arguments.count - 1]
            let bytes = text == "-" ? try Console.readInput() : try Console.readFile(text)
            let ids = tokenizer.encode(bytes, addSpecial: true, parseSpecial: parseSpecial)
            guard !ids.isEmpty else { throw InputError("\(text): no text to record") }
            let together = min(prompt ?? (count > 0 ? ids.count : 0), ids.count)

            var options = try engine.options(for: description)
            options.context =
                options.context ?? min(description.contextLength, ids.count + count)
            let plan = try MemoryPlan(model: description, options: options)
            guard ids.count + count <= plan.context else {
                throw InputError(
                    "\(ids.count) tokens and -n \(count) do not fit the context of \(plan.context); "
                        + "shorten the text, or raise --ctx (the model allows "
                        + "\(description.contextLength))")
            }
            var loaded = try Loading.engine(description, options, plan)
            let recorder = try RoutingRecorder(
                path: output, header: header(description),
                embedding: description.embeddingLength)
            loaded.observe { recorder.observe($0) }
            try record(&loaded, tokenizer, ids, together: together, recorder)
            loaded.observe(nil)
            let tokens = try recorder.close()
            Console.error("sluice: \(output): \(tokens) tokens recorded")
        }
    }

    /// What the file says of the model.
    private func header(_ model: ModelDescription) -> TraceHeader {
        var shape = TraceShape(
            layerCount: model.expertLayerCount, expertsPerLayer: model.expertCount,
            expertsPerToken: model.expertsPerToken)
        shape.model = model.name
        shape.architecture = model.architecture.name
        shape.planeBytes = (0..<model.expertLayerCount).map { layer in
            [model.expertBytes(layer: layer) / model.expertCount]
        }
        var header = TraceHeader(shape: shape, hasGateWeights: true)
        header.inputLength = inputs ? model.embeddingLength : 0
        return header
    }

    private func record(
        _ engine: inout Engine, _ tokenizer: Tokenizer, _ ids: [Int32], together: Int,
        _ recorder: RoutingRecorder
    ) throws {
        var bar = ProgressBar("recording")
        defer { bar.end() }
        let total = Double(ids.count + count)
        if together > 0 {
            recorder.phase = .prefill
            try engine.prefill(Array(ids[..<together]), from: 0)
            try recorder.check()
        }
        recorder.phase = .decode
        for position in together..<ids.count {
            try engine.decode(ids[position], at: position)
            try recorder.check()
            bar.show(Double(position) / total)
        }
        guard count > 0 else { return }
        var settings = SamplerSettings()
        settings.temperature = temp
        settings.seed = seed
        var sampler = Sampler(settings: settings, vocabularyCount: engine.vocabularyCount)
        for id in ids { sampler.accept(id) }
        for position in ids.count..<ids.count + count {
            let id = unsafe sampler.draw(engine.logits)
            if tokenizer.endOfGeneration.contains(id) { return }
            sampler.accept(id)
            try engine.decode(id, at: position)
            try recorder.check()
            bar.show(Double(position) / total)
        }
    }
}

/// Turns what the engine shows of its layers into a trace file. A chunk's layers come one after the
/// other, so its tokens are gathered until the last one.
final class RoutingRecorder {
    var phase = RoutingTrace.Phase.decode
    private let header: TraceHeader
    private let embedding: Int
    private var writer: TraceWriter?
    private var records: [TraceRecord] = []
    private var failure: TraceError?

    init(path: String, header: TraceHeader, embedding: Int) throws {
        self.header = header
        self.embedding = embedding
        writer = try TraceWriter(path: path, header: header)
    }

    func observe(_ observation: LayerObservation) {
        if observation.layer == 0 {
            records = (0..<observation.tokens).map { token in
                TraceRecord(
                    header: header, sequence: 0, phase: phase,
                    tokenID: unsafe observation.ids[token])
            }
        }
        let width = header.shape.expertsPerToken
        let length = header.inputLength
        for token in records.indices {
            for rank in unsafe 0..<Int(observation.rankCounts[token]) {
                let place = observation.layer * width + rank
                let choice = token * width + rank
                records[token].experts[place] = UInt16(unsafe observation.chosen[choice])
                records[token].gateWeights[place] = unsafe observation.gateWeights[choice]
            }
            for element in 0..<length {
                records[token].inputs[observation.layer * length + element] =
                    unsafe observation.input[token * embedding + element]
            }
        }
        guard observation.layer == header.shape.layerCount - 1, failure == nil else { return }
        do {
            for record in records { try writer?.append(record) }
        } catch {
            failure = error
        }
    }

    /// Throws what has failed.
    func check() throws(TraceError) {
        if let failure { throw failure }
    }

    /// Completes the file.
    ///
    /// - Returns: Tokens in it.
    func close() throws(TraceError) -> Int {
        try check()
        guard let writer = writer.take() else { return 0 }
        let count = writer.recordCount
        try writer.close()
        return count
    }
}
