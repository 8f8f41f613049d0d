// The syntax tree. Scopes are numbered, so that the analysis in Scopes.swift can say of each what its names are.

struct Expression: Sendable {
    let line: Int
    let kind: Kind

    enum Literal: Sendable {
        case none
        case bool(Bool)
        case integer(Int)
        case float(Double)
        case string(Text)
    }

    enum Unary: String, Sendable { case plus = "+", minus = "-" }

    enum Binary: String, Sendable {
        case add = "+", subtract = "-", multiply = "*", divide = "/", floorDivide = "//"
        case modulo = "%", power = "**"
    }

    enum Comparison: String, Sendable {
        case equal = "==", notEqual = "!=", less = "<", lessOrEqual = "<="
        case greater = ">", greaterOrEqual = ">=", isIn = "in", isNotIn = "not in"
    }

    struct Comparand: Sendable {
        let comparison: Comparison
        let value: Expression
    }

    struct Pair: Sendable {
        let key: Expression
        let value: Expression
    }

    indirect enum Kind: Sendable {
        case literal(Literal)
        case name(String)
        case tuple([Expression])
        case list([Expression])
        case dictionary([Pair])
        case unary(Unary, Expression)
        case binary(Binary, Expression, Expression)
        case not(Expression)
        case and(Expression, Expression)
        case or(Expression, Expression)
        case comparison(Expression, [Comparand])
        /// Operands of `~`.
        case concatenation([Expression])
        case condition(test: Expression, then: Expression, otherwise: Expression?)
        case attribute(Expression, String)
        case item(Expression, Expression)
        case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
        /// Of a filter block or block set there is no input but the block's text.
        case filter(input: Expression?, name: String, CallArguments)
        case test(Expression, name: String, CallArguments)
        case call(Expression, CallArguments)
    }
}

struct CallArguments: Sendable {
    struct Keyword: Sendable {
        let name: String
        let value: Expression
    }

    var positional: [Expression] = []
    var keywords: [Keyword] = []
    /// `*list` and `**dictionary`.
    var unpacked: Expression?
    var unpackedKeywords: Expression?
}

/// What can be assigned to.
indirect enum Target: Sendable {
    case name(String)
    /// `ns.attribute` of a namespace.
    case attribute(namespace: String, String)
    case tuple([Target])
}

/// Statements with names of their own.
struct Scope: Sendable {
    let id: Int
    let body: [Statement]
}

struct Statement: Sendable {
    let line: Int
    let kind: Kind

    enum Output: Sendable {
        case text(Text)
        case value(Expression)
    }

    struct Branch: Sendable {
        let test: Expression
        let body: [Statement]
    }

    struct Loop: Sendable {
        let target: Target
        let iterated: Expression
        /// `for ... if test`, and the scope in which it is computed.
        let test: Expression?
        let testScope: Int
        let isRecursive: Bool
        let body: Scope
        let otherwise: Scope
    }

    struct Macro: Sendable {
        let name: String
        let parameters: [Parameter]
        let body: Scope
    }

    struct Parameter: Sendable {
        let name: String
        let initial: Expression?
    }

    struct Binding: Sendable {
        let target: Target
        let value: Expression
    }

    indirect enum Kind: Sendable {
        case output([Output])
        case set(Target, Expression)
        case setBlock(Target, filter: Expression?, Scope)
        case loop(Loop)
        case branches([Branch], otherwise: [Statement])
        case macro(Macro)
        /// The macro is what the called one finds as `caller`.
        case callBlock(Macro, call: Expression)
        case filterBlock(Expression, Scope)
        case with([Binding], Scope)
        case block(name: String, Scope)
        /// The answer's part of a conversation; transformers marks it, nothing else depends on it.
        case generation(Macro)
        case autoescape(Expression, Scope)
        case breakLoop
        case continueLoop
        /// What would need another template, or none: an error when it is reached.
        case refused(String)
    }
}
