import JSONTree

/// Why a server's answer cannot be used, naming the member.
public struct ResponseError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String
}

extension JSON {
    /// The member of an answer that must be there.
    func required<Value>(_ name: String, _ kind: (JSON) -> Value?) throws(ResponseError) -> Value {
        guard let member = self[name] else {
            throw ResponseError(description: "the server's answer has no '\(name)'")
        }
        guard let value = kind(member) else {
            throw ResponseError(
                description: "the server's answer has \(member.kind) as '\(name)'")
        }
        return value
    }
}
