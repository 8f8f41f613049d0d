import JSONTree

/// Strings, and the names of properties.
extension SchemaCompiler {
    /// What schemas say about a string.
    private struct StringFacts {
        var least = 0
        var most: Int?
        var patterns: [(Pattern, place: String)] = []
        var refused: [(Pattern, place: String)] = []
        var excluded: [String] = []

        var isPlain: Bool { patterns.isEmpty && refused.isEmpty && excluded.isEmpty }
    }

    private func stringFacts(
        _ schemas: [LocatedSchema], excluded: [JSON]
    ) throws(ConstraintError) -> StringFacts {
        var facts = StringFacts()
        facts.excluded = excluded.compactMap(\.string)
        for schema in schemas {
            if let count = try schema.count("minLength") { facts.least = max(facts.least, count) }
            if let count = try schema.count("maxLength") {
                facts.most = min(facts.most ?? count, count)
            }
            if let value = schema.json["pattern"] {
                let place = schema.at("pattern")
                guard let text = value.string else {
                    throw ConstraintError("expected a string, found \(value.kind)", at: place)
                }
                facts.patterns.append((try SchemaEvaluator.pattern(text, at: place), place))
            }
            if let text = schema.json["not"]?["pattern"]?.string, !isChecking {
                let place = schema.at("not", "pattern")
                facts.refused.append((try SchemaEvaluator.pattern(text, at: place), place))
            }
            // Readers need not check a format, so that two of them do not exclude each other.
            if let name = schema.json["format"]?.string, !isChecking,
                let text = StringFormat.patterns[name]
            {
                let place = schema.at("format")
                facts.patterns.append((try SchemaEvaluator.pattern("^(\(text))$", at: place), place))
            }
        }
        if isChecking { facts.excluded = [] }
        return facts
    }

    mutating func string(
        _ schemas: [LocatedSchema], _ values: Facts
    ) throws(ConstraintError) -> Expression {
        let facts = try stringFacts(schemas, excluded: values.excluded)
        if let most = facts.most, most < facts.least { return .never }
        if facts.isPlain {
            if facts.least == 0, facts.most == nil { return shared.string(&grammar) }
            return quoted(
                .repeated(shared.character(&grammar), facts.least, facts.most))
        }
        // One pattern needs no automaton where the length is none of its business, or can become part of it.
        if facts.patterns.count == 1, facts.refused.isEmpty, facts.excluded.isEmpty,
            let pattern = facts.patterns[0].0.resolved(isSearch: true)
        {
            if facts.least == 0, facts.most == nil { return quoted(pattern.expression(.quoted)) }
            if case .sequence(let parts) = pattern, parts.count == 1,
                case .repeated(.character(let set), let least, let most) = parts[0]
            {
                let both = [most, facts.most].compactMap { $0 }.min()
                return quoted(
                    Pattern.repeated(.character(set), max(least, facts.least), both)
                        .expression(.quoted))
            }
        }
        return quoted(try expression(of: automaton(facts), at: facts))
    }

    private func quoted(_ content: Expression) -> Expression {
        .sequence([.literal("\""), content, .literal("\"")])
    }

    private func automaton(_ facts: StringFacts) throws(ConstraintError) -> Automaton {
        do throws(Automaton.TooLarge) {
            var result = Automaton.anything
            for (pattern, _) in facts.patterns {
                result = try result.intersection(Automaton(pattern, isSearch: true))
            }
            for (pattern, _) in facts.refused {
                result = try result.intersection(.printableASCII)
                    .subtracting(Automaton(pattern, isSearch: true))
            }
            if !facts.excluded.isEmpty {
                result = try result.subtracting(Automaton(literals: facts.excluded))
            }
            if facts.least > 0 || facts.most != nil {
                result = try result.intersection(Automaton(length: facts.least, facts.most))
            }
            return result
        } catch {
            throw tooLarge(facts)
        }
    }

    private func expression(
        of automaton: Automaton, at facts: StringFacts
    ) throws(ConstraintError) -> Expression {
        do throws(Automaton.TooLarge) {
            return try automaton.expression(.quoted)
        } catch {
            throw tooLarge(facts)
        }
    }

    private func tooLarge(_ facts: StringFacts) -> ConstraintError {
        ConstraintError(
            "expected a simpler pattern, or a smaller maxLength with it: together they need more than"
                + " \(Limits.automatonStates) states",
            at: (facts.patterns + facts.refused).first?.place ?? "#")
    }

    /// The names that fulfil `propertyNames` of the schemas; nil where they say nothing.
    func nameAutomaton(_ schemas: [LocatedSchema]) throws(ConstraintError) -> Automaton? {
        var result: Automaton?
        for schema in schemas {
            guard let names = schema.child("propertyNames"), names.json.bool != true else { continue }
            // Names are strings: what is said about other types does not matter.
            var compiler = SchemaCompiler(document: document, isChecking: isChecking)
            guard let flat = try compiler.flatten([.schema(names)]) else {
                return try? Automaton(literals: [])
            }
            guard flat.choices.isEmpty else {
                throw ConstraintError(
                    "alternatives for names are not supported; use one pattern or enum", at: names.pointer)
            }
            let values = try facts(flat.plain)
            guard values.types.contains(.string) else { return try? Automaton(literals: []) }
            let facts = try stringFacts(flat.plain, excluded: values.excluded)
            var automaton: Automaton
            if let fixed = values.values {
                let texts = try fitting(fixed, flat.plain).compactMap(\.string)
                do throws(Automaton.TooLarge) {
                    automaton = try Automaton(literals: texts)
                } catch {
                    throw tooLarge(facts)
                }
            } else {
                automaton = try self.automaton(facts)
            }
            do throws(Automaton.TooLarge) {
                if let before = result { automaton = try before.intersection(automaton) }
            } catch {
                throw tooLarge(facts)
            }
            result = automaton
        }
        return result
    }
}

extension Automaton {
    /// Texts about which readers with different ideas of classes and of ends of lines agree.
    static var printableASCII: Automaton {
        get throws(TooLarge) {
            try Automaton(
                .repeated(.character(CodePointSet([0x20...0x7E])), 0, nil), isSearch: false)
        }
    }
}

/// Formats as patterns: texts that are of the format beyond doubt, though not all of them. Names that are not
/// here are annotations, as the standard has it.
enum StringFormat {
    static let patterns: [String: String] = [
        "date": date,
        "time": time,
        "date-time": "(\(date))T(\(time))",
        "duration":
            "P(\\d{1,4}W|(\\d{1,4}Y(\\d{1,2}M)?(\\d{1,2}D)?|\\d{1,2}M(\\d{1,2}D)?|\\d{1,3}D)(\(clock))?|\(clock))",
        "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "email": "\(mailbox)@\(hostname)",
        "hostname": hostname,
        "ipv4": "\(octet)(\\.\(octet)){3}",
        "ipv6": ipv6,
        "uri": uri,
    ]

    private static let year = "(\\d{3}[1-9]|\\d{2}[1-9]0|\\d[1-9]00|[1-9]000)"
    private static let leapYear =
        "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
    private static let date =
        "\(year)-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)"
        + "|02-(0[1-9]|1\\d|2[0-8]))|\(leapYear)-02-29"
    private static let time =
        "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
    private static let clock = "T(\\d{1,2}H(\\d{1,2}M)?(\\d{1,2}S)?|\\d{1,2}M(\\d{1,2}S)?|\\d{1,2}S)"
    private static let octet = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
    private static let label = "[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?"
    private static let hostname = "\(label)(\\.\(label)){0,6}\\.[a-z]{2,10}"
    private static let mailbox = "[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}"
    private static let group = "[0-9a-f]{1,4}"
    private static let ipv6 =
        (["(\(group):){7}\(group)", "::"]
        + (1...6).map { count in
            "(\(group):){\(count)}(:\(group)){1,\(7 - count)}"
        } + ["(\(group):){1,7}:", ":(:\(group)){1,7}"]).joined(separator: "|")
    private static let uri =
        "[a-z]{2,10}://\(hostname)(:[1-9]\\d{0,3})?(/[A-Za-z0-9._~-]*)*"
        + "(\\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?"
}
