internal import Glibc

// Python's operators. Integers have 64 bits here; where Python would go on, a template is refused.

extension Interpreter {
    func unary(_ kind: Expression.Unary, _ operand: Value) throws(TemplateError) -> Value {
        if let integer = operand.integer {
            if kind == .plus { return .integer(integer) }
            return .integer(try checked((0).subtractingReportingOverflow(integer)))
        }
        if case .float(let value) = operand { return .float(kind == .plus ? value : -value) }
        try checkDefined(operand)
        throw fail("'\(kind.rawValue)' of a value of type \(operand.typeName)")
    }

    private func checked(
        _ result: (partialValue: Int, overflow: Bool)
    ) throws(TemplateError) -> Int {
        if result.overflow { throw fail("an integer of more than 64 bits") }
        return result.partialValue
    }

    func checkDefined(_ values: Value...) throws(TemplateError) {
        for case .undefined(let undefined) in values { throw fail(undefined.hint) }
    }

    func binary(
        _ kind: Expression.Binary, _ left: Value, _ right: Value
    ) throws(TemplateError) -> Value {
        if let one = left.integer, let other = right.integer { return try binary(kind, one, other) }
        if let one = left.number, let other = right.number { return try binary(kind, one, other) }
        switch (kind, left, right) {
        case (.modulo, .string(let format), _):
            return try made(.string(try percentFormat(format, right)))
        case (.add, .string(let one), .string(let other)):
            try spend(bytes: one.utf8.count + other.utf8.count)
            // What is added to markup is escaped, on either side.
            if one.isMarkup || other.isMarkup {
                let text =
                    (one.isMarkup ? one : one.escaped) + (other.isMarkup ? other : other.escaped)
                return try made(.string(Text(utf8: text.utf8, isMarkup: true)))
            }
            return .string(one + other)
        case (.add, .list(let one), .list(let other)):
            return try made(.list(one.values + other.values))
        case (.add, .tuple(let one), .tuple(let other)):
            return try made(.tuple(one.values + other.values))
        case (.multiply, _, _):
            if let count = right.integer, let product = try repeated(left, count) {
                return product
            }
            if let count = left.integer, let product = try repeated(right, count) {
                return product
            }
        default: break
        }
        try checkDefined(left, right)
        throw fail(
            "'\(kind.rawValue)' of values of type \(left.typeName) and \(right.typeName)")
    }

    private func repeated(_ value: Value, _ count: Int) throws(TemplateError) -> Value? {
        switch value {
        case .string(let text):
            try spend(bytes: text.utf8.count, times: count)
            return .string(Text.repeating(text, count))
        case .list(let items): return try made(.list(try repeated(items, count)))
        case .tuple(let items): return try made(.tuple(try repeated(items, count)))
        default: return nil
        }
    }

    private func repeated(_ items: Items, _ count: Int) throws(TemplateError) -> [Value] {
        try spend(bytes: items.values.count * 16, times: count)
        var values: [Value] = []
        if items.values.isEmpty { return values }
        for _ in 0..<max(count, 0) { values += items.values }
        return values
    }

    private func binary(
        _ kind: Expression.Binary, _ left: Int, _ right: Int
    ) throws(TemplateError) -> Value {
        switch kind {
        case .add: return .integer(try checked(left.addingReportingOverflow(right)))
        case .subtract: return .integer(try checked(left.subtractingReportingOverflow(right)))
        case .multiply: return .integer(try checked(left.multipliedReportingOverflow(by: right)))
        case .divide:
            if right == 0 { throw fail("division by zero") }
            return .float(Double(left) / Double(right))
        case .floorDivide, .modulo:
            if right == 0 { throw fail("division by zero") }
            let quotient = try checked(left.dividedReportingOverflow(by: right))
            let remainder = left % right
            // Swift rounds towards zero, Python down.
            let isBelow = remainder != 0 && (remainder < 0) != (right < 0)
            return .integer(
                kind == .modulo
                    ? (isBelow ? remainder + right : remainder)
                    : (isBelow ? quotient - 1 : quotient))
        case .power:
            if right < 0 {
                if left == 0 { throw fail("0 to a negative power") }
                return .float(pow(Double(left), Double(right)))
            }
            var result = 1
            var base = left
            var exponent = right
            while exponent > 0 {
                if exponent & 1 == 1 {
                    result = try checked(result.multipliedReportingOverflow(by: base))
                }
                exponent >>= 1
                if exponent > 0 { base = try checked(base.multipliedReportingOverflow(by: base)) }
            }
            return .integer(result)
        }
    }

    private func binary(
        _ kind: Expression.Binary, _ left: Double, _ right: Double
    ) throws(TemplateError) -> Value {
        switch kind {
        case .add: return .float(left + right)
        case .subtract: return .float(left - right)
        case .multiply: return .float(left * right)
        case .divide:
            if right == 0 { throw fail("division by zero") }
            return .float(left / right)
        case .floorDivide, .modulo:
            if right == 0 { throw fail("division by zero") }
            let (quotient, remainder) = Interpreter.floorDivision(left, right)
            return .float(kind == .modulo ? remainder : quotient)
        case .power:
            if left == 0, right < 0 { throw fail("0 to a negative power") }
            if left < 0, left.isFinite, right.isFinite, right != right.rounded() {
                throw fail("a fractional power of a negative number")
            }
            let result = pow(left, right)
            if result.isInfinite, left.isFinite, right.isFinite {
                throw fail("a power that is too large for a float")
            }
            return .float(result)
        }
    }

    /// Python's `divmod` of floats (floatobject.c).
    private static func floorDivision(
        _ left: Double, _ right: Double
    ) -> (quotient: Double, remainder: Double) {
        var remainder = fmod(left, right)
        var quotient = (left - remainder) / right
        if remainder != 0 {
            if (right < 0) != (remainder < 0) {
                remainder += right
                quotient -= 1
            }
        } else {
            remainder = Double(signOf: right, magnitudeOf: 0)
        }
        if quotient == 0 { return (Double(signOf: left / right, magnitudeOf: 0), remainder) }
        let floor = quotient.rounded(.down)
        return (quotient - floor > 0.5 ? floor + 1 : floor, remainder)
    }
}
