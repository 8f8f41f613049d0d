import Inference
import ModelFormats
import Profiling

/// Fills the expert cache from a task of a profile, as `--task` asks: once, before or after the
/// prompt.
final class TaskWarming {
    private let profile: ModelProfile
    /// Nil where the prompt decides.
    private let pattern: TaskPattern?
    private var prompt: PromptVector

    /// - Parameters:
    ///   - task: A task's name, or auto.
    ///   - path: The profile, as `--profile` names it.
    init(_ task: String, _ path: String?, of model: ModelDescription) throws {
        guard let profile = try ModelLocation.profile(path, of: model) else {
            throw InputError(
                "--task \(task): there is no profile of this model"
                    + (model.file.package == nil
                        ? " at \(ModelLocation.profilePath(of: model))" : " in the package")
                    + "; make one with sluice profile", code: Failure.noInput)
        }
        self.profile = profile
        pattern = task == "auto" ? nil : profile.task(named: task)
        prompt = PromptVector(profile.model)
        let names = profile.tasks.map(\.name).joined(separator: ", ")
        if profile.tasks.isEmpty || (task != "auto" && pattern == nil) {
            throw InputError(
                "--task \(task): the profile has "
                    + (names.isEmpty ? "no tasks; add one with sluice profile" : "only \(names)"))
        }
    }

    func beforePrompt(_ engine: inout Engine) throws {
        if let pattern {
            try warm(&engine, pattern)
        } else {
            engine.observe { self.prompt.add($0) }
        }
    }

    func afterPrompt(_ engine: inout Engine) throws {
        guard pattern == nil else { return }
        engine.observe(nil)
        guard let (task, cosine) = profile.nearest(to: prompt) else { return }
        Console.error("sluice: --task auto: \(task.name) (cosine \(fixed(cosine, 2)))")
        try warm(&engine, task)
    }

    private func warm(_ engine: inout Engine, _ pattern: TaskPattern) throws {
        try engine.warm(
            pattern.ranking().map { LayerExpert(layer: $0.layer, expert: $0.expert) })
    }
}
