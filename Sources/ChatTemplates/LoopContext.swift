/// A place in a sequence.
final class Cursor {
    private enum Source {
        case values([Value])
        case range(PythonRange)
        case generator(Generator)
    }

    private var source: Source
    private var position = 0
    /// The whole sequence's length, where it is known without computing its elements.
    let count: Int?

    init(_ values: [Value]) {
        source = .values(values)
        count = values.count
    }

    init(_ range: PythonRange) {
        source = .range(range)
        count = range.count
    }

    init(_ generator: Generator) {
        source = .generator(generator)
        count = nil
    }

    func next(_ interpreter: Interpreter) throws(TemplateError) -> Value? {
        switch source {
        case .values(let values):
            guard position < values.count else { return nil }
            position += 1
            return values[position - 1]
        case .range(let range):
            guard position < range.count else { return nil }
            position += 1
            return .integer(range.element(position - 1))
        case .generator(let generator): return try generator.next(interpreter)
        }
    }

    /// What is left, all at once.
    func rest(_ interpreter: Interpreter) throws(TemplateError) -> [Value] {
        var values: [Value] = []
        while let value = try next(interpreter) {
            try interpreter.spend()
            try interpreter.spend(bytes: 16)
            values.append(value)
        }
        return values
    }
}

/// The variable `loop`.
final class LoopContext {
    private var cursor: Cursor
    private var knownCount: Int?
    private(set) var index0 = -1
    private var current: Value?
    private(set) var previous: Value?
    /// The next element, if it has been looked at already.
    private var peeked: Value??
    private var lastChanged: [Value]?
    /// Of a recursive loop: what `loop(...)` runs, and where.
    private let definition: Statement.Loop?
    private let outer: Frame
    let depth0: Int

    init(_ cursor: Cursor, of definition: Statement.Loop?, outer: Frame, depth: Int) {
        self.cursor = cursor
        self.definition = definition
        self.outer = outer
        knownCount = cursor.count
        depth0 = depth
    }

    func advance(_ interpreter: Interpreter) throws(TemplateError) -> Value? {
        guard let item = try peek(interpreter) else { return nil }
        peeked = nil
        index0 += 1
        previous = current
        current = item
        return item
    }

    func peek(_ interpreter: Interpreter) throws(TemplateError) -> Value? {
        if let peeked { return peeked }
        let next = try cursor.next(interpreter)
        peeked = .some(next)
        return next
    }

    /// Of a generator only known by computing the rest of it.
    func count(_ interpreter: Interpreter) throws(TemplateError) -> Int {
        if let knownCount { return knownCount }
        let rest = try cursor.rest(interpreter)
        cursor = Cursor(rest)
        var count = rest.count + index0 + 1
        if case .some(.some) = peeked { count += 1 }
        knownCount = count
        return count
    }

    /// Lets go of the elements, so that loops kept in namespaces make no chains.
    func finish() {
        cursor = Cursor([])
        current = nil
        previous = nil
        peeked = nil
        lastChanged = nil
    }

    func changed(_ values: [Value], _ interpreter: Interpreter) throws(TemplateError) -> Bool {
        if let lastChanged,
            try interpreter.areEqual(.list(Items(lastChanged)), .list(Items(values)))
        {
            return false
        }
        lastChanged = values
        return true
    }

    /// `loop(sequence)`: the loop's body over other elements, one level deeper.
    func recurse(
        over iterated: Value, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        guard let definition else {
            throw interpreter.fail("'loop' called in a loop that is not marked 'recursive'")
        }
        let captured = try interpreter.deeper { () throws(TemplateError) in
            try interpreter.capture { () throws(TemplateError) in
                try interpreter.run(definition, over: iterated, outer: outer, depth: depth0 + 1)
            }
        }
        return .string(captured.text)
    }
}
