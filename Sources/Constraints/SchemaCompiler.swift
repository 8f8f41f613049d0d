import JSONTree

/// Turns a JSON Schema (draft 2020-12, with draft-07's ways of writing where they differ) into a grammar of the
/// JSON texts that fulfil it.
///
/// The grammar may leave valid values out, and never lets an invalid one in. So it has properties in the
/// schema's order, additional ones after them, none where properties are declared and `additionalProperties`
/// is not, numbers of at most 15 digits, and little white space. What cannot be kept is refused with its place.
///
/// A rule stands for a *conjunction*: schemas that a value must all fulfil. That makes `allOf`, `$ref` with
/// siblings and properties of several schemas the same thing. `anyOf`, `oneOf`, `not` and conditions are
/// *choices*, multiplied out until a conjunction has none:
///
///     conjunction ── flatten ──▶ plain schemas + choices
///                                 no choice: merge keywords, one expression per type
///                                 choices: a rule for each way of the first, with the others
///
/// Rules are made from a list of work, not by recursion, so that no chain of references is too long.
struct SchemaCompiler {
    enum Part: Sendable {
        case schema(LocatedSchema)
        /// Its combining keywords have been dealt with.
        case plain(LocatedSchema)
        case choice([[Part]], pointer: String)

        var key: String {
            switch self {
            case .schema(let schema): "s" + schema.pointer
            case .plain(let schema): "p" + schema.pointer
            case .choice(_, let pointer): "c" + pointer
            }
        }
    }

    let document: SchemaDocument
    /// Whether the grammar is only asked if it is empty: then it may have too much and must not have too little.
    let isChecking: Bool
    var grammar = Grammar()
    private var rules: [String: Int] = [:]
    private var work: [(rule: Int, parts: [Part])] = []
    private var combinationCount = 0
    /// Rules written only to see whether they are empty.
    private var checkedRuleCount = 0
    var shared = SharedRules()

    /// The grammar of a schema.
    static func grammar(for schema: JSON) throws(ConstraintError) -> Grammar {
        var compiler = SchemaCompiler(document: SchemaDocument(root: schema), isChecking: false)
        let root = try compiler.compile([.schema(LocatedSchema(json: schema, pointer: "#"))])
        compiler.grammar.root = root
        guard compiler.grammar.hasText else {
            throw ConstraintError("no value can fulfil this schema", at: "#")
        }
        return compiler.grammar
    }

    init(document: SchemaDocument, isChecking: Bool) {
        self.document = document
        self.isChecking = isChecking
    }

    private mutating func compile(_ parts: [Part]) throws(ConstraintError) -> Expression {
        let root = try rule(for: parts)
        while let (rule, parts) = work.popLast() { grammar.rules[rule] = try body(of: parts) }
        return root
    }

    /// The rule of a conjunction, to be written later.
    mutating func rule(for parts: [Part]) throws(ConstraintError) -> Expression {
        let key = parts.map(\.key).joined(separator: " ")
        if let rule = rules[key] { return .rule(rule) }
        let limit = isChecking ? Limits.rulesPerCheck : Limits.ruleCount
        guard grammar.rules.count < limit else {
            throw ConstraintError(
                "expected a smaller schema: it needs more than \(limit) rules", at: "#")
        }
        let rule = grammar.addRule(key)
        rules[key] = rule
        work.append((rule, parts))
        return .rule(rule)
    }

    private mutating func body(of parts: [Part]) throws(ConstraintError) -> Expression {
        guard let flat = try flatten(parts) else { return .never }
        guard let (ways, pointer) = flat.choices.first else { return try leaf(flat.plain) }
        let others =
            flat.plain.map { Part.plain($0) }
            + flat.choices.dropFirst().map { .choice($0.ways, pointer: $0.pointer) }
        combinationCount += ways.count
        guard combinationCount <= Limits.combinations else {
            throw ConstraintError(
                "expected fewer alternatives: multiplied out they are more than \(Limits.combinations)",
                at: pointer)
        }
        var branches: [Expression] = []
        for way in ways { branches.append(try rule(for: others + way)) }
        return .choice(branches)
    }

    /// Whether no value fulfils all parts. False where that is not sure.
    private mutating func isSurelyEmpty(_ parts: [Part]) -> Bool {
        var checker = SchemaCompiler(document: document, isChecking: true)
        let root = try? checker.compile(parts)
        checkedRuleCount += checker.grammar.rules.count
        guard let root else { return false }
        checker.grammar.root = root
        return !checker.grammar.hasText
    }

    // MARK: Conjunctions

    struct Flat {
        var plain: [LocatedSchema] = []
        var choices: [(ways: [[Part]], pointer: String)] = []
    }

    /// Takes references and `allOf` apart, and finds the choices; nil where no value fulfils the parts.
    mutating func flatten(_ parts: [Part]) throws(ConstraintError) -> Flat? {
        var flat = Flat()
        var seen: Set<String> = []
        var pending: [(schema: LocatedSchema, path: [String])] = []
        for part in parts {
            switch part {
            case .choice(let ways, let pointer): flat.choices.append((ways, pointer))
            case .plain(let schema):
                if seen.insert(schema.pointer).inserted { flat.plain.append(schema) }
            case .schema(let schema): pending.append((schema, []))
            }
        }
        pending.reverse()
        while let (schema, path) = pending.popLast() {
            if let value = schema.json.bool {
                if value { continue }
                return nil
            }
            guard schema.json.object != nil else {
                throw ConstraintError(
                    "expected a schema, an object or true or false, found \(schema.json.kind)",
                    at: schema.pointer)
            }
            guard seen.insert(schema.pointer).inserted else { continue }
            flat.plain.append(schema)
            for keyword in ["$dynamicRef", "$recursiveRef"] where schema.json[keyword] != nil {
                throw ConstraintError(
                    "this keyword is not supported; use $ref", at: schema.at(keyword))
            }
            if let reference = schema.json["$ref"] {
                guard let reference = reference.string else {
                    throw ConstraintError(
                        "expected a string, found \(reference.kind)", at: schema.at("$ref"))
                }
                guard !path.contains(reference), path.count < Limits.depth else {
                    throw ConstraintError("refers to itself", at: schema.at("$ref"))
                }
                let target = try document.resolve(reference, from: schema.at("$ref"))
                pending.append((target, path + [reference]))
            }
            for element in try schema.elements("allOf").reversed() {
                pending.append((element, path))
            }
            try addChoices(of: schema, to: &flat)
        }
        // One that says nothing is only weight.
        flat.plain.removeAll { !SchemaCompiler.hasKeyword($0.json) }
        return flat
    }

    private mutating func addChoices(
        of schema: LocatedSchema, to flat: inout Flat
    ) throws(ConstraintError) {
        if schema.json["anyOf"] != nil {
            let ways = try schema.elements("anyOf").map { [Part.schema($0)] }
            flat.choices.append((ways, schema.at("anyOf")))
        }
        if schema.json["oneOf"] != nil {
            let ways = try exclusiveWays(of: schema)
            flat.choices.append((ways, schema.at("oneOf")))
        }
        if let not = schema.child("not"), !SchemaCompiler.isPlainNegation(not.json), !isChecking {
            let ways = try negation(of: not).map { [Part.schema($0)] }
            flat.choices.append((ways, not.pointer))
        }
        if let condition = schema.child("if"), !isChecking {
            let then = schema.child("then").map { [Part.schema($0)] } ?? []
            let otherwise = schema.child("else").map { [Part.schema($0)] } ?? []
            if !then.isEmpty || !otherwise.isEmpty {
                var ways = [[Part.schema(condition)] + then]
                for negated in try negation(of: condition) {
                    ways.append([.schema(negated)] + otherwise)
                }
                flat.choices.append((ways, schema.at("if")))
            }
        }
        for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
            for (name, dependent) in try schema.children(keyword) {
                let absent = LocatedSchema(
                    json: ["properties": .object(JSONObject([(name, false)]))],
                    pointer: dependent.pointer + "/absent")
                let present: JSON
                if dependent.json.array != nil {
                    present = [
                        "properties": .object(JSONObject([(name, true)])),
                        "required": .array([.string(name)] + (dependent.json.array ?? [])),
                    ]
                } else {
                    present = [
                        "properties": .object(JSONObject([(name, true)])),
                        "required": [.string(name)], "allOf": [dependent.json],
                    ]
                }
                let ways = [
                    [Part.schema(absent)],
                    [Part.schema(LocatedSchema(json: present, pointer: dependent.pointer + "/present"))],
                ]
                flat.choices.append((ways, dependent.pointer))
            }
        }
    }

    /// `oneOf`: each way without the values of those that it shares some with.
    private mutating func exclusiveWays(
        of schema: LocatedSchema
    ) throws(ConstraintError) -> [[Part]] {
        let ways = try schema.elements("oneOf")
        if isChecking { return ways.map { [.schema($0)] } }
        guard ways.count <= 64 else {
            throw ConstraintError(
                "expected at most 64 alternatives, found \(ways.count); use anyOf",
                at: schema.at("oneOf"))
        }
        var result = ways.map { [Part.schema($0)] }
        let plain = LocatedSchema(
            json: SchemaCompiler.withoutChoices(schema.json), pointer: schema.pointer)
        for one in ways.indices {
            for other in ways.indices where other > one {
                guard checkedRuleCount <= Limits.checkedRules else {
                    throw ConstraintError(
                        "the alternatives are too large to see whether they exclude each other;"
                            + " use anyOf", at: schema.at("oneOf"))
                }
                if isSurelyEmpty([.schema(plain), .schema(ways[one]), .schema(ways[other])]) {
                    continue
                }
                for (way, excluded) in [(one, other), (other, one)] {
                    result[way].append(
                        .schema(
                            LocatedSchema(
                                json: ["not": ways[excluded].json],
                                pointer: ways[excluded].pointer + "/not")))
                }
            }
        }
        return result
    }

    private static func withoutChoices(_ schema: JSON) -> JSON {
        guard var object = schema.object else { return schema }
        for keyword in ["oneOf", "anyOf", "not", "if"] { object[keyword] = nil }
        return .object(object)
    }

    /// Keywords that `leaf` understands.
    private static let plainKeywords = [
        "type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties",
        "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "items", "prefixItems",
        "additionalItems", "contains", "minContains", "maxContains", "minItems", "maxItems", "uniqueItems",
        "unevaluatedItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    ]

    private static func hasKeyword(_ schema: JSON) -> Bool {
        plainKeywords.contains { schema[$0] != nil } || schema["not"].map(isPlainNegation) ?? false
    }
}

extension JSONObject {
    init(_ members: [(String, JSON)]) {
        self.init()
        for (name, value) in members { self[name] = value }
    }
}

extension Grammar {
    /// Whether there is a text at all.
    var hasText: Bool {
        var known = Array(repeating: false, count: rules.count)
        var isChanged = true
        while isChanged {
            isChanged = false
            for index in rules.indices.reversed() where !known[index] && rules[index].hasText(known) {
                known[index] = true
                isChanged = true
            }
        }
        return root.hasText(known)
    }
}

extension Expression {
    /// Whether it has a text, given which rules have one.
    fileprivate func hasText(_ rules: [Bool]) -> Bool {
        switch self {
        case .never: false
        case .empty: true
        case .bytes(let set): !set.isEmpty
        case .character(let set): !set.isEmpty
        case .sequence(let parts): parts.allSatisfy { $0.hasText(rules) }
        case .choice(let parts): parts.contains { $0.hasText(rules) }
        case .repeated(let body, let least, let most):
            most.map { $0 >= least } ?? true && (least == 0 || body.hasText(rules))
        case .rule(let index): rules[index]
        // Automata are made without states that lead nowhere.
        case .network(let network): network.states.contains { $0.accepts }
        case .marked(let body): body.hasText(rules)
        }
    }
}
