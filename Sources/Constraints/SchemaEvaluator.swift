import JSONTree

/// Says whether a value fulfils a schema: for `enum` and `const`, whose values must fulfil what stands beside
/// them.
struct SchemaEvaluator {
    let document: SchemaDocument

    /// - Parameter isPlain: without references and combining keywords, which are dealt with elsewhere.
    func fulfils(
        _ value: JSON, _ schema: LocatedSchema, isPlain: Bool = false, depth: Int = 0
    ) throws(ConstraintError) -> Bool {
        if let verdict = schema.json.bool { return verdict }
        guard depth < Limits.depth else {
            throw ConstraintError(
                "expected at most \(Limits.depth) references inside each other, found more",
                at: schema.pointer)
        }
        if !isPlain, try !combinations(value, schema, depth: depth + 1) { return false }
        let json = schema.json
        let types = try ValueTypes(of: schema)
        if !types.contains(ValueTypes(of: value)) { return false }
        if let values = json["enum"]?.array, !values.contains(where: { $0.isSame(as: value) }) {
            return false
        }
        if let constant = json["const"], !constant.isSame(as: value) { return false }
        if let not = schema.child("not"), try fulfils(value, not, depth: depth + 1) { return false }
        switch value {
        case .null, .bool: return true
        case .integer, .number: return try number(value, schema)
        case .string(let text): return try string(text, schema)
        case .array(let elements): return try array(elements, schema, depth: depth + 1)
        case .object(let object): return try members(object, schema, depth: depth + 1)
        }
    }

    private func combinations(
        _ value: JSON, _ schema: LocatedSchema, depth: Int
    ) throws(ConstraintError) -> Bool {
        if let reference = schema.json["$ref"]?.string {
            let target = try document.resolve(reference, from: schema.at("$ref"))
            if try !fulfils(value, target, depth: depth) { return false }
        }
        for part in try schema.elements("allOf") where try !fulfils(value, part, depth: depth) {
            return false
        }
        for (keyword, isOne) in [("anyOf", false), ("oneOf", true)] where schema.json[keyword] != nil {
            var count = 0
            for part in try schema.elements(keyword) where try fulfils(value, part, depth: depth) {
                count += 1
            }
            if isOne ? count != 1 : count == 0 { return false }
        }
        if let condition = schema.child("if") {
            let holds = try fulfils(value, condition, depth: depth)
            if let branch = schema.child(holds ? "then" : "else"),
                try !fulfils(value, branch, depth: depth)
            {
                return false
            }
        }
        for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
            for (name, dependent) in try schema.children(keyword) {
                guard let object = value.object, object[name] != nil else { continue }
                if let names = dependent.json.array {
                    if names.contains(where: { $0.string.map { object[$0] == nil } ?? false }) {
                        return false
                    }
                } else if try !fulfils(value, dependent, depth: depth) {
                    return false
                }
            }
        }
        return true
    }

    private func number(_ value: JSON, _ schema: LocatedSchema) throws(ConstraintError) -> Bool {
        guard let number = value.number else { return false }
        if let bound = schema.json["minimum"]?.number, number < bound { return false }
        if let bound = schema.json["maximum"]?.number, number > bound { return false }
        if let bound = schema.json["exclusiveMinimum"]?.number, number <= bound { return false }
        if let bound = schema.json["exclusiveMaximum"]?.number, number >= bound { return false }
        if let divisor = schema.json["multipleOf"]?.number, divisor > 0 {
            let quotient = number / divisor
            if quotient != quotient.rounded() { return false }
        }
        return true
    }

    private func string(_ text: String, _ schema: LocatedSchema) throws(ConstraintError) -> Bool {
        let count = text.unicodeScalars.count
        if let least = try schema.count("minLength"), count < least { return false }
        if let most = try schema.count("maxLength"), count > most { return false }
        if let pattern = schema.json["pattern"]?.string {
            return try SchemaEvaluator.automaton(pattern, at: schema.at("pattern")).matches(text)
        }
        return true
    }

    private func array(
        _ elements: [JSON], _ schema: LocatedSchema, depth: Int
    ) throws(ConstraintError) -> Bool {
        if let least = try schema.count("minItems"), elements.count < least { return false }
        if let most = try schema.count("maxItems"), elements.count > most { return false }
        if schema.json["uniqueItems"]?.bool == true {
            for (index, element) in elements.enumerated()
            where elements[..<index].contains(where: { $0.isSame(as: element) }) {
                return false
            }
        }
        let layout = try ArrayLayout(of: schema)
        for (index, element) in elements.enumerated() {
            let item = index < layout.prefix.count ? layout.prefix[index] : layout.rest
            if let item, try !fulfils(element, item, depth: depth) { return false }
        }
        if let contained = schema.child("contains") {
            var count = 0
            for element in elements where try fulfils(element, contained, depth: depth) { count += 1 }
            if count < (try schema.count("minContains") ?? 1) { return false }
            if let most = try schema.count("maxContains"), count > most { return false }
        }
        return true
    }

    private func members(
        _ object: JSONObject, _ schema: LocatedSchema, depth: Int
    ) throws(ConstraintError) -> Bool {
        if let least = try schema.count("minProperties"), object.count < least { return false }
        if let most = try schema.count("maxProperties"), object.count > most { return false }
        for name in try schema.strings("required") where object[name] == nil { return false }
        let properties = try schema.children("properties")
        let patterns = try schema.children("patternProperties")
        for (name, value) in object.members {
            var isKnown = false
            for (declared, property) in properties where declared == name {
                isKnown = true
                if try !fulfils(value, property, depth: depth) { return false }
            }
            for (pattern, property) in patterns
            where try SchemaEvaluator.automaton(pattern, at: property.pointer).matches(name) {
                isKnown = true
                if try !fulfils(value, property, depth: depth) { return false }
            }
            if !isKnown, let additional = schema.child("additionalProperties"),
                try !fulfils(value, additional, depth: depth)
            {
                return false
            }
            if let names = schema.child("propertyNames"),
                try !fulfils(.string(name), names, depth: depth)
            {
                return false
            }
        }
        return true
    }

    /// The automaton of a `pattern`, which may match anywhere.
    static func automaton(_ pattern: String, at place: String) throws(ConstraintError) -> Automaton {
        let parsed = try SchemaEvaluator.pattern(pattern, at: place)
        do throws(Automaton.TooLarge) {
            return try Automaton(parsed, isSearch: true)
        } catch {
            throw ConstraintError(
                "expected a simpler pattern: it needs more than \(Limits.automatonStates) states", at: place)
        }
    }

    static func pattern(_ pattern: String, at place: String) throws(ConstraintError) -> Pattern {
        do throws(ConstraintError) {
            return try PatternParser.parse(pattern)
        } catch {
            throw ConstraintError(error.description, at: place)
        }
    }
}

/// The schemas of an array's elements, in the way of either draft.
struct ArrayLayout: Sendable {
    var prefix: [LocatedSchema] = []
    /// Of all elements after; nil where they may be anything.
    var rest: LocatedSchema?

    init(of schema: LocatedSchema) throws(ConstraintError) {
        if schema.json["items"]?.array != nil {
            prefix = try schema.elements("items")
            rest = schema.child("additionalItems")
        } else {
            prefix = try schema.elements("prefixItems")
            rest = schema.child("items")
        }
    }
}
