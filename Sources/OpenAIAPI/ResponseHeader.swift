import JSONTree

/// What every part of an answer repeats.
public struct ResponseHeader: Sendable, Equatable {
    public var id: String
    /// Seconds since 1970.
    public var created: Int
    /// The model's name.
    public var model: String

    public init(id: String, created: Int, model: String) {
        self.id = id
        self.created = created
        self.model = model
    }

    /// A name for an answer that no other has: the prefix (`chatcmpl-`, `cmpl-`, `call_`) and
    /// random letters and digits.
    public static func newID(
        _ prefix: String, length: Int = 24, using random: inout some RandomNumberGenerator
    ) -> String {
        let characters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        var id = prefix
        for _ in 0..<length { id.append(characters[Int.random(in: 0..<62, using: &random)]) }
        return id
    }

    /// The same, with the system's random numbers.
    public static func newID(_ prefix: String, length: Int = 24) -> String {
        var random = SystemRandomNumberGenerator()
        return newID(prefix, length: length, using: &random)
    }

    func write(to object: inout JSONObject, kind: String) {
        object["id"] = .string(id)
        object["object"] = .string(kind)
        object["created"] = .integer(created)
        object["model"] = .string(model)
    }

    /// Lenient: a server that leaves one out has none.
    init(json: JSON) {
        id = json["id"]?.string ?? ""
        created = json["created"]?.integer ?? 0
        model = json["model"]?.string ?? ""
    }
}
