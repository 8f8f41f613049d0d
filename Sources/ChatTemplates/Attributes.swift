// `value.name`, `value[key]` and slices, by the rules of Jinja's sandbox: a name means an attribute first and an entry
// second, a key the other way round, and what is neither is undefined.

extension Interpreter {
    func attribute(_ name: String, of value: Value) throws(TemplateError) -> Value {
        if case .undefined(let undefined) = value { throw fail(undefined.hint) }
        if let attribute = try ownAttribute(name, of: value) { return attribute }
        if case .dictionary(let dict) = value, let entry = dict[name] { return entry }
        return missing(name, of: value)
    }

    func item(_ key: Value, of value: Value) throws(TemplateError) -> Value {
        switch value {
        case .undefined(let undefined): throw fail(undefined.hint)
        case .dictionary(let dict):
            switch key {
            case .list, .dictionary, .view: break
            default: if let entry = dict[try self.key(of: key)] { return entry }
            }
        case .list(let items), .tuple(let items):
            if let index = key.integer {
                guard let place = place(index, of: items.values.count) else { break }
                return items.values[place]
            }
        case .string(let text):
            if let index = key.integer {
                guard let place = place(index, of: text.count) else { break }
                try spend(steps: text.utf8.count / 64)
                return .string(text.slice(place..<(place + 1)))
            }
        case .range(let range):
            if let index = key.integer {
                guard let place = place(index, of: range.count) else { break }
                return .integer(range.element(place))
            }
        default: break
        }
        guard let name = key.text?.string else {
            let text = try repr(key)
            return .undefined(Undefined("\(Self.objectName(value)) has no element \(text.string)"))
        }
        return try ownAttribute(name, of: value) ?? missing(name, of: value)
    }

    private func place(_ index: Int, of count: Int) -> Int? {
        let place = index < 0 ? index + count : index
        return (0..<count).contains(place) ? place : nil
    }

    private func missing(_ name: String, of value: Value) -> Value {
        .undefined(Undefined("'\(Self.objectName(value))' has no attribute '\(name)'"))
    }

    /// As Jinja calls it in messages.
    private static func objectName(_ value: Value) -> String {
        value.isNone ? "None" : "\(value.typeName) object"
    }

    /// What Python's object itself has of that name, entries of dictionaries apart.
    private func ownAttribute(_ name: String, of value: Value) throws(TemplateError) -> Value? {
        if Methods.isForbidden(name, of: value) {
            let hint = "access to attribute '\(name)' of '\(value.typeName)' object is unsafe."
            return .undefined(Undefined(hint, isForbidden: true))
        }
        if Methods.names(of: value).contains(name) { return .method(Method(value, name)) }
        switch value {
        case .namespace(let namespace): return namespace.attributes[name]
        case .loop(let loop): return try attribute(name, of: loop)
        case .tuple(let items) where items.isGroup:
            return name == "grouper" ? items.values[0] : name == "list" ? items.values[1] : nil
        case .cycler(let cycler) where name == "current":
            return cycler.items.values[cycler.position]
        case .cycler(let cycler) where name == "items": return .tuple(cycler.items)
        case .cycler(let cycler) where name == "pos": return .integer(cycler.position)
        case .joiner(let joiner) where name == "sep": return joiner.separator
        case .joiner(let joiner) where name == "used": return .bool(joiner.isUsed)
        case .macro(let macro): return attribute(name, of: macro)
        case .integer, .bool, .float: return numericAttribute(name, of: value)
        case .range(let range):
            let parts = ["start": range.start, "stop": range.stop, "step": range.step]
            return parts[name].map { .integer($0) }
        default: return nil
        }
    }

    private func numericAttribute(_ name: String, of value: Value) -> Value? {
        switch name {
        case "real": value.integer.map { .integer($0) } ?? value
        case "imag": value.integer == nil ? .float(0) : .integer(0)
        case "numerator": value.integer.map { .integer($0) }
        case "denominator": value.integer.map { _ in .integer(1) }
        default: nil
        }
    }

    private func attribute(_ name: String, of macro: Macro) -> Value? {
        switch name {
        case "name": Value(macro.definition.name)
        case "arguments":
            .tuple(Items(macro.definition.parameters.map { Value($0.name) }))
        case "caller": .bool(macro.specials.contains("caller"))
        case "catch_kwargs": .bool(macro.specials.contains("kwargs"))
        case "catch_varargs": .bool(macro.specials.contains("varargs"))
        default: nil
        }
    }

    private func attribute(
        _ name: String, of loop: LoopContext
    ) throws(TemplateError) -> Value? {
        switch name {
        case "index": return .integer(loop.index0 + 1)
        case "index0": return .integer(loop.index0)
        case "first": return .bool(loop.index0 == 0)
        case "last": return .bool(try loop.peek(self) == nil)
        case "length": return .integer(try loop.count(self))
        case "revindex": return .integer(try loop.count(self) - loop.index0)
        case "revindex0": return .integer(try loop.count(self) - loop.index0 - 1)
        case "depth": return .integer(loop.depth0 + 1)
        case "depth0": return .integer(loop.depth0)
        case "previtem":
            return loop.index0 > 0
                ? loop.previous : .undefined(Undefined("there is no previous item"))
        case "nextitem":
            return try loop.peek(self) ?? .undefined(Undefined("there is no next item"))
        default: return nil
        }
    }

    func slice(
        _ value: Value, _ start: Int?, _ stop: Int?, _ step: Int?
    ) throws(TemplateError) -> Value {
        let step = step ?? 1
        if step == 0 { throw fail("a slice with a step of 0") }
        switch value {
        case .undefined(let undefined): throw fail(undefined.hint)
        case .list(let items):
            return try made(
                .list(indices(start, stop, step, items.values.count).map { items.values[$0] }))
        case .tuple(let items):
            return try made(
                .tuple(indices(start, stop, step, items.values.count).map { items.values[$0] }))
        case .string(let text):
            try spend(steps: text.utf8.count / 32)
            let scalars = text.scalars
            let chosen = indices(start, stop, step, scalars.count)
            if step == 1, let first = chosen.first {
                return try made(
                    .string(Text(scalars[first..<(first + chosen.count)]).marked(like: text)))
            }
            return try made(.string(Text(chosen.map { scalars[$0] }).marked(like: text)))
        case .range(let range):
            let chosen = indices(start, stop, step, range.count)
            let stride = range.step.multipliedReportingOverflow(by: step)
            let first = chosen.first.map { range.element($0) } ?? range.start
            let end = first.addingReportingOverflow(stride.partialValue &* chosen.count)
            guard !stride.overflow, !end.overflow,
                let result = PythonRange(
                    start: first, stop: end.partialValue, step: stride.partialValue)
            else { throw fail("a range with integers of more than 64 bits") }
            return .range(result)
        default: throw fail("a slice of a value of type \(value.typeName)")
        }
    }

    /// Python's `slice.indices`: what is beyond the ends is left out.
    private func indices(_ start: Int?, _ stop: Int?, _ step: Int, _ count: Int) -> [Int] {
        let lowest = step > 0 ? 0 : -1
        let highest = step > 0 ? count : count - 1
        func clamp(_ bound: Int?, _ initial: Int) -> Int {
            guard let bound else { return initial }
            let place = bound < 0 ? (bound < -count ? -1 : bound + count) : bound
            return max(lowest, min(place, highest))
        }
        let first = clamp(start, step > 0 ? lowest : highest)
        let end = clamp(stop, step > 0 ? highest : lowest)
        return Array(stride(from: first, to: end, by: step))
    }
}
