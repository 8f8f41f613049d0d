import JSONTree

/// The members of one object of a request, taken one by one, each checked for its type and range;
/// what is left at the end is unknown and refused. A member that is null counts as not given.
///
/// The messages are OpenAI's, so that a program which reads them keeps working.
struct Fields {
    private let object: JSONObject
    /// Of this object: "", or `messages[2]`.
    let path: String
    private var taken: Set<String> = []

    init(_ json: JSON, path: String) throws(APIError) {
        guard case .object(let object) = json else {
            throw .wrongType(path.isEmpty ? "body" : path, expected: "an object", json)
        }
        self.object = object
        self.path = path
    }

    func path(of name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    mutating func value(_ name: String) -> JSON? {
        taken.insert(name)
        guard let value = object[name], !value.isNull else { return nil }
        return value
    }

    mutating func string(_ name: String) throws(APIError) -> String? {
        guard let value = value(name) else { return nil }
        guard let string = value.string else {
            throw .wrongType(path(of: name), expected: "a string", value)
        }
        return string
    }

    mutating func requiredString(_ name: String) throws(APIError) -> String {
        guard let string = try string(name) else { throw .missing(path(of: name)) }
        return string
    }

    mutating func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard let bool = value.bool else {
            throw .wrongType(path(of: name), expected: "a boolean", value)
        }
        return bool
    }

    mutating func integer(_ name: String, _ range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = value(name) else { return nil }
        guard let integer = value.integer else {
            throw .wrongType(path(of: name), expected: "an integer", value)
        }
        try check(integer, range, name, word: "integer")
        return integer
    }

    mutating func number(_ name: String, _ range: ClosedRange<Double>) throws(APIError) -> Double? {
        guard let value = value(name) else { return nil }
        guard let number = value.number else {
            throw .wrongType(path(of: name), expected: "a decimal", value)
        }
        try check(number, range, name, word: "decimal")
        return number
    }

    private func check<Value>(
        _ value: Value, _ range: ClosedRange<Value>, _ name: String, word: String
    ) throws(APIError) {
        if value < range.lowerBound {
            throw .invalid(
                "Invalid '\(path(of: name))': \(word) below minimum value. Expected a value >= "
                    + "\(range.lowerBound), but got \(value) instead.",
                param: path(of: name), code: "\(word)_below_min_value")
        }
        if value > range.upperBound {
            throw .invalid(
                "Invalid '\(path(of: name))': \(word) above maximum value. Expected a value <= "
                    + "\(range.upperBound), but got \(value) instead.",
                param: path(of: name), code: "\(word)_above_max_value")
        }
    }

    mutating func array(_ name: String, atMost limit: Int) throws(APIError) -> [JSON]? {
        guard let value = value(name) else { return nil }
        guard let array = value.array else {
            throw .wrongType(path(of: name), expected: "an array", value)
        }
        try checkCount(array.count, atMost: limit, name)
        return array
    }

    func checkCount(_ count: Int, atMost limit: Int, _ name: String) throws(APIError) {
        if count > limit {
            throw .invalid(
                "Invalid '\(path(of: name))': array too long. Expected an array with maximum "
                    + "length \(limit), but got an array with length \(count) instead.",
                param: path(of: name), code: "array_above_max_length")
        }
    }

    mutating func object(_ name: String) throws(APIError) -> JSONObject? {
        guard let value = value(name) else { return nil }
        guard let object = value.object else {
            throw .wrongType(path(of: name), expected: "an object", value)
        }
        return object
    }

    /// One of a few words.
    mutating func word<Word: RawRepresentable & CaseIterable>(_ name: String, _: Word.Type)
        throws(APIError) -> Word? where Word.RawValue == String
    {
        guard let text = try string(name) else { return nil }
        guard let word = Word(rawValue: text) else {
            throw .unknownWord(text, Word.allCases.map(\.rawValue), param: path(of: name))
        }
        return word
    }

    /// The value of a field with two names, which may both be given if they agree.
    func same<Value: Equatable>(_ one: (String, Value?), _ other: (String, Value?))
        throws(APIError) -> Value?
    {
        if let value = one.1, let second = other.1, value != second {
            throw .invalid(
                "'\(path(of: one.0))' and '\(path(of: other.0))' mean the same and differ. "
                    + "Give one of them.", param: path(of: other.0), code: "conflicting_parameters")
        }
        return one.1 ?? other.1
    }

    /// Takes fields that change nothing in the answer.
    mutating func ignore(_ names: String...) { taken.formUnion(names) }

    /// Refuses a field that is known and would change the answer, unless it has the value that
    /// asks for what is done anyway.
    mutating func refuse(_ name: String, unless harmless: JSON? = nil, _ reason: String)
        throws(APIError)
    {
        guard let value = value(name), value != harmless else { return }
        throw .unsupported(path(of: name), reason)
    }

    /// Refuses what nobody took.
    func finish() throws(APIError) {
        guard let name = object.names.first(where: { !taken.contains($0) }) else { return }
        throw .invalid(
            "Unrecognized request argument supplied: \(path(of: name))", param: path(of: name),
            code: "unknown_parameter")
    }
}

extension APIError {
    static func missing(_ param: String) -> Self {
        invalid(
            "Missing required parameter: '\(param)'.", param: param,
            code: "missing_required_parameter")
    }

    static func wrongType(_ param: String, expected: String, _ found: JSON) -> Self {
        let kind =
            switch found {
            case .null: "null"
            case .integer: "an integer"
            case .number: "a decimal"
            case .array: "an array"
            case .object: "an object"
            default: "a \(found.kind)"
            }
        return invalid(
            "Invalid type for '\(param)': expected \(expected), but got \(kind) instead.",
            param: param, code: "invalid_type")
    }

    static func unknownWord(_ found: String, _ known: [String], param: String) -> Self {
        invalid(
            "Invalid value: '\(found)'. Supported values are: "
                + known.map { "'\($0)'" }.joined(separator: ", ") + ".",
            param: param, code: "invalid_value")
    }

    static func unsupported(_ param: String, _ reason: String) -> Self {
        invalid(
            "Unsupported parameter: '\(param)'. \(reason)", param: param,
            code: "unsupported_parameter")
    }

    static func empty(_ param: String) -> Self {
        invalid(
            "Invalid '\(param)': empty array. Expected an array with minimum length 1, but got an "
                + "empty array instead.", param: param, code: "empty_array")
    }
}
