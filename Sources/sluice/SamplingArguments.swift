import ArgumentParser
import OpenAIAPI

/// How a server is to draw tokens; what is not given is the server's to choose.
struct SamplingArguments: ParsableArguments {
    @Option(
        name: .customShort("n"),
        help: ArgumentHelp(
            "Most tokens of an answer; default: to the context's end.", valueName: "tokens"))
    var count: Int?

    @Option(name: .customLong("temp"), help: "Temperature; 0 takes the likeliest token every time.")
    var temperature: Double?

    @Option(help: "Draw among the k likeliest tokens; 0 is off.")
    var topK: Int?

    @Option(help: "Draw among the likeliest tokens that make up this share; 1 is off.")
    var topP: Double?

    @Option(help: "Leave out tokens less likely than this share of the likeliest; 0 is off.")
    var minP: Double?

    @Option(help: "Weaken tokens of the last 64 by this factor; 1 is off.")
    var repeatPenalty: Double?

    @Option(help: "Subtract this from the logits of tokens among the last 64; 0 is off.")
    var presencePenalty: Double?

    @Option(help: "Subtract this once per occurrence among the last 64; 0 is off.")
    var frequencyPenalty: Double?

    @Option(help: "Seed of the draw; default: a random one.")
    var seed: Int?

    @Option(
        help: ArgumentHelp("Stop before this text; may be given several times.", valueName: "text"))
    var stop: [String] = []

    func validate() throws {
        if let count, count < 1 { throw ValidationError("-n \(count) is not at least 1.") }
    }

    var fields: SamplingFields {
        var fields = SamplingFields()
        fields.temperature = temperature
        fields.topK = topK
        fields.topP = topP
        fields.minP = minP
        fields.repetitionPenalty = repeatPenalty
        fields.presencePenalty = presencePenalty
        fields.frequencyPenalty = frequencyPenalty
        fields.seed = seed
        return fields
    }
}
