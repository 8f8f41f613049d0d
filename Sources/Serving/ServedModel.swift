import Chat
import Generation
import Inference
import ModelFormats
import OpenAIAPI
import Tokenization

/// The model a service has, with everything that turns requests into tokens and back.
struct ServedModel: Sendable {
    let description: ModelDescription
    let tokenizer: Tokenizer
    let options: EngineOptions
    let plan: MemoryPlan
    /// The name in answers and in the list of models.
    let id: String
    /// Nil where the model's own template cannot be used.
    let chat: ChatModel?
    /// Why it cannot.
    let templateProblem: String?
    let template: String?
    /// Seconds since 1970.
    let created: Int

    /// - Parameters:
    ///   - created: Now, in seconds since 1970.
    /// - Throws: `ServiceError` for a template that the configuration names and that is none;
    ///   `ModelFileError` for a model without a vocabulary; `EngineError` where memory does not
    ///   suffice.
    init(
        _ description: ModelDescription, options: EngineOptions,
        configuration: ServiceConfiguration, created: Int
    ) throws {
        self.description = description
        self.created = created
        var options = options
        options.sequences = configuration.slots ?? 4
        options.callerBytes = ServedModel.bytesBesideEngine(
            vocabularyCount: description.vocabularyCount, slots: options.sequences)
        self.options = options
        plan = try MemoryPlan(model: description, options: options)
        let tokenizer = try Tokenizer(metadata: description.file.metadata)
        self.tokenizer = tokenizer
        id = configuration.alias ?? ServedModel.fileName(description)
        let own = try description.file.metadata.string("tokenizer.chat_template")
        let given = try configuration.chatTemplate.map {
            try SmallTextFile.read($0, limitBytes: 4 << 20)
        }
        template = given ?? own
        do {
            chat = try ChatModel(
                template: template, architecture: description.architecture.name,
                beginning: tokenizer.beginningOfSequence.map { tokenizer.text(of: $0) },
                end: tokenizer.endOfSequence.map { tokenizer.text(of: $0) },
                tokenTexts: { tokenizer.id(ofText: $0) != nil })
            templateProblem = nil
        } catch {
            if let path = configuration.chatTemplate {
                throw ServiceError("\(path): \(error)")
            }
            // The rest of the service is of use without it.
            chat = nil
            templateProblem = "\(error)"
        }
    }

    /// What a service holds besides its engine: the samplers' tables, the vocabulary as constraints
    /// want it (7 MB for 152,000 tokens, with control tokens and without), and 8 MiB for connections,
    /// bodies, answers on their way and remembered masks.
    private static func bytesBesideEngine(vocabularyCount: Int, slots: Int) -> Int {
        Sampler.byteCount(vocabularyCount: vocabularyCount) * slots + vocabularyCount * 2 * 48
            + (8 << 20)
    }

    /// The file's name without its ending, which is how people call a model.
    private static func fileName(_ description: ModelDescription) -> String {
        let path = description.file.paths[0]
        let name = path.split(separator: "/").last.map(String.init) ?? description.name
        for ending in [".gguf", ".sluice"] where name.hasSuffix(ending) {
            return String(name.dropLast(ending.utf8.count))
        }
        return name == "model.safetensors" ? description.name : name
    }

    /// Refuses a request for another model. Any of its names will do, and none; `default` and
    /// `sluice` are for programs that must name something and do not care.
    func check(_ name: String?) throws(APIError) {
        guard let name, !name.isEmpty, !accepted.contains(name) else { return }
        throw .unknownModel(name, known: [id])
    }

    private var accepted: [String] {
        [id, ServedModel.fileName(description), description.name, "default", "sluice"]
    }
}
