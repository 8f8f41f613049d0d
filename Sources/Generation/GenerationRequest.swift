public import Constraints

/// What a client wants generated: see `Scheduler.submit`.
public struct GenerationRequest: Sendable {
    /// The prompt's tokens; at least one.
    public var prompt: [Int32]
    /// Choice i draws with the seed plus i.
    public var sampler = SamplerSettings()
    /// Strings that end the text, themselves left out.
    public var stops: [String] = []
    /// Most tokens of each choice; nil goes on to the end of the context. 0 computes the prompt
    /// only.
    public var maximumTokens: Int?
    /// Goes on past end-of-text tokens: for measuring.
    public var ignoresEndOfText = false
    /// How many of the likeliest tokens are told beside each generated one, with the logarithms of
    /// their probabilities: 0 ... 20; nil tells none, not even of the generated one.
    public var topLogprobs: Int?
    /// What the text must be a member of.
    public var constraint: Constraint?
    /// Spells control tokens out in the text: tool calls consist of them.
    public var rendersSpecial = false
    /// How many texts, independent of each other. The prompt is computed once.
    public var choices = 1
    /// Begins with what earlier requests have computed of the same prompt. Changes no bit of the
    /// answer.
    public var usesPrefixCache = true
    /// Tells the logarithms of the probabilities of the prompt's tokens too, beside `topLogprobs`.
    /// The whole prompt is computed for it, whatever is known of it.
    public var echoLogprobs = false
    /// Who asks. Slots are shared evenly between users.
    public var user: String?

    public init(prompt: [Int32]) { self.prompt = prompt }

    /// Why no engine of such a vocabulary can answer, naming the field; nil if one can.
    func problem(vocabularyCount: Int) -> String? {
        if let id = prompt.first(where: { $0 < 0 || Int($0) >= vocabularyCount }) {
            return "token \(id) of the prompt is not one of the model's \(vocabularyCount)"
        }
        for id in sampler.logitBias.keys.sorted() where id < 0 || Int(id) >= vocabularyCount {
            return "token \(id) has a bias, but is not one of the model's \(vocabularyCount)"
        }
        if let problem = sampler.problem { return problem }
        if let maximumTokens, maximumTokens < 0 {
            return "\(maximumTokens) tokens are fewer than none"
        }
        if let topLogprobs, !GenerationRequest.logprobs.contains(topLogprobs) {
            return "\(topLogprobs) top logprobs are not between 0 and 20"
        }
        if !GenerationRequest.choiceCounts.contains(choices) {
            return "\(choices) choices are not between 1 and 128"
        }
        return nil
    }

    private static let logprobs = 0...20
    private static let choiceCounts = 1...128
}
