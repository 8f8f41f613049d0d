/// Why a schema, a regular expression or a grammar cannot be a constraint: what was expected, what
/// was found, where, and what to do.
public struct ConstraintError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The place: the JSON pointer of a schema's keyword, `line 3`, or `character 7`. Empty where
    /// it is the whole.
    public let place: String
    public let problem: String

    init(_ problem: String, at place: String = "") {
        self.problem = ConstraintError.inOneLine(problem)
        self.place = ConstraintError.inOneLine(place)
    }

    /// What is quoted from outside may have control characters.
    private static func inOneLine(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) else {
            return text
        }
        return text.unicodeScalars.map {
            $0.value < 0x20 || $0.value == 0x7F ? $0.escaped(asASCII: true) : String($0)
        }.joined()
    }

    public var description: String { place.isEmpty ? problem : "\(place): \(problem)" }
}

/// What a constraint may ask for, at most: far beyond honest use, and compiled within a fraction of
/// a second.
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
    /// Written to see whether two alternatives exclude each other: for one pair, and for a whole
    /// schema.
    static let rulesPerCheck = 1_000
    static let checkedRules = 60_000
    static let automatonStates = 20_000
    /// Of a pattern and a length together, where the length can be cut.
    static let lengthProduct = 8_000
    static let automatonEdges = 400_000
    /// Rules waiting to be continued, at run time. Deeper alternatives are not offered.
    static let frameDepth = 100
    /// Ways in which the text so far can be read, at run time: in all, and of one place in the
    /// grammar with different stacks. Of more, the ones nearest to the end are kept: each is a true
    /// reading, so that what is written stays within the language.
    static let readings = 4096
    static let readingsPerNode = 32
    /// Of states, and of readings in them, until they are forgotten and found anew.
    static let cachedStates = 1 << 14
    static let cachedReadings = 1 << 20
    static let cachedMasks = 64
    /// New ones in one mask; beyond, what leads to further ones is not offered.
    static let statesPerMask = 1 << 12
    static let readingsPerMask = 1 << 18
    /// Bytes of a shortest end that are split into tokens; a longer one counts a token for each
    /// byte.
    static let plannedBytes = 4096
    /// A token of more bytes is never offered.
    static let tokenBytes = 512
}
