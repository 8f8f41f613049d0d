import JSONTree

/// A schema and its place in the document: the JSON pointer is both its identity and what errors name.
struct LocatedSchema: Sendable {
    let json: JSON
    let pointer: String

    func at(_ path: String...) -> String {
        path.reduce(pointer) { $0 + "/" + SchemaDocument.escaped($1) }
    }

    /// The member as a schema of its own.
    func child(_ keyword: String) -> LocatedSchema? {
        json[keyword].map { LocatedSchema(json: $0, pointer: at(keyword)) }
    }

    /// The members of an object of schemas, in order.
    func children(_ keyword: String) throws(ConstraintError) -> [(String, LocatedSchema)] {
        guard let value = json[keyword] else { return [] }
        guard let object = value.object else {
            throw ConstraintError("expected an object, found \(value.kind)", at: at(keyword))
        }
        return object.members.map {
            ($0.name, LocatedSchema(json: $0.value, pointer: at(keyword, $0.name)))
        }
    }

    /// The elements of an array of schemas.
    func elements(_ keyword: String) throws(ConstraintError) -> [LocatedSchema] {
        guard let value = json[keyword] else { return [] }
        guard let array = value.array else {
            throw ConstraintError("expected an array, found \(value.kind)", at: at(keyword))
        }
        return array.enumerated().map {
            LocatedSchema(json: $1, pointer: at(keyword, String($0)))
        }
    }

    func strings(_ keyword: String) throws(ConstraintError) -> [String] {
        var result: [String] = []
        for element in try elements(keyword) {
            guard let string = element.json.string else {
                throw ConstraintError("expected a string, found \(element.json.kind)", at: element.pointer)
            }
            result.append(string)
        }
        return result
    }

    /// A count that is not negative.
    func count(_ keyword: String) throws(ConstraintError) -> Int? {
        guard let value = json[keyword] else { return nil }
        guard let count = value.integer, count >= 0 else {
            throw ConstraintError("expected a whole number from 0, found \(value.text)", at: at(keyword))
        }
        return count
    }
}

/// The document that references point into.
struct SchemaDocument: Sendable {
    let root: JSON

    static func escaped(_ name: String) -> String {
        var result = ""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "~": result += "~0"
            case "/": result += "~1"
            // Errors are one line.
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: result += "?"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// What a `$ref` means; only places in the same document can be meant.
    func resolve(_ reference: String, from place: String) throws(ConstraintError) -> LocatedSchema {
        guard reference.hasPrefix("#"), reference == "#" || reference.hasPrefix("#/") else {
            throw ConstraintError(
                "expected a reference within the schema such as #/$defs/name, found \(JSON.string(reference).text)",
                at: place)
        }
        var json = root
        for part in reference.dropFirst(2).split(separator: "/", omittingEmptySubsequences: false)
        where reference != "#" {
            let name = SchemaDocument.unescaped(String(part))
            let next: JSON? =
                switch json {
                case .object(let object): object[name]
                case .array(let array): Int(name).flatMap { array.indices.contains($0) ? array[$0] : nil }
                default: nil
                }
            guard let next else {
                throw ConstraintError(
                    "refers to \(JSON.string(reference).text), which is not there", at: place)
            }
            json = next
        }
        return LocatedSchema(json: json, pointer: reference)
    }

    private static func unescaped(_ part: String) -> String {
        var bytes: [UInt8] = []
        let source = Array(part.utf8)
        var index = 0
        while index < source.count {
            let rest = source[index...]
            if rest.starts(with: "~0".utf8) || rest.starts(with: "~1".utf8) {
                bytes.append(source[index + 1] == UInt8(ascii: "0") ? 0x7E : 0x2F)
                index += 2
            } else if source[index] == UInt8(ascii: "%"), index + 2 < source.count,
                let high = Unicode.Scalar(source[index + 1]).hexadecimalValue,
                let low = Unicode.Scalar(source[index + 2]).hexadecimalValue
            {
                bytes.append(UInt8(high << 4 | low))
                index += 3
            } else {
                bytes.append(source[index])
                index += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension JSON {
    /// Whether two values are the same to a schema: 1 and 1.0 are.
    func isSame(as other: JSON) -> Bool {
        switch (self, other) {
        case (.integer, .number), (.number, .integer): number == other.number
        case (.array(let one), .array(let other)):
            one.count == other.count && zip(one, other).allSatisfy { $0.isSame(as: $1) }
        case (.object(let one), .object(let other)):
            one.count == other.count
                && one.members.allSatisfy { member in
                    other[member.name].map { member.value.isSame(as: $0) } ?? false
                }
        default: self == other
        }
    }
}
