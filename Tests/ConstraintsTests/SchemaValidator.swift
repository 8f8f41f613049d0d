import Foundation
import JSONTree

/// Validates a value against a schema by the words of the standard, one keyword after the other: it
/// shares nothing with the compiler.
struct SchemaValidator {
    let root: JSON

    func isValid(_ value: JSON, _ schema: JSON) -> Bool {
        guard case .object(let keywords) = schema else { return schema.bool ?? false }
        return keywords.members.allSatisfy { fulfils(value, $0.name, $0.value, keywords) }
    }

    private func fulfils(_ value: JSON, _ name: String, _ given: JSON, _ schema: JSONObject) -> Bool
    {
        let schemas = given.array ?? []
        switch name {
        case "$ref": return isValid(value, resolved(given.string ?? ""))
        case "allOf": return schemas.allSatisfy { isValid(value, $0) }
        case "anyOf": return schemas.contains { isValid(value, $0) }
        case "oneOf": return schemas.count { isValid(value, $0) } == 1
        case "not": return !isValid(value, given)
        case "if":
            let branch = schema[isValid(value, given) ? "then" : "else"]
            return branch.map { isValid(value, $0) } ?? true
        case "type": return (given.array ?? [given]).contains { hasType(value, $0.string ?? "") }
        case "enum": return schemas.contains { isEqual(value, $0) }
        case "const": return isEqual(value, given)
        default: break
        }
        switch value {
        case .integer, .number: return fulfils(number: value.number!, name, given)
        case .string(let text): return fulfils(string: text, name, given)
        case .array(let elements): return fulfils(array: elements, name, given, schema)
        case .object(let object): return fulfils(object: object, name, given, schema)
        case .null, .bool: return true
        }
    }

    private func fulfils(number: Double, _ name: String, _ given: JSON) -> Bool {
        guard let bound = given.number else { return true }
        switch name {
        case "minimum": return number >= bound
        case "maximum": return number <= bound
        case "exclusiveMinimum": return number > bound
        case "exclusiveMaximum": return number < bound
        case "multipleOf": return (number / bound).rounded() == number / bound
        default: return true
        }
    }

    private func fulfils(string: String, _ name: String, _ given: JSON) -> Bool {
        switch name {
        case "minLength": return string.unicodeScalars.count >= given.integer!
        case "maxLength": return string.unicodeScalars.count <= given.integer!
        case "pattern": return SchemaValidator.has(string, given.string!)
        default: return true
        }
    }

    private func fulfils(
        array: [JSON], _ name: String, _ given: JSON, _ schema: JSONObject
    ) -> Bool {
        switch name {
        case "minItems": return array.count >= given.integer!
        case "maxItems": return array.count <= given.integer!
        case "prefixItems": return zip(array, given.array!).allSatisfy { isValid($0, $1) }
        case "items":
            return array.dropFirst(schema["prefixItems"]?.array?.count ?? 0).allSatisfy {
                isValid($0, given)
            }
        case "contains":
            return array.count { isValid($0, given) } >= schema["minContains"]?.integer ?? 1
        case "uniqueItems":
            return given.bool == false
                || array.indices.allSatisfy { one in
                    array[..<one].allSatisfy { !isEqual($0, array[one]) }
                }
        default: return true
        }
    }

    private func fulfils(
        object: JSONObject, _ name: String, _ given: JSON, _ schema: JSONObject
    ) -> Bool {
        switch name {
        case "required": return given.array!.allSatisfy { object[$0.string!] != nil }
        case "minProperties": return object.count >= given.integer!
        case "maxProperties": return object.count <= given.integer!
        case "properties":
            return given.object!.members.allSatisfy { member in
                object[member.name].map { isValid($0, member.value) } ?? true
            }
        case "patternProperties":
            return given.object!.members.allSatisfy { pattern in
                object.members.allSatisfy {
                    !SchemaValidator.has($0.name, pattern.name) || isValid($0.value, pattern.value)
                }
            }
        case "additionalProperties":
            return object.members.allSatisfy { member in
                schema["properties"]?[member.name] != nil
                    || schema["patternProperties"]?.object?.names.contains {
                        SchemaValidator.has(member.name, $0)
                    } ?? false || isValid(member.value, given)
            }
        case "propertyNames": return object.names.allSatisfy { isValid(.string($0), given) }
        case "dependentRequired":
            return given.object!.members.allSatisfy { member in
                object[member.name] == nil
                    || member.value.array!.allSatisfy { object[$0.string!] != nil }
            }
        default: return true
        }
    }

    private func hasType(_ value: JSON, _ type: String) -> Bool {
        switch type {
        case "number": value.number != nil
        case "integer": value.number.map { $0 == $0.rounded() } ?? false
        default: value.kind == type
        }
    }

    private func isEqual(_ one: JSON, _ other: JSON) -> Bool {
        if let one = one.number, let other = other.number { return one == other }
        return one == other
    }

    private func resolved(_ reference: String) -> JSON {
        reference.split(separator: "/").dropFirst().reduce(root) { $0[String($1)]! }
    }

    private static func has(_ text: String, _ pattern: String) -> Bool {
        let expression = try! NSRegularExpression(pattern: pattern)
        return expression.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
    }
}
