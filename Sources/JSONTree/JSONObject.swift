/// Members in the order in which their names first appeared. A name given twice has its last value,
/// as with Python's parser.
public struct JSONObject: Sendable {
    public private(set) var names: [String] = []
    private var values: [String: JSON] = [:]

    public init() {}

    public var count: Int { names.count }
    public var isEmpty: Bool { names.isEmpty }

    /// The value of a member; setting nil removes it.
    public subscript(name: String) -> JSON? {
        get { values[name] }
        set {
            guard let newValue else {
                if values.removeValue(forKey: name) != nil { names.removeAll { $0 == name } }
                return
            }
            if values.updateValue(newValue, forKey: name) == nil { names.append(name) }
        }
    }

    /// The members in order.
    public var members: some Sequence<(name: String, value: JSON)> {
        names.lazy.map { (name: $0, value: values[$0] ?? .null) }
    }
}

/// Two objects are equal when their members are, in any order: as JSON means it.
extension JSONObject: Equatable {
    public static func == (one: Self, other: Self) -> Bool { one.values == other.values }
}
