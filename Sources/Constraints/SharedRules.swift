/// Rules of JSON that many others use, made when they are first asked for.
struct SharedRules: Sendable {
    private var rules: [String: Int] = [:]

    /// White space between the parts of a value: none, a space, or up to two ends of lines and an indentation.
    /// More would be valid, and some models never leave it again.
    mutating func space(_ grammar: inout Grammar) -> Expression {
        rule("white space", &grammar) { _, _ in
            .choice([
                .empty, .literal(" "),
                .sequence([
                    .repeated(.literal("\n"), 1, 2), .repeated(.bytes(ByteSet(" \t".utf8)), 0, 20),
                ]),
            ])
        }
    }

    /// One character of a string, as itself or in any of its escapes; no half of a surrogate pair.
    mutating func character(_ grammar: inout Grammar) -> Expression {
        rule("character", &grammar) { _, _ in
            let plain = CodePointSet([0x20...0x21, 0x23...0x5B, 0x5D...CodePointSet.greatest])
            let digit = Expression.bytes(ByteSet("0123456789abcdefABCDEF".utf8))
            let low = Expression.sequence([
                .literal("\\u"), .bytes(ByteSet("dD".utf8)), .bytes(ByteSet("cdefCDEF".utf8)), digit,
                digit,
            ])
            let code = Expression.choice([
                .sequence([.bytes(ByteSet("0123456789abcefABCEF".utf8)), digit, digit, digit]),
                .sequence([
                    .bytes(ByteSet("dD".utf8)),
                    .choice([
                        .sequence([.bytes(ByteSet("01234567".utf8)), digit, digit]),
                        .sequence([.bytes(ByteSet("89abAB".utf8)), digit, digit, low]),
                    ]),
                ]),
            ])
            return .choice([
                .character(plain),
                .sequence([
                    .literal("\\"),
                    .choice([
                        .bytes(ByteSet("\"\\/bfnrt".utf8)), .sequence([.literal("u"), code]),
                    ]),
                ]),
            ])
        }
    }

    mutating func string(_ grammar: inout Grammar) -> Expression {
        rule("string", &grammar) { shared, grammar in
            .sequence([
                .literal("\""), .repeated(shared.character(&grammar), 0, nil), .literal("\""),
            ])
        }
    }

    /// At most 15 digits, which every reader keeps exactly.
    mutating func integer(_ grammar: inout Grammar) -> Expression {
        rule("integer", &grammar) { _, _ in
            .choice([.literal("0"), .sequence([.optional(.literal("-")), SharedRules.whole])])
        }
    }

    /// At most 15 digits before and after the point, and 2 in the exponent: far from what overflows.
    mutating func number(_ grammar: inout Grammar) -> Expression {
        rule("number", &grammar) { _, _ in
            .sequence([
                .optional(.literal("-")), .choice([.literal("0"), SharedRules.whole]),
                .optional(.sequence([.literal("."), .repeated(SharedRules.digit, 1, 15)])),
                .optional(
                    .sequence([
                        .bytes(ByteSet("eE".utf8)), .optional(.bytes(ByteSet("+-".utf8))),
                        .repeated(SharedRules.digit, 1, 2),
                    ])),
            ])
        }
    }

    private static let digit = Expression.bytes(ByteSet("0123456789".utf8))
    private static let whole = Expression.sequence([
        .bytes(ByteSet("123456789".utf8)), .repeated(digit, 0, 14),
    ])

    /// Any value.
    mutating func value(_ grammar: inout Grammar) -> Expression {
        rule("value", &grammar) { shared, grammar in
            .choice([
                shared.object(&grammar), shared.array(&grammar), shared.string(&grammar),
                shared.number(&grammar), .literal("true"), .literal("false"), .literal("null"),
            ])
        }
    }

    mutating func array(_ grammar: inout Grammar) -> Expression {
        rule("array", &grammar) { shared, grammar in
            let value = shared.value(&grammar)
            let space = shared.space(&grammar)
            return SharedRules.list("[", value, "]", space)
        }
    }

    mutating func object(_ grammar: inout Grammar) -> Expression {
        rule("object", &grammar) { shared, grammar in
            let member = Expression.sequence([
                shared.string(&grammar), SharedRules.colon, shared.value(&grammar),
            ])
            let space = shared.space(&grammar)
            return SharedRules.list("{", member, "}", space)
        }
    }

    static let colon = Expression.sequence([.literal(":"), .optional(.literal(" "))])

    private static func list(
        _ open: String, _ element: Expression, _ close: String, _ space: Expression
    ) -> Expression {
        .sequence([
            .literal(open), space,
            .choice([
                .literal(close),
                .sequence([
                    element, .repeated(.sequence([.literal(","), space, element]), 0, nil), space,
                    .literal(close),
                ]),
            ]),
        ])
    }

    private mutating func rule(
        _ name: String, _ grammar: inout Grammar,
        _ body: (inout SharedRules, inout Grammar) -> Expression
    ) -> Expression {
        if let rule = rules[name] { return .rule(rule) }
        let rule = grammar.addRule(name)
        rules[name] = rule
        grammar.rules[rule] = body(&self, &grammar)
        return .rule(rule)
    }
}
