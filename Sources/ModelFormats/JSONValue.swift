/// A value of a JSON document, kept with its place for errors. For small parts: what is large (a
/// vocabulary, a table of tensors) is taken from the cursor directly.
struct JSONValue {
    enum Content {
        case object([(name: String, value: JSONValue)])
        case array([JSONValue])
        case string(String)
        /// `integer` is nil where it is written with a fraction or an exponent, or is too large.
        case number(Double, integer: Int?)
        case bool(Bool)
        case null
    }

    /// Its first byte, counted from the start of the file.
    let offset: Int
    let content: Content

    /// Takes the next value from `cursor`. Of all trees of a document, `budget` values may be kept.
    init(
        _ cursor: inout JSONCursor, _ field: String, budget: inout Int
    ) throws(ModelFileError) {
        budget -= 1
        guard budget >= 0 else {
            throw cursor.error(
                field, "expected at most \(JSONLimits.treeValues) values, found more")
        }
        let kind = try cursor.kind(field)
        offset = cursor.offset
        switch kind {
        case .object:
            var members: [(name: String, value: JSONValue)] = []
            try cursor.takeObject(field) { cursor, name, _ throws(ModelFileError) in
                members.append((name, try JSONValue(&cursor, field, budget: &budget)))
            }
            content = .object(members)
        case .array:
            var elements: [JSONValue] = []
            try cursor.takeArray(field) { cursor, _ throws(ModelFileError) in
                elements.append(try JSONValue(&cursor, field, budget: &budget))
            }
            content = .array(elements)
        case .string: content = .string(try cursor.takeString(field))
        case .number:
            // Twice over the same bytes: a cursor is a value.
            var again = cursor
            let number = try cursor.takeNumber(field)
            content = .number(number, integer: try? again.takeInteger(field))
        case .bool: content = .bool(try cursor.takeBool(field))
        case .null:
            try cursor.takeNull(field)
            content = .null
        }
    }

    /// The value of the member `name` of an object; nil when there is none, it is null, or this is
    /// no object.
    subscript(name: String) -> JSONValue? {
        guard case .object(let members) = content,
            let value = members.first(where: { $0.name == name })?.value
        else { return nil }
        if case .null = value.content { return nil }
        return value
    }

    var elements: [JSONValue]? {
        if case .array(let elements) = content { elements } else { nil }
    }

    var string: String? { if case .string(let text) = content { text } else { nil } }

    var integer: Int? { if case .number(_, let integer) = content { integer } else { nil } }

    var number: Double? { if case .number(let number, _) = content { number } else { nil } }

    var bool: Bool? { if case .bool(let value) = content { value } else { nil } }

    var isObject: Bool { if case .object = content { true } else { false } }

    /// The value written out on one line, for errors that show what was found.
    var text: String {
        switch content {
        case .object(let members):
            "{" + members.map { "\($0.name): \($0.value.text)" }.joined(separator: ", ") + "}"
        case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
        case .string(let text): "\"" + text + "\""
        case .number(let number, let integer): integer.map { "\($0)" } ?? "\(number)"
        case .bool(let value): "\(value)"
        case .null: "null"
        }
    }
}

/// The members of a JSON object, typed as asked for; null counts as absent, as Python's `None` is
/// what a configuration writes for "not set".
struct JSONObject {
    /// The document, for errors.
    let path: String
    /// What comes before the names in errors, as in `rope_scaling.`.
    let prefix: String
    private let value: JSONValue

    /// The whole document that `cursor` stands before, which must be an object.
    init(_ cursor: JSONCursor) throws(ModelFileError) {
        var cursor = cursor
        var budget = JSONLimits.treeValues
        value = try JSONValue(&cursor, "the document", budget: &budget)
        guard value.isObject else {
            throw cursor.error(nil, at: value.offset, "expected an object, found another value")
        }
        try cursor.finish()
        path = cursor.path
        prefix = ""
    }

    private init(path: String, prefix: String, value: JSONValue) {
        self.path = path
        self.prefix = prefix
        self.value = value
    }

    subscript(name: String) -> JSONValue? { value[name] }

    func string(_ name: String) throws(ModelFileError) -> String? {
        guard let found = value[name] else { return nil }
        guard let text = found.string else { throw wrongKind(name, "a string") }
        return text
    }

    func bool(_ name: String) throws(ModelFileError) -> Bool? {
        guard let found = value[name] else { return nil }
        guard let bool = found.bool else { throw wrongKind(name, "true or false") }
        return bool
    }

    func number(_ name: String) throws(ModelFileError) -> Double? {
        guard let found = value[name] else { return nil }
        guard let number = found.number else { throw wrongKind(name, "a number") }
        return number
    }

    func integer(_ name: String) throws(ModelFileError) -> Int? {
        guard let found = value[name] else { return nil }
        guard let integer = found.integer else { throw wrongKind(name, "an integer") }
        return integer
    }

    func array(_ name: String) throws(ModelFileError) -> [JSONValue]? {
        guard let found = value[name] else { return nil }
        guard let elements = found.elements else { throw wrongKind(name, "an array") }
        return elements
    }

    func object(_ name: String) throws(ModelFileError) -> JSONObject? {
        guard let found = value[name] else { return nil }
        guard found.isObject else { throw wrongKind(name, "an object") }
        return JSONObject(path: path, prefix: "\(prefix)\(name).", value: found)
    }

    /// An error about the member `name`, which may be missing.
    func error(_ name: String, _ message: String) -> ModelFileError {
        ModelFileError(
            path: path, field: "'\(prefix)\(name)'",
            offset: value[name].map { UInt64($0.offset) }, message: message)
    }

    private func wrongKind(_ name: String, _ expected: String) -> ModelFileError {
        error(name, "expected \(expected), found \(value[name]?.text ?? "nothing")")
    }
}
