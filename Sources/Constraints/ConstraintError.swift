/// Why a schema, a regular expression or a grammar cannot be a constraint: what was expected, what was
/// found, where, and what to do.
public struct ConstraintError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The place: the JSON pointer of a schema's keyword, `line 3`, or `character 7`. Empty where it is
    /// the whole.
    public let place: String
    public let problem: String

    init(_ problem: String, at place: String = "") {
        self.problem = problem
        self.place = place
    }

    public var description: String { place.isEmpty ? problem : "\(place): \(problem)" }
}

/// What a constraint may ask for, at most: far beyond honest use, and compiled within a fraction of a second.
enum Limits {
    /// Expressions inside each other: below what a thread's stack holds.
    static let depth = 100
    static let nodeCount = 400_000
    static let ruleCount = 20_000
    /// In {m,n}, minLength, maxItems and their kind.
    static let repetition = 1_000_000
    /// Of a regular expression or a grammar, in bytes.
    static let textBytes = 1 << 20
    /// Of alternatives multiplied out.
    static let combinations = 2_000
    /// Written to see whether two alternatives exclude each other: for one pair, and for a whole schema.
    static let rulesPerCheck = 1_000
    static let checkedRules = 60_000
    static let automatonStates = 20_000
    static let automatonEdges = 400_000
    /// Rules waiting to be continued, at run time. Deeper alternatives are not offered.
    static let frameDepth = 100
    /// Ways in which the text so far can be read, at run time. Of more, the ones nearest to the end are kept:
    /// each is a true reading, so that what is written stays within the language.
    static let readings = 512
    /// Until they are forgotten and found anew.
    static let cachedStates = 1 << 14
    static let cachedMasks = 64
    /// New states in one mask; beyond, what leads to further ones is not offered.
    static let statesPerMask = 1 << 12
    /// Bytes of a shortest end that are split into tokens; a longer one counts a token for each byte.
    static let plannedBytes = 4096
    /// A token of more bytes is never offered.
    static let tokenBytes = 512
}
