// Equality, order and membership. They recurse into containers and are paid for by the element.

extension Interpreter {
    func compare(
        _ comparison: Expression.Comparison, _ left: Value, _ right: Value
    ) throws(TemplateError) -> Bool {
        switch comparison {
        case .equal: return try areEqual(left, right)
        case .notEqual: return try !areEqual(left, right)
        case .less: return try isOrdered(left, right, "<") { $0 < 0 }
        case .lessOrEqual: return try isOrdered(left, right, "<=") { $0 <= 0 }
        case .greater: return try isOrdered(left, right, ">") { $0 > 0 }
        case .greaterOrEqual: return try isOrdered(left, right, ">=") { $0 >= 0 }
        case .isIn: return try contains(right, left)
        case .isNotIn: return try !contains(right, left)
        }
    }

    func areEqual(_ one: Value, _ other: Value) throws(TemplateError) -> Bool {
        try spend()
        switch (one, other) {
        case (.undefined, .undefined), (.none, .none), (.missing, .missing): return true
        case (.string(let one), .string(let other)): return one == other
        case (.list(let one), .list(let other)), (.tuple(let one), .tuple(let other)):
            return one === other ? true : try areEqual(one.values, other.values)
        case (.dictionary(let one), .dictionary(let other)): return try areEqual(one, other)
        case (.range(let one), .range(let other)):
            return one.count == other.count
                && (one.count == 0
                    || one.start == other.start && (one.count == 1 || one.step == other.step))
        case (.view(let one), .view(let other)):
            if one.part == .values || one.part != other.part { return one === other }
            if one.part == .items { return try areEqual(one.dict, other.dict) }
            if one.dict.count != other.dict.count { return false }
            return try hasKeys(one.dict, of: other.dict)
        case (.generator(let one), .generator(let other)): return one === other
        case (.namespace(let one), .namespace(let other)): return one === other
        case (.loop(let one), .loop(let other)): return one === other
        case (.cycler(let one), .cycler(let other)): return one === other
        case (.joiner(let one), .joiner(let other)): return one === other
        case (.macro(let one), .macro(let other)): return one === other
        case (.function(let one), .function(let other)): return one == other
        case (.method(let one), .method(let other)):
            return one.name == other.name ? try areEqual(one.receiver, other.receiver) : false
        default:
            if let one = one.integer, let other = other.integer { return one == other }
            if case .float(let one) = one, let other = other.integer {
                return Int(exactly: one) == other
            }
            if let one = one.integer, case .float(let other) = other {
                return Int(exactly: other) == one
            }
            if case .float(let one) = one, case .float(let other) = other { return one == other }
            return false
        }
    }

    private func areEqual(_ one: [Value], _ other: [Value]) throws(TemplateError) -> Bool {
        if one.count != other.count { return false }
        for index in one.indices where try !areEqual(one[index], other[index]) { return false }
        return true
    }

    private func areEqual(_ one: Dict, _ other: Dict) throws(TemplateError) -> Bool {
        if one === other { return true }
        if one.count != other.count { return false }
        for (key, value) in zip(one.keys, one.values) {
            guard let match = other[try self.key(of: key)] else { return false }
            if try !areEqual(value, match) { return false }
        }
        return true
    }

    private func hasKeys(_ one: Dict, of other: Dict) throws(TemplateError) -> Bool {
        for key in one.keys where other[try self.key(of: key)] == nil { return false }
        return true
    }

    private func isOrdered(
        _ left: Value, _ right: Value, _ sign: String, _ test: (Int) -> Bool
    ) throws(TemplateError) -> Bool {
        guard let order = try order(left, right, sign) else { return false }
        return test(order)
    }

    /// Below, at or above 0 as `left` is less than, equal to or greater than `right`; nil beside what is not a number.
    func order(_ left: Value, _ right: Value, _ sign: String = "<") throws(TemplateError) -> Int? {
        try spend()
        if let one = left.integer, let other = right.integer {
            return one < other ? -1 : one == other ? 0 : 1
        }
        if let one = left.number, let other = right.number {
            if one.isNaN || other.isNaN { return nil }
            return one < other ? -1 : one == other ? 0 : 1
        }
        switch (left, right) {
        case (.string(let one), .string(let other)):
            return one == other ? 0 : one < other ? -1 : 1
        case (.list(let one), .list(let other)), (.tuple(let one), .tuple(let other)):
            for (first, second) in zip(one.values, other.values)
            where try !areEqual(first, second) {
                return try order(first, second, sign)
            }
            let (count, otherCount) = (one.values.count, other.values.count)
            return count < otherCount ? -1 : count == otherCount ? 0 : 1
        default:
            try checkDefined(left, right)
            throw fail(
                "'\(sign)' between values of type \(left.typeName) and \(right.typeName)")
        }
    }

    /// `value in container`.
    func contains(_ container: Value, _ value: Value) throws(TemplateError) -> Bool {
        switch container {
        case .string(let text):
            guard let part = value.text else {
                throw fail("'in' a string asks for a string, and not \(value.typeName)")
            }
            try spend(steps: text.utf8.count / 16)
            return text.find(part) != nil
        case .dictionary(let dict): return dict[try key(of: value)] != nil
        case .view(let view) where view.part == .keys:
            return view.dict[try key(of: value)] != nil
        case .range(let range):
            if let integer = value.integer {
                let distance = integer &- range.start
                return range.count > 0 && distance % range.step == 0
                    && (0..<range.count).contains(distance / range.step)
            }
            fallthrough
        default:
            let cursor = try self.cursor(over: container)
            while let element = try cursor.next(self) {
                if try areEqual(element, value) { return true }
            }
            return false
        }
    }

    /// What identifies a value in a dictionary; lists and dictionaries have none.
    func key(of value: Value) throws(TemplateError) -> Key {
        try spend()
        switch value {
        case .none: return .none
        case .bool(let value): return .integer(value ? 1 : 0)
        case .integer(let value): return .integer(value)
        case .float(let value): return Int(exactly: value).map { .integer($0) } ?? .float(value)
        case .string(let text): return .string(text)
        case .tuple(let items):
            var keys: [Key] = []
            for item in items.values { keys.append(try key(of: item)) }
            try spend(bytes: keys.count * 32)
            return .tuple(keys)
        case .missing, .undefined: return .undefined
        case .range(let range):
            return .tuple([.integer(range.start), .integer(range.stop), .integer(range.step)])
        case .generator(let object): return .object(ObjectIdentifier(object))
        case .namespace(let object): return .object(ObjectIdentifier(object))
        case .loop(let object): return .object(ObjectIdentifier(object))
        case .cycler(let object): return .object(ObjectIdentifier(object))
        case .joiner(let object): return .object(ObjectIdentifier(object))
        case .macro(let object): return .object(ObjectIdentifier(object))
        case .method(let object): return .object(ObjectIdentifier(object))
        case .function(let name): return .function(name)
        case .list, .dictionary, .view:
            throw fail("a value of type \(value.typeName) cannot be a key: it cannot be hashed")
        }
    }

    // MARK: Sequences

    /// Python's `iter`.
    func cursor(over value: Value) throws(TemplateError) -> Cursor {
        switch value {
        case .undefined: return Cursor([])
        case .string(let text):
            try spend(bytes: text.utf8.count * 32)
            return Cursor(text.scalars.map { .string(Text([$0]).marked(like: Text())) })
        case .list(let items), .tuple(let items): return Cursor(items.values)
        case .dictionary(let dict): return Cursor(dict.keys)
        case .view(let view):
            if view.part == .items { try spend(bytes: view.dict.count * 128) }
            return Cursor(view.elements)
        case .range(let range): return Cursor(range)
        case .generator(let generator): return Cursor(generator)
        default: throw fail("a value of type \(value.typeName) is no sequence")
        }
    }

    /// All elements of a sequence.
    func elements(of value: Value) throws(TemplateError) -> [Value] {
        if case .list(let items) = value { return items.values }
        if case .tuple(let items) = value { return items.values }
        return try cursor(over: value).rest(self)
    }

    /// Python's `len`.
    func count(of value: Value) throws(TemplateError) -> Int {
        switch value {
        case .undefined: return 0
        case .string(let text): return text.count
        case .list(let items), .tuple(let items): return items.values.count
        case .dictionary(let dict): return dict.count
        case .view(let view): return view.dict.count
        case .range(let range): return range.count
        case .loop(let loop): return try loop.count(self)
        default: throw fail("a value of type \(value.typeName) has no length")
        }
    }

    /// A stable merge sort by `key`, as Python's `sorted`.
    func sorted(
        _ values: [Value], reversed: Bool = false,
        by key: (Value) throws(TemplateError) -> Value
    ) throws(TemplateError) -> [Value] {
        var keyed: [(key: Value, value: Value)] = []
        for value in values { keyed.append((try key(value), value)) }
        // Reversed twice around the sort, equal elements keep their order.
        if reversed { keyed.reverse() }
        keyed = try mergeSorted(keyed[...])
        if reversed { keyed.reverse() }
        return keyed.map(\.value)
    }

    private func mergeSorted(
        _ values: ArraySlice<(key: Value, value: Value)>
    ) throws(TemplateError) -> [(key: Value, value: Value)] {
        if values.count < 2 { return Array(values) }
        let middle = values.startIndex + values.count / 2
        let left = try mergeSorted(values[..<middle])
        let right = try mergeSorted(values[middle...])
        var result: [(key: Value, value: Value)] = []
        result.reserveCapacity(values.count)
        var (one, other) = (0, 0)
        while one < left.count, other < right.count {
            if let order = try order(right[other].key, left[one].key), order < 0 {
                result.append(right[other])
                other += 1
            } else {
                result.append(left[one])
                one += 1
            }
        }
        result += left[one...]
        result += right[other...]
        return result
    }
}
