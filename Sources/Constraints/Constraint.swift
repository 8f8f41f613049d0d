public import JSONTree

/// A language that a model's answer is held to, byte by byte: JSON that fulfils a schema, text that matches a
/// regular expression or a grammar, or texts put together of such.
///
/// Compiled once, then only read: it can be shared by any number of generations.
public struct Constraint: Sendable {
    let grammar: Grammar
    let program: Program
    /// Where every byte is a token, as in nearly all vocabularies.
    let costs: Costs

    init(_ grammar: Grammar) throws(ConstraintError) {
        self.grammar = grammar
        program = try Assembler.program(for: grammar)
        costs = program.costs(over: .all)
    }

    static let anyJSONObject: Constraint = {
        var grammar = Grammar()
        var shared = SharedRules()
        grammar.root = shared.object(&grammar)
        do throws(ConstraintError) {
            return try Constraint(grammar)
        } catch {
            preconditionFailure("the grammar of JSON: \(error)")
        }
    }()

    /// JSON that fulfils a schema of draft 2020-12 or draft-07. `format` is kept where it is known.
    ///
    /// Supported are `type`, `enum`, `const`, `$ref` within the document, `allOf`, `anyOf`, `oneOf`, `not` and
    /// `if` where they can be turned round; properties, required, additional, pattern and dependent ones, their
    /// names and number; items, their number, `contains`, and `uniqueItems` of enums; lengths, `pattern` and
    /// `format`; bounds, and `multipleOf` whole numbers. What is not named is an annotation, as the standard has
    /// it. See `SchemaCompiler` for what of the valid values is left out.
    ///
    /// - Throws: with the JSON pointer of the keyword that cannot be kept.
    public init(schema: JSON) throws(ConstraintError) {
        try self.init(SchemaCompiler.grammar(for: schema))
    }

    /// Text that a regular expression matches as a whole; see `PatternParser` for the syntax.
    ///
    /// - Throws: with the character where it cannot be understood.
    public init(regex: String) throws(ConstraintError) {
        let pattern = try PatternParser.parse(regex)
        var grammar = Grammar()
        if let resolved = pattern.resolved(isSearch: false) {
            grammar.root = resolved.expression(.plain)
        } else {
            do throws(Automaton.TooLarge) {
                grammar.root = try Automaton(pattern, isSearch: false).expression(.plain)
            } catch {
                throw ConstraintError(
                    "expected ^ and $ only at the ends: within, this expression becomes too large")
            }
        }
        try self.init(grammar)
    }

    /// Text that a grammar describes, in llama.cpp's notation; see `GrammarParser`.
    ///
    /// - Throws: with the line where it cannot be understood.
    public init(grammar gbnf: String) throws(ConstraintError) {
        try self.init(GrammarParser.parse(gbnf))
    }

    /// Whether the whole text is in the language.
    public func matches(_ text: [UInt8]) -> Bool {
        var machine = StateMachine(program, costs: costs)
        var state = machine.start()
        for byte in text {
            state = machine.next(state, byte)
            if machine.stateCount > Limits.cachedStates { state = machine.forget(keeping: state) }
        }
        return machine.accepts[Int(state)]
    }
}
