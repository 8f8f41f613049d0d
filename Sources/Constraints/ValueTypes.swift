import JSONTree

/// The types that a value may have.
struct ValueTypes: OptionSet, Sendable {
    let rawValue: UInt8

    static let null = ValueTypes(rawValue: 1)
    static let boolean = ValueTypes(rawValue: 2)
    /// Whole numbers.
    static let integer = ValueTypes(rawValue: 4)
    /// Numbers that are not whole.
    static let fraction = ValueTypes(rawValue: 8)
    static let string = ValueTypes(rawValue: 16)
    static let array = ValueTypes(rawValue: 32)
    static let object = ValueTypes(rawValue: 64)
    static let number: ValueTypes = [.integer, .fraction]
    static let all = ValueTypes(rawValue: 127)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    init?(name: String) {
        switch name {
        case "null": self = .null
        case "boolean": self = .boolean
        case "integer": self = .integer
        case "number": self = .number
        case "string": self = .string
        case "array": self = .array
        case "object": self = .object
        default: return nil
        }
    }

    /// The type of a value.
    init(of value: JSON) {
        switch value {
        case .null: self = .null
        case .bool: self = .boolean
        case .integer: self = .integer
        case .number(let number): self = number == number.rounded() ? .integer : .fraction
        case .string: self = .string
        case .array: self = .array
        case .object: self = .object
        }
    }

    /// What `type` says; all where it is absent.
    init(of schema: LocatedSchema) throws(ConstraintError) {
        guard let type = schema.json["type"] else {
            self = .all
            return
        }
        var types: ValueTypes = []
        for name in type.array ?? [type] {
            guard let one = name.string.flatMap(ValueTypes.init(name:)) else {
                throw ConstraintError(
                    "expected null, boolean, integer, number, string, array or object, found \(name.text)",
                    at: schema.at("type"))
            }
            types.formUnion(one)
        }
        self = types
    }

    /// The types that a schema's keywords are about.
    static func implied(by schema: JSON) -> ValueTypes {
        var types: ValueTypes = []
        for (name, type) in keywords where schema[name] != nil { types.formUnion(type) }
        return types
    }

    private static let keywords: [(String, ValueTypes)] = [
        ("properties", .object), ("required", .object), ("additionalProperties", .object),
        ("patternProperties", .object), ("propertyNames", .object), ("minProperties", .object),
        ("maxProperties", .object), ("unevaluatedProperties", .object), ("items", .array),
        ("prefixItems", .array), ("additionalItems", .array), ("contains", .array),
        ("minItems", .array), ("maxItems", .array), ("uniqueItems", .array),
        ("unevaluatedItems", .array), ("minLength", .string), ("maxLength", .string),
        ("pattern", .string), ("format", .string), ("minimum", .number), ("maximum", .number),
        ("exclusiveMinimum", .number), ("exclusiveMaximum", .number), ("multipleOf", .number),
    ]
}
