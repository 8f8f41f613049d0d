import JSONTree

/// Conjunctions without choices: the keywords of all their schemas together, and an expression for each type.
extension SchemaCompiler {
    /// What the schemas say about the value itself.
    struct Facts {
        var types = ValueTypes.all
        /// From `enum` and `const`.
        var values: [JSON]?
        /// From `not` with either.
        var excluded: [JSON] = []
    }

    func facts(_ schemas: [LocatedSchema]) throws(ConstraintError) -> Facts {
        var facts = Facts()
        for schema in schemas {
            facts.types.formIntersection(try ValueTypes(of: schema))
            if let value = schema.json["enum"] {
                guard let values = value.array else {
                    throw ConstraintError(
                        "expected an array, found \(value.kind)", at: schema.at("enum"))
                }
                facts.values = facts.values ?? values
            }
            if let value = schema.json["const"] { facts.values = facts.values ?? [value] }
            if let not = schema.json["not"], SchemaCompiler.isPlainNegation(not) {
                facts.excluded += not["enum"]?.array ?? []
                if let value = not["const"] { facts.excluded.append(value) }
            }
        }
        return facts
    }

    mutating func leaf(_ schemas: [LocatedSchema]) throws(ConstraintError) -> Expression {
        if schemas.isEmpty { return shared.value(&grammar) }
        var facts = try facts(schemas)
        if let values = facts.values {
            let chosen = try fitting(values, schemas)
            return .choice(chosen.map { .literal($0.text) })
        }
        // Without a type, a schema about properties is also fulfilled by a string. It is an object that is meant.
        if facts.types == .all, !isChecking {
            let implied = schemas.reduce(into: ValueTypes()) {
                $0.formUnion(ValueTypes.implied(by: $1.json))
            }
            if !implied.isEmpty { facts.types = implied }
        }
        var ways: [Expression] = []
        func isAllowed(_ value: JSON) -> Bool {
            !facts.excluded.contains { $0.isSame(as: value) }
        }
        if facts.types.contains(.object) { ways.append(try object(schemas, facts)) }
        if facts.types.contains(.array) { ways.append(try array(schemas, facts)) }
        if facts.types.contains(.string) { ways.append(try string(schemas, facts)) }
        if !facts.types.isDisjoint(with: .number) { ways.append(try number(schemas, facts)) }
        if facts.types.contains(.boolean) {
            ways += [true, false].filter { isAllowed(.bool($0)) }.map { .literal("\($0)") }
        }
        if facts.types.contains(.null), isAllowed(.null) { ways.append(.literal("null")) }
        return .choice(ways)
    }

    /// The values that fulfil all of the schemas, each once.
    func fitting(_ values: [JSON], _ schemas: [LocatedSchema]) throws(ConstraintError) -> [JSON] {
        let evaluator = SchemaEvaluator(document: document)
        var chosen: [JSON] = []
        for value in values where !chosen.contains(where: { $0.isSame(as: value) }) {
            var fits = true
            for schema in schemas {
                fits = try evaluator.fulfils(value, schema, isPlain: true)
                if !fits { break }
            }
            if fits { chosen.append(value) }
        }
        return chosen
    }

    // MARK: Numbers

    private mutating func number(
        _ schemas: [LocatedSchema], _ facts: Facts
    ) throws(ConstraintError) -> Expression {
        var range = DecimalRange(fractionDigits: 0, wholeDigits: 15)
        var divisors: [Double] = []
        for schema in schemas {
            for (keyword, isLower, isExclusive) in [
                ("minimum", true, false), ("maximum", false, false),
                ("exclusiveMinimum", true, true), ("exclusiveMaximum", false, true),
            ] {
                guard let value = schema.json[keyword] else { continue }
                let bound: Decimal
                switch value {
                case .integer(let whole): bound = Decimal(whole)
                case .number(let number): bound = Decimal(number)
                // Draft 4 had it beside `minimum`.
                case .bool: throw ConstraintError(
                    "expected a number, found \(value.text); draft 4 is not supported",
                    at: schema.at(keyword))
                default:
                    throw ConstraintError(
                        "expected a number, found \(value.kind)", at: schema.at(keyword))
                }
                let one = DecimalRange.Bound(value: bound, isExclusive: isExclusive)
                if isLower {
                    range.lower = DecimalRange.tighter(range.lower, one, isLower: true)
                } else {
                    range.upper = DecimalRange.tighter(range.upper, one, isLower: false)
                }
            }
            if let value = schema.json["multipleOf"] {
                guard let divisor = value.number, divisor > 0 else {
                    throw ConstraintError(
                        "expected a number above 0, found \(value.text)", at: schema.at("multipleOf"))
                }
                let isExact = Int(exactly: divisor) != nil || [2, 4, 8].contains { $0 * divisor == 1 }
                guard isExact || isChecking else {
                    // 0.07 / 0.01 is not 7 in doubles: whether it is a multiple depends on the reader.
                    throw ConstraintError(
                        "only whole divisors and 0.5, 0.25 and 0.125 are supported, found \(value.text)",
                        at: schema.at("multipleOf"))
                }
                divisors.append(divisor)
            }
        }
        let excluded = facts.excluded.filter { $0.number != nil }
        var isWhole = !facts.types.contains(.fraction) || !excluded.isEmpty
        if facts.types.isDisjoint(with: .integer) {
            // Numbers that are not whole arise only from `not`, and have no digits of their own.
            return isChecking ? .literal("0.5") : .never
        }
        if range.lower == nil, range.upper == nil, divisors.isEmpty, excluded.isEmpty {
            return isWhole ? shared.integer(&grammar) : shared.number(&grammar)
        }
        let place = schemas.first { $0.json["multipleOf"] != nil }?.at("multipleOf")
            ?? schemas.first?.pointer ?? "#"
        var filters: [Automaton] = []
        do throws(Automaton.TooLarge) {
            for divisor in divisors {
                if let whole = Int(exactly: divisor) {
                    filters.append(try DecimalRange.multiples(of: whole))
                    isWhole = true
                } else if let parts = [2, 4, 8].first(where: { Double($0) * divisor == 1 }) {
                    if !isWhole { filters.append(try DecimalRange.steps(perUnit: parts)) }
                }
            }
            range.fractionDigits = isWhole ? 0 : range.usefulFractionDigits
            var numbers = try range.automaton()
            for filter in filters { numbers = try numbers.intersection(filter) }
            if !excluded.isEmpty, !isChecking {
                let texts = excluded.compactMap { $0.integer.map(String.init) }
                numbers = try numbers.subtracting(Automaton(literals: texts))
            }
            return try numbers.expression(.plain)
        } catch {
            throw ConstraintError(
                "expected bounds and divisors of fewer digits, or a divisor up to \(Limits.automatonStates)",
                at: place)
        }
    }

    // MARK: Arrays

    private mutating func array(
        _ schemas: [LocatedSchema], _ facts: Facts
    ) throws(ConstraintError) -> Expression {
        var least = 0
        var most: Int?
        var isUnique = false
        var isClosed = false
        var layouts: [ArrayLayout] = []
        var contained: [(schema: LocatedSchema, count: Int)] = []
        for schema in schemas {
            layouts.append(try ArrayLayout(of: schema))
            if let count = try schema.count("minItems") { least = max(least, count) }
            if let count = try schema.count("maxItems") { most = min(most ?? count, count) }
            if schema.json["uniqueItems"]?.bool == true { isUnique = true }
            if let value = schema.json["unevaluatedItems"], value.bool != true { isClosed = true }
            if let one = schema.child("contains") {
                contained.append((one, try schema.count("minContains") ?? 1))
                if schema.json["maxContains"] != nil, !isChecking {
                    throw ConstraintError(
                        "this keyword is not supported; use maxItems", at: schema.at("maxContains"))
                }
            }
        }
        if isChecking {
            isUnique = false
            isClosed = false
        }
        if let excluded = facts.excluded.first(where: { $0.array != nil }), !isChecking {
            throw ConstraintError(
                "arrays cannot be excluded, found \(excluded.text.prefix(80))",
                at: schemas.first?.pointer ?? "#")
        }
        var prefix = layouts.map { $0.prefix.count }.max() ?? 0
        // What must be contained comes first: which element it is is free.
        for one in contained {
            prefix = max(prefix, one.count)
            least = max(least, one.count)
        }
        if let most, prefix > most { prefix = max(most, 0) }
        guard prefix <= Limits.combinations, least <= Limits.repetition else {
            throw ConstraintError(
                "expected fewer items, found \(max(prefix, least))", at: schemas.first?.pointer ?? "#")
        }
        for one in contained where one.count > prefix { return .never }

        func parts(at index: Int?) -> [Part] {
            var result: [Part] = []
            for layout in layouts {
                if let index, index < layout.prefix.count {
                    result.append(.schema(layout.prefix[index]))
                } else if let rest = layout.rest {
                    result.append(.schema(rest))
                }
            }
            for one in contained {
                if let index, index < one.count { result.append(.schema(one.schema)) }
            }
            return result
        }
        if isUnique, most ?? 2 > 1 {
            guard prefix == 0, !isClosed, let values = try finiteValues(parts(at: nil)) else {
                throw ConstraintError(
                    "only items of an enum, or at most one item, can be kept unique",
                    at: schemas.first { $0.json["uniqueItems"] != nil }?.at("uniqueItems") ?? "#")
            }
            return uniqueArray(values, least, most ?? values.count)
        }
        if isClosed { most = min(most ?? prefix, prefix) }
        if let most, most < least { return .never }

        let space = shared.space(&grammar)
        let close = Expression.sequence([space, .literal("]")])
        // From the last element to the first: `tail` is what follows after `index` elements.
        var tail: Expression
        let restLeast = max(0, least - max(prefix, 1))
        if most.map({ $0 <= prefix }) ?? false {
            tail = least <= prefix ? close : .never
        } else {
            let rest = try rule(for: parts(at: nil))
            let following = Expression.sequence([.literal(","), space, rest])
            let restMost = most.map { $0 - max(prefix, 1) }
            tail = .sequence([.repeated(following, restLeast, restMost), close])
            if prefix == 0 { tail = .sequence([rest, tail]) }
        }
        for index in (0..<prefix).reversed() {
            let element = try rule(for: parts(at: index))
            let here = Expression.sequence(
                (index > 0 ? [.literal(","), space] : []) + [element, tail])
            let isEnd = index > 0 && index >= least
            tail = .rule(grammar.addRule("items", isEnd ? .choice([here, close]) : here))
        }
        if most == 0 { return .sequence([.literal("["), .literal("]")]) }
        return .sequence([
            .literal("["), space, least == 0 ? .choice([tail, .literal("]")]) : tail,
        ])
    }

    /// All values of the parts, where they are few.
    private mutating func finiteValues(_ parts: [Part]) throws(ConstraintError) -> [JSON]? {
        guard let flat = try flatten(parts) else { return [] }
        guard flat.choices.isEmpty else { return nil }
        let facts = try facts(flat.plain)
        if let values = facts.values { return try fitting(values, flat.plain) }
        guard facts.types.isSubset(of: [.boolean, .null]), facts.excluded.isEmpty else { return nil }
        return (facts.types.contains(.boolean) ? [true, false] : [])
            + (facts.types.contains(.null) ? [.null] : [])
    }

    /// Arrays in which no value comes twice: in any order of up to 6, in the schema's order of more.
    private mutating func uniqueArray(_ values: [JSON], _ least: Int, _ most: Int) -> Expression {
        let space = shared.space(&grammar)
        let close = Expression.sequence([space, .literal("]")])
        let most = min(most, values.count)
        guard least <= most else { return .never }
        var rules: [Int: Int] = [:]
        let isOrdered = values.count > 6
        // By what may still come: a set of the values, or the first of them, and the count so far.
        func key(_ rest: Int, _ count: Int) -> Int { isOrdered ? rest * (most + 1) + count : rest }
        var pending = [(rest: isOrdered ? 0 : (1 << values.count) - 1, count: 0)]
        let start = grammar.addRule("unique items")
        rules[key(pending[0].rest, 0)] = start
        while let (rest, count) = pending.popLast() {
            var ways: [Expression] = []
            if count >= least { ways.append(count == 0 ? .literal("]") : close) }
            if count < most {
                for (index, value) in values.enumerated()
                where isOrdered ? index >= rest : rest >> index & 1 != 0 {
                    let after = isOrdered ? index + 1 : rest & ~(1 << index)
                    let next = key(after, count + 1)
                    if rules[next] == nil {
                        rules[next] = grammar.addRule("unique items")
                        pending.append((after, count + 1))
                    }
                    ways.append(
                        .sequence(
                            (count > 0 ? [.literal(","), space] : [])
                                + [.literal(value.text), .rule(rules[next] ?? start)]))
                }
            }
            grammar.rules[rules[key(rest, count)] ?? start] = .choice(ways)
        }
        return .sequence([.literal("["), space, .rule(start)])
    }
}

extension DecimalRange {
    static func tighter(_ one: Bound?, _ other: Bound, isLower: Bool) -> Bound {
        guard let one else { return other }
        let isTighter =
            isLower
            ? Decimal.isLess(one.value, other.value) : Decimal.isLess(other.value, one.value)
        if isTighter { return other }
        let isEqual =
            !Decimal.isLess(one.value, other.value) && !Decimal.isLess(other.value, one.value)
        return isEqual && other.isExclusive ? other : one
    }

    /// One more than the bounds have, so that there is something between them; and no more than 15 digits in
    /// all, so that different numbers are different doubles.
    var usefulFractionDigits: Int {
        let whole = max(lower?.value.whole.count ?? 1, upper?.value.whole.count ?? 1)
        let fraction = max(lower?.value.fraction.count ?? 0, upper?.value.fraction.count ?? 0)
        return max(min(max(6, fraction + 1), 15 - whole), min(fraction, 17))
    }

    /// Numbers in whole steps of 1/2, 1/4 or 1/8.
    static func steps(perUnit parts: Int) throws(Automaton.TooLarge) -> Automaton {
        let fractions = (1..<parts).map { Decimal(Double($0) / Double(parts)).fraction }
        let texts = fractions.map { digits in
            Pattern.sequence(
                digits.map { .character(CodePointSet(UInt32($0) + 0x30)) } + [
                    .repeated(.character(CodePointSet("0")), 0, nil)
                ])
        }
        let zeros = Pattern.repeated(.character(CodePointSet("0")), 1, nil)
        return try Automaton(
            .sequence([
                .repeated(.character(CodePointSet("-")), 0, 1),
                .repeated(.character(.digits), 1, nil),
                .repeated(.sequence([.character(CodePointSet(".")), .choice(texts + [zeros])]), 0, 1),
            ]), isSearch: false)
    }
}
