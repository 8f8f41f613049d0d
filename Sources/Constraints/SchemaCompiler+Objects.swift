import JSONTree

/// Objects: declared properties in the schema's order, each or not, then additional ones.
///
///     after(i, c)   what follows when the first i properties are decided and c members are written
///                 = member i, after(i+1, c+1)  |  after(i+1, c) if it may be left out
///
/// The count c matters for commas, up to 1, and for minProperties and maxProperties, as far as they go. All these
/// rules end in each other, so that they need no stack.
///
/// A name can be written in many ways. Those of additional members are written in one, and are none of the
/// declared ones: a later `"\u0061"` would replace an earlier `"a"` in the reader's object. Two additional members
/// of the same name may replace each other, since both fulfil the same schemas; where members are counted, those
/// of one kind therefore count as one.
extension SchemaCompiler {
    /// Members whose names are not declared: what their names are and what their values must fulfil.
    private struct Additional {
        var name: Expression
        var parts: [Part]
    }

    private struct Layout {
        var names: [String] = []
        var required: Set<String> = []
        var values: [String: [Part]] = [:]
        var additional: [Additional] = []
        var least = 0
        var most: Int?
    }

    mutating func object(
        _ schemas: [LocatedSchema], _ facts: Facts
    ) throws(ConstraintError) -> Expression {
        if let excluded = facts.excluded.first(where: { $0.object != nil }), !isChecking {
            throw ConstraintError(
                "objects cannot be excluded, found \(excluded.text.prefix(80))",
                at: schemas.first?.pointer ?? "#")
        }
        let layout = try layout(of: schemas)
        if let most = layout.most, most < layout.least { return .never }
        guard layout.names.isEmpty, layout.additional.count == 1, layout.least == 0,
            layout.most == nil, layout.additional[0].parts.isEmpty, case .rule = layout.additional[0].name
        else { return try members(of: layout, at: schemas.first?.pointer ?? "#") }
        return shared.object(&grammar)
    }

    // MARK: What may be in it

    private mutating func layout(of schemas: [LocatedSchema]) throws(ConstraintError) -> Layout {
        var layout = Layout()
        var isDeclared: Set<String> = []
        var properties: [[String: LocatedSchema]] = []
        var patterns: [[(automaton: Automaton, schema: LocatedSchema)]] = []
        var saysAdditional = false
        var isClosed = false
        for schema in schemas {
            var own: [String: LocatedSchema] = [:]
            for (name, property) in try schema.children("properties") {
                own[name] = property
                if isDeclared.insert(name).inserted { layout.names.append(name) }
            }
            properties.append(own)
            var ownPatterns: [(Automaton, LocatedSchema)] = []
            for (pattern, property) in try schema.children("patternProperties") {
                ownPatterns.append(
                    (try SchemaEvaluator.automaton(pattern, at: property.pointer), property))
            }
            patterns.append(ownPatterns)
            if schema.json["additionalProperties"] != nil { saysAdditional = true }
            if let value = schema.json["unevaluatedProperties"], value.bool != true { isClosed = true }
            if let count = try schema.count("minProperties") { layout.least = max(layout.least, count) }
            if let count = try schema.count("maxProperties") {
                layout.most = min(layout.most ?? count, count)
            }
        }
        // Where properties are declared, others come only if the schema says so: it is hardly ever meant.
        let isOpen =
            isChecking || (!isClosed && (saysAdditional || layout.names.isEmpty))
        for schema in schemas {
            for name in try schema.strings("required") {
                layout.required.insert(name)
                if isDeclared.insert(name).inserted { layout.names.append(name) }
            }
        }
        let allowedNames = try nameAutomaton(schemas)
        for name in layout.names {
            var parts: [Part] = []
            for (index, schema) in schemas.enumerated() {
                var isKnown = false
                if let property = properties[index][name] {
                    parts.append(.schema(property))
                    isKnown = true
                }
                for (automaton, property) in patterns[index] where automaton.matches(name) {
                    parts.append(.schema(property))
                    isKnown = true
                }
                if !isKnown, let additional = schema.child("additionalProperties") {
                    parts.append(.schema(additional))
                }
            }
            if let allowedNames, !allowedNames.matches(name) {
                parts = [.schema(LocatedSchema(json: false, pointer: "#/false"))]
            }
            layout.values[name] = parts
        }
        layout.additional = try additional(
            schemas, patterns, isOpen: isOpen, declared: layout.names, allowedNames)
        return layout
    }

    /// Kinds of additional members, by the patterns that their names match.
    private mutating func additional(
        _ schemas: [LocatedSchema],
        _ patterns: [[(automaton: Automaton, schema: LocatedSchema)]], isOpen: Bool,
        declared: [String], _ allowedNames: Automaton?
    ) throws(ConstraintError) -> [Additional] {
        let place = schemas.first?.pointer ?? "#"
        var all: [(schema: Int, automaton: Automaton, property: LocatedSchema)] = []
        for (index, own) in patterns.enumerated() {
            for (automaton, property) in own { all.append((index, automaton, property)) }
        }
        guard all.count <= 6 else {
            throw ConstraintError(
                "expected at most 6 patternProperties, found \(all.count)", at: place)
        }
        if all.isEmpty, declared.isEmpty, allowedNames == nil {
            let parts = schemas.compactMap { $0.child("additionalProperties") }.map { Part.schema($0) }
            guard isOpen, try flatten(parts) != nil else { return [] }
            return [Additional(name: shared.string(&grammar), parts: parts.filter { !$0.isTrue })]
        }
        do throws(Automaton.TooLarge) {
            var base = try (allowedNames ?? .anything).subtracting(Automaton(literals: declared))
            if !all.isEmpty { base = try base.intersection(.printableASCII) }
            var result: [Additional] = []
            for chosen in 0..<(1 << all.count) {
                if chosen == 0, !isOpen { continue }
                var names = base
                var parts: [Part] = []
                var matched: Set<Int> = []
                for (index, one) in all.enumerated() {
                    if chosen >> index & 1 != 0 {
                        names = try names.intersection(one.automaton)
                        parts.append(.schema(one.property))
                        matched.insert(one.schema)
                    } else {
                        names = try names.subtracting(one.automaton)
                    }
                }
                for (index, schema) in schemas.enumerated() where !matched.contains(index) {
                    if let additional = schema.child("additionalProperties") {
                        parts.append(.schema(additional))
                    }
                }
                if names.isEmpty || parts.contains(where: \.isFalse) { continue }
                let content = try names.expression(.quoted)
                let name = grammar.addRule(
                    "name", .sequence([.literal("\""), content, .literal("\"")]))
                result.append(Additional(name: .rule(name), parts: parts))
            }
            return result
        } catch {
            throw ConstraintError("expected simpler patterns of names, or fewer", at: place)
        }
    }

    // MARK: Its text

    private mutating func members(
        of layout: Layout, at place: String
    ) throws(ConstraintError) -> Expression {
        let space = shared.space(&grammar)
        // Counts beyond this are all the same.
        let counted = max(1, layout.least, layout.most ?? 0)
        let highest = layout.least > 0 || layout.most != nil ? min(counted, layout.names.count + 2) : 1
        guard (layout.names.count + 1) * (highest + 1) <= Limits.ruleCount else {
            throw ConstraintError(
                "expected fewer properties, or none of minProperties and maxProperties", at: place)
        }
        var values: [Expression] = []
        for name in layout.names {
            var key: [UInt8] = []
            JSON.appendQuoted(name, to: &key)
            values.append(
                .sequence([
                    .literal(key), SharedRules.colon, try rule(for: layout.values[name] ?? []),
                ]))
        }
        var after: [Expression] = []
        for count in 0...highest {
            let end = try self.end(of: layout, count: count, space)
            after.append(.rule(grammar.addRule("end of object", end)))
        }
        for (index, name) in layout.names.enumerated().reversed() {
            var before: [Expression] = []
            for count in 0...highest {
                var ways: [Expression] = []
                if layout.most.map({ count < $0 }) ?? true {
                    ways.append(
                        .sequence(
                            (count > 0 ? [.literal(","), space] : [])
                                + [values[index], after[min(count + 1, highest)]]))
                }
                if !layout.required.contains(name) { ways.append(after[count]) }
                before.append(.rule(grammar.addRule("members", .choice(ways))))
            }
            after = before
        }
        return .sequence([.literal("{"), space, after[0]])
    }

    /// Additional members and the brace, after `count` declared ones.
    private mutating func end(
        of layout: Layout, count: Int, _ space: Expression
    ) throws(ConstraintError) -> Expression {
        let close = Expression.sequence(
            (count > 0 ? [space] : []) + [.literal("}")])
        var ways: [Expression] = []
        if count >= layout.least { ways.append(close) }
        var kinds: [Expression] = []
        for kind in layout.additional {
            kinds.append(
                .sequence([kind.name, SharedRules.colon, try rule(for: kind.parts)]))
        }
        let most = layout.most.map { $0 - count }
        // Several of one kind may have one name, so that no more than one is sure to count.
        guard !kinds.isEmpty, most ?? 1 > 0, layout.least - count <= 1 || isChecking else {
            return .choice(ways)
        }
        let member = Expression.rule(grammar.addRule("additional member", .choice(kinds)))
        let following = Expression.sequence([.literal(","), space, member])
        ways.append(
            .sequence([
                count > 0 ? .sequence([.literal(","), space, member]) : member,
                .repeated(following, 0, most.map { $0 - 1 }), space, .literal("}"),
            ]))
        return .choice(ways)
    }
}

extension SchemaCompiler.Part {
    var isTrue: Bool { if case .schema(let schema) = self { schema.json.bool == true } else { false } }

    var isFalse: Bool { if case .schema(let schema) = self { schema.json.bool == false } else { false } }
}
