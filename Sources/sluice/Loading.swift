import Inference

/// Makes an engine, with a bar while its weights are read, and the warnings its plan calls for.
enum Loading {
    static func engine(
        _ description: ModelDescription, _ options: EngineOptions, _ plan: MemoryPlan
    ) throws -> Engine {
        for warning in plan.warnings { Console.error("sluice: \(warning)") }
        var bar = ProgressBar("loading \(description.name)")
        defer { bar.end() }
        return try Engine(model: description, options: options, plan: plan) { bar.show($0) }
    }

    static func preload(_ engine: inout Engine) throws {
        var bar = ProgressBar("filling the expert cache")
        defer { bar.end() }
        try engine.preload { bar.show($0) }
    }
}
