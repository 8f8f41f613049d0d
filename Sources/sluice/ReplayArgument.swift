import ArgumentParser
import ExpertStreaming
import Inference

/// The option of commands that can compute with somebody else's routing.
struct ReplayArgument: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            Take experts and gate weights from this recording (as 'sluice replay' reads them) instead of the \
            routers: for measuring. The recording begins again at its end.
            """,
            valueName: "trace"))
    var replayRouting: String?

    var isGiven: Bool { replayRouting != nil }

    /// The recording, for a model and so many tokens of prompt; nil without one.
    func load(model: ModelDescription, promptTokens: Int) throws -> RoutingReplay? {
        guard let replayRouting else { return nil }
        return try RoutingReplay(
            trace: RoutingTrace(path: replayRouting), name: replayRouting, model: model,
            promptTokens: promptTokens)
    }
}
