// The profile of a model: one JSON object.
//
//   format         "sluice profile"
//   version        1
//   model          the fingerprint of the model it was made from; see ModelFingerprint
//   fallback       optional: what `--miss fallback` was calibrated to; see CalibratedFallback
//   super_experts  [{layer, expert, largest_output}], over the texts of all tasks
//   tasks          [{name, tokens, activations, gate_mass, tcess, saliency, largest_outputs}], each
//                  figure an array of layers of arrays of experts; see TaskPattern
//
// Layers are those that have experts, counted from 0.

public import ModelFormats
import FoundationEssentials

/// What was learned about a model's experts from texts: its super experts, and how each kind of
/// text uses them.
public struct ModelProfile: Sendable, Equatable {
    public let model: ModelFingerprint
    public private(set) var superExperts: [SuperExpert] = []
    /// In the order in which they were added.
    public private(set) var tasks: [TaskPattern] = []
    /// Settings of `--miss fallback` whose cost is known; nil before calibration.
    public var fallback: CalibratedFallback?

    /// Most bytes a profile file may have.
    public static let limitBytes = 32 << 20
    /// Most tasks of one profile.
    public static let limitTasks = 64

    /// An empty profile.
    public init(model: ModelFingerprint) { self.model = model }

    /// Where the profile of the model at `path` lies unless the user says otherwise.
    public static func defaultPath(model path: String) -> String { path + ".profile.json" }

    /// Adds a pattern, or replaces the one of the same name, and finds the super experts anew.
    public mutating func set(_ task: TaskPattern) throws(ProfilingError) {
        if let problem = ModelProfile.problem(ofName: task.name) {
            throw ProfilingError("task '\(task.name)': \(problem)")
        }
        precondition(
            task.activations.count == model.layers && task.activations[0].count == model.experts,
            "a pattern of another model")
        if let index = tasks.firstIndex(where: { $0.name == task.name }) {
            tasks[index] = task
        } else {
            guard tasks.count < ModelProfile.limitTasks else {
                throw ProfilingError(
                    "the profile has \(tasks.count) tasks already, the most there may be; replace one of them"
                )
            }
            tasks.append(task)
        }
        var largest = task.largestOutputs
        for other in tasks {
            for layer in largest.indices {
                for expert in largest[layer].indices {
                    largest[layer][expert] = max(
                        largest[layer][expert], other.largestOutputs[layer][expert])
                }
            }
        }
        superExperts = SuperExpert.detect(in: largest)
    }

    /// The pattern called `name`.
    public func task(named name: String) -> TaskPattern? { tasks.first { $0.name == name } }

    /// The pattern that uses experts most like the prompt: greatest cosine between the counts of
    /// activations over all layers (see `PromptVector`), ties to the earlier task. Nil without
    /// tasks, or if the prompt is empty.
    public func nearest(to prompt: PromptVector) -> (task: TaskPattern, cosine: Double)? {
        var best: (task: TaskPattern, cosine: Double)?
        for task in tasks {
            let cosine = ModelProfile.cosine(
                prompt.counts.map { Double($0) }, task.activations.joined().map { Double($0) })
            if cosine.isFinite, best == nil || cosine > best!.cosine { best = (task, cosine) }
        }
        return best
    }

    private static func cosine(_ a: [Double], _ b: [Double]) -> Double {
        let dot = zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
        let squares = (a.reduce(0) { $0 + $1 * $1 }, b.reduce(0) { $0 + $1 * $1 })
        return dot / (squares.0 * squares.1).squareRoot()
    }

    private static func problem(ofName name: String) -> String? {
        if name.isEmpty || name.utf8.count > 100 {
            return "a task's name has 1 to 100 bytes"
        }
        if name == "auto" { return "'auto' stands for the nearest task; choose another name" }
        let bad = name.unicodeScalars.contains { $0.value < 32 || (127...159).contains($0.value) }
        return bad ? "a task's name has no control characters" : nil
    }
}

// The file

extension ModelProfile {
    private static let format = "sluice profile"
    private static let version = 1

    private struct Contents: Codable {
        var format: String
        var version: Int
        var model: ModelFingerprint
        var superExperts: [SuperExpert]
        var tasks: [TaskPattern]
        var fallback: CalibratedFallback?

        private enum CodingKeys: String, CodingKey {
            case format, version, model, tasks, fallback
            case superExperts = "super_experts"
        }
    }

    /// Only what says whether the rest can be understood.
    private struct Kind: Decodable {
        var format: String
        var version: Int
    }

    /// The bytes of its file.
    public func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let contents = Contents(
            format: ModelProfile.format, version: ModelProfile.version, model: model,
            superExperts: superExperts, tasks: tasks, fallback: fallback)
        return Array(try encoder.encode(contents)) + [UInt8(ascii: "\n")]
    }

    /// Reads the profile of `model` from the bytes of the file `path`.
    ///
    /// - Throws: `ModelFileError` where it is no profile, damaged, or another model's.
    public init(bytes: [UInt8], path: String, of model: ModelFingerprint) throws(ModelFileError) {
        func refuse(_ message: String, _ field: String? = nil) -> ModelFileError {
            ModelFileError(path: path, field: field, message: message)
        }
        guard bytes.count <= ModelProfile.limitBytes else {
            throw refuse("\(bytes.count) bytes are more than a profile may have")
        }
        let contents: Contents
        do {
            let data = Data(bytes)
            let kind = try JSONDecoder().decode(Kind.self, from: data)
            guard kind.format == ModelProfile.format else {
                throw refuse("expected a profile, found '\(kind.format)'", "format")
            }
            guard kind.version == ModelProfile.version else {
                throw refuse(
                    "version \(kind.version) is not supported, only \(ModelProfile.version); make it again "
                        + "with sluice profile", "version")
            }
            contents = try JSONDecoder().decode(Contents.self, from: data)
        } catch let error as ModelFileError {
            throw error
        } catch let error as DecodingError {
            throw ModelProfile.explain(error, path)
        } catch {
            throw refuse("is not JSON: \(error)")
        }
        if let mismatch = contents.model.mismatch(with: model) {
            throw refuse(mismatch + "; make one with sluice profile", "model")
        }
        guard contents.tasks.count <= ModelProfile.limitTasks else {
            throw refuse(
                "\(contents.tasks.count) are more than \(ModelProfile.limitTasks)", "tasks")
        }
        var names: Set<String> = []
        for (index, task) in contents.tasks.enumerated() {
            if let problem = ModelProfile.problem(ofName: task.name) {
                throw refuse(problem, "tasks[\(index)].name")
            }
            guard names.insert(task.name).inserted else {
                throw refuse("'\(task.name)' is there twice", "tasks[\(index)].name")
            }
            if let problem = task.problem(for: model) {
                throw refuse(problem.message, "tasks[\(index)].\(problem.field)")
            }
        }
        for (index, expert) in contents.superExperts.enumerated() {
            guard (0..<model.layers).contains(expert.layer),
                (0..<model.experts).contains(expert.expert)
            else {
                throw refuse(
                    "layer \(expert.layer), expert \(expert.expert) is not one of \(model.layers) layers of "
                        + "\(model.experts) experts", "super_experts[\(index)]")
            }
            guard expert.largestOutput.isFinite else {
                throw refuse("its largest output is not finite", "super_experts[\(index)]")
            }
        }
        if let problem = contents.fallback?.problem { throw refuse(problem, "fallback") }
        self.model = model
        superExperts = contents.superExperts
        tasks = contents.tasks
        fallback = contents.fallback
    }

    private static func explain(_ error: DecodingError, _ path: String) -> ModelFileError {
        let (context, what): (DecodingError.Context, String) =
            switch error {
            case .keyNotFound(let key, let context): (context, "'\(key.stringValue)' is missing")
            case .typeMismatch(_, let context), .valueNotFound(_, let context):
                (context, context.debugDescription)
            case .dataCorrupted(let context):
                (context, "is not valid JSON: \(context.debugDescription)")
            @unknown default:
                (DecodingError.Context(codingPath: [], debugDescription: ""), "is no profile")
            }
        let field = context.codingPath.map { key in
            key.intValue.map { "[\($0)]" } ?? ".\(key.stringValue)"
        }.joined()
        return ModelFileError(
            path: path, field: field.isEmpty ? nil : String(field.drop { $0 == "." }), message: what
        )
    }
}

extension TaskPattern {
    /// What makes a pattern read from a file unusable for `model`.
    fileprivate func problem(for model: ModelFingerprint) -> (field: String, message: String)? {
        if tokens < 1 { return ("tokens", "\(tokens) is not a number of tokens") }
        if !TaskPattern.fits(activations, model) {
            return ("activations", TaskPattern.misfit(model))
        }
        for (name, figures) in [
            ("gate_mass", gateMass), ("tcess", tcess), ("saliency", saliency),
            ("largest_outputs", largestOutputs),
        ] {
            if !TaskPattern.fits(figures, model) { return (name, TaskPattern.misfit(model)) }
            if figures.contains(where: { $0.contains { !$0.isFinite } }) {
                return (name, "a figure is not finite")
            }
        }
        return nil
    }

    private static func fits<Value>(_ figures: [[Value]], _ model: ModelFingerprint) -> Bool {
        figures.count == model.layers && figures.allSatisfy { $0.count == model.experts }
    }

    private static func misfit(_ model: ModelFingerprint) -> String {
        "is not \(model.layers) arrays of \(model.experts) figures"
    }
}
