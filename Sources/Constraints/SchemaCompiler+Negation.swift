import JSONTree

/// What a value must be to not fulfil a schema.
extension SchemaCompiler {
    /// Those that values, strings and patterns are cut out for, without alternatives.
    static func isPlainNegation(_ schema: JSON) -> Bool {
        guard let object = schema.object, object.count == 1 else { return false }
        return object["enum"]?.array != nil || object["const"] != nil
            || object["pattern"]?.string != nil
    }

    /// Schemas, of which a value that fulfils one does not fulfil `schema`. There may be other such values:
    /// what cannot be turned round is left out.
    ///
    /// - Throws: where nothing can.
    func negation(of schema: LocatedSchema, depth: Int = 0) throws(ConstraintError) -> [LocatedSchema] {
        guard depth < 16 else {
            throw ConstraintError(
                "expected at most 16 levels to be negated, found more", at: schema.pointer)
        }
        if let value = schema.json.bool {
            return value ? [] : [LocatedSchema(json: true, pointer: schema.pointer + "/negated")]
        }
        guard schema.json.object != nil else {
            throw ConstraintError(
                "expected a schema, an object or true or false, found \(schema.json.kind)",
                at: schema.pointer)
        }
        var results: [JSON] = simpleNegations(of: schema.json)
        for name in try schema.strings("required") {
            results.append(["type": "object", "properties": .object(JSONObject([(name, false)]))])
        }
        for (name, property) in try schema.children("properties") {
            guard let ways = try? negation(of: property, depth: depth + 1) else { continue }
            for way in ways {
                results.append([
                    "type": "object", "required": [.string(name)],
                    "properties": .object(JSONObject([(name, way.json)])),
                ])
            }
        }
        if let reference = schema.json["$ref"]?.string {
            let target = try document.resolve(reference, from: schema.at("$ref"))
            results += try negation(of: target, depth: depth + 1).map(\.json)
        }
        for part in try schema.elements("allOf") {
            if let ways = try? negation(of: part, depth: depth + 1) { results += ways.map(\.json) }
        }
        for keyword in ["anyOf", "oneOf"] where schema.json[keyword] != nil {
            // None of them: one way of each, together.
            var products: [[JSON]] = [[]]
            for part in try schema.elements(keyword) {
                let ways = try negation(of: part, depth: depth + 1)
                products = products.flatMap { product in ways.map { product + [$0.json] } }
                guard products.count <= Limits.combinations else {
                    throw ConstraintError(
                        "cannot be negated: it has too many alternatives", at: schema.at(keyword))
                }
            }
            results += products.map { ["allOf": .array($0)] }
        }
        if let inner = schema.json["not"] { results.append(inner) }
        guard !results.isEmpty else {
            throw ConstraintError(
                "cannot be negated; say what a value may be, rather than what it may not",
                at: schema.pointer)
        }
        return results.enumerated().map {
            LocatedSchema(json: $1, pointer: schema.pointer + "/negated/\($0)")
        }
    }

    /// Of keywords about the value itself.
    private func simpleNegations(of schema: JSON) -> [JSON] {
        var results: [JSON] = []
        if let type = schema["type"] {
            let names = (type.array ?? [type]).compactMap(\.string)
            var rest = ["null", "boolean", "integer", "number", "string", "array", "object"].filter {
                !names.contains($0)
            }
            // Numbers that are not whole have no name.
            if names.contains("number") || names.contains("integer") {
                rest.removeAll { $0 == "integer" || $0 == "number" }
            } else {
                rest.removeAll { $0 == "integer" }
            }
            results.append(["type": .array(rest.map { .string($0) })])
        }
        if let values = schema["enum"] { results.append(["not": ["enum": values]]) }
        if let value = schema["const"] { results.append(["not": ["enum": [value]]]) }
        if let pattern = schema["pattern"] {
            results.append(["type": "string", "not": ["pattern": pattern]])
        }
        for (keyword, opposite) in [
            ("minimum", "exclusiveMaximum"), ("maximum", "exclusiveMinimum"),
            ("exclusiveMinimum", "maximum"), ("exclusiveMaximum", "minimum"),
        ] {
            if let bound = schema[keyword] {
                results.append(.object(JSONObject([("type", "number"), (opposite, bound)])))
            }
        }
        for (type, least, most) in [
            ("string", "minLength", "maxLength"), ("array", "minItems", "maxItems"),
            ("object", "minProperties", "maxProperties"),
        ] {
            if let count = schema[least]?.integer, count > 0 {
                let bound = JSON.integer(count - 1)
                results.append(.object(JSONObject([("type", .string(type)), (most, bound)])))
            }
            if let count = schema[most]?.integer, count >= 0, count < .max {
                let bound = JSON.integer(count + 1)
                results.append(.object(JSONObject([("type", .string(type)), (least, bound)])))
            }
        }
        return results
    }
}
