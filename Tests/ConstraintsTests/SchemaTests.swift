import JSONTree
import Testing

@testable import Constraints

struct SchemaTests {
    /// Schemas with texts that are offered for them and texts that are not.
    @Test func offersTheTextsOfASchema() throws {
        let cases = try #require(Fixtures.json("cases.json")["texts"]?.array)
        #expect(cases.count > 40)
        for one in cases {
            let schema = try #require(one["schema"])
            let constraint = try Constraint(schema: schema)
            for text in one["valid"]?.array?.compactMap(\.string) ?? [] {
                #expect(constraint.matches(Array(text.utf8)), "\(schema.text): \(text)")
            }
            for text in one["invalid"]?.array?.compactMap(\.string) ?? [] {
                #expect(!constraint.matches(Array(text.utf8)), "\(schema.text): \(text)")
            }
        }
    }

    @Test func refusesWithThePointer() throws {
        for one in try #require(Fixtures.json("cases.json")["refusals"]?.array) {
            let schema = try #require(one["schema"])
            let error = #expect(throws: ConstraintError.self) { try Constraint(schema: schema) }
            #expect(error?.description == one["message"]?.string)
        }
    }

    /// Every number of three digits and two after the point, against arithmetic.
    @Test(arguments: [
        (-1.5, 12.25), (0, 0), (-0.05, 0.05), (99.99, 100), (-100, -99.9), (1, 1), (-3, 7),
        (0.1, 0.11),
    ])
    func boundsAreExact(least: Double, most: Double) throws {
        for isExclusive in [false, true] {
            let range = DecimalRange(
                lower: .init(value: Decimal(least), isExclusive: isExclusive),
                upper: .init(value: Decimal(most), isExclusive: isExclusive), fractionDigits: 2,
                wholeDigits: 3)
            let automaton = try range.automaton()
            for hundredths in -10100...10100 {
                let sign = hundredths < 0 ? "-" : ""
                let magnitude = abs(hundredths)
                let digits = String(magnitude % 100)
                let text =
                    sign + String(magnitude / 100) + "." + (digits.count == 1 ? "0" : "") + digits
                let value = Double(hundredths) / 100
                let expected =
                    isExclusive ? value > least && value < most : value >= least && value <= most
                #expect(automaton.matches(text) == expected, "\(text)")
                if magnitude % 10 == 0 {
                    #expect(automaton.matches(String(text.dropLast())) == expected)
                }
                if magnitude % 100 == 0 {
                    let isWritten = expected && !(hundredths == 0 && sign == "-")
                    #expect(automaton.matches(String(text.dropLast(3))) == isWritten)
                }
            }
        }
    }

    @Test(arguments: [1, 2, 3, 7, 10, 12, 97, 1000]) func multiplesAreExact(divisor: Int) throws {
        let automaton = try DecimalRange.multiples(of: divisor)
        for value in -2100...2100 {
            #expect(automaton.matches(String(value)) == (value % divisor == 0), "\(value)")
        }
    }

    @Test(arguments: [
        "100000000000000000000", "1e-7", "0.1", "5e-324", "123456.75", "-2.5", "1e22", "0",
    ])
    func decimalsKeepTheirDigits(text: String) throws {
        let decimal = Decimal(try #require(Double(text)))
        let digits = decimal.whole.map(String.init).joined()
        let fraction = decimal.fraction.map(String.init).joined()
        let written =
            (decimal.isNegative ? "-" : "") + digits + "." + (fraction.isEmpty ? "0" : fraction)
        #expect(Double(written) == Double(text))
    }

    @Test func hostileSchemasAreRefusedOrBounded() throws {
        // 2^20 combinations.
        let pair: JSON = [
            "anyOf": [["type": "string", "maxLength": 5], ["type": "string", "minLength": 2]]
        ]
        let many = ["allOf": .array(Array(repeating: pair, count: 20))] as JSON
        let error = #expect(throws: ConstraintError.self) { try Constraint(schema: many) }
        #expect(
            error?.problem == "expected fewer alternatives: multiplied out they are more than 2000")
        // A chain of references, longer than any stack.
        var definitions = JSONObject()
        for index in 0..<5000 {
            definitions["d\(index)"] = [
                "type": "array", "items": ["$ref": .string("#/$defs/d\(index + 1)")],
            ]
        }
        definitions["d5000"] = ["type": "null"]
        let chain = try Constraint(
            schema: ["$defs": .object(definitions), "$ref": "#/$defs/d0"])
        #expect(chain.matches(Array("[[[]]]".utf8)))
        // Large counts.
        let large: JSON = [
            "type": "array", "maxItems": 1_000_000,
            "items": ["type": "string", "minLength": 10, "maxLength": 1_000_000],
        ]
        let bounded = try Constraint(schema: large)
        #expect(bounded.program.nodes.count < 200)
        let explosive: JSON = ["type": "string", "pattern": "(a|b)*a(a|b){30}", "maxLength": 40]
        #expect(throws: ConstraintError.self) { try Constraint(schema: explosive) }
        var deep: JSON = ["type": "null"]
        for _ in 0..<120 { deep = ["type": "array", "items": deep] }
        #expect(try Constraint(schema: deep).matches(Array("[[]]".utf8)))
    }

    @Test func enumsMayHaveThousandsOfValues() throws {
        let words = (0..<3000).map { JSON.string(String(UnicodeScalar(0x4E00 + $0)!) + "\($0)") }
        let constraint = try Constraint(schema: ["enum": .array(words)])
        for word in words.suffix(8) { #expect(constraint.matches(Array(word.text.utf8))) }
    }

    @Test func whiteSpaceIsBounded() throws {
        let constraint = Constraint.jsonObject()
        #expect(constraint.matches(Array("{\n\n  \"a\": 1\n}".utf8)))
        #expect(!constraint.matches(Array("{\n\n\n\"a\":1}".utf8)))
        #expect(!constraint.matches(Array("{  \"a\":1}".utf8)))
        #expect(!constraint.matches(Array("{\"a\" :1}".utf8)))
        #expect(!constraint.matches(Array(" {}".utf8)))
    }
}
