internal import JSONTree

/// What expressions compute: Python's values as far as a sandboxed template meets them.
///
/// Lists, tuples and dictionaries never change once made, because the sandbox forbids the methods that would change
/// them. Values that can refer to each other in a circle (namespaces, macros) are emptied when a rendering ends.
enum Value {
    /// A name that has been declared and not yet given a value.
    case missing
    case undefined(Undefined)
    case none
    case bool(Bool)
    case integer(Int)
    case float(Double)
    case string(Text)
    case list(Items)
    case tuple(Items)
    case dictionary(Dict)
    /// `dict.keys()`, `.values()` and `.items()`.
    case view(DictView)
    case range(PythonRange)
    case generator(Generator)
    case namespace(Namespace)
    case loop(LoopContext)
    case cycler(Cycler)
    case joiner(Joiner)
    case macro(Macro)
    /// A function of the environment, such as `range`.
    case function(String)
    /// A method not called yet.
    case method(Method)

    init(_ text: Text) { self = .string(text) }

    init(_ string: String) { self = .string(Text(string)) }
}

/// What stands for a value that is not there: empty when printed, an error in most other uses.
final class Undefined {
    /// What was looked for where.
    let hint: String
    /// What is there and must not be used, such as `list.append`.
    let isForbidden: Bool

    init(_ hint: String, isForbidden: Bool = false) {
        self.hint = hint
        self.isForbidden = isForbidden
    }
}

/// The elements of a list or tuple.
final class Items {
    let values: [Value]
    /// Containers inside each other, this one included.
    let depth: Int
    /// A group of the filter `groupby`, whose elements are also called `grouper` and `list`.
    let isGroup: Bool

    init(_ values: [Value], isGroup: Bool = false) {
        self.values = values
        self.isGroup = isGroup
        depth = values.reduce(0) { max($0, $1.depth) } + 1
    }
}

/// What identifies an entry of a dictionary: equal for 1, 1.0 and True, as in Python.
enum Key: Hashable {
    case none
    case integer(Int)
    case float(Double)
    case string(Text)
    case tuple([Key])
    /// By identity.
    case object(ObjectIdentifier)
    case function(String)
    case undefined
}

/// A dictionary in the order of its insertions.
final class Dict {
    private(set) var keys: [Value] = []
    private(set) var values: [Value] = []
    private var places: [Key: Int] = [:]
    private(set) var depth = 1

    var count: Int { keys.count }

    subscript(key: Key) -> Value? { places[key].map { values[$0] } }

    subscript(name: String) -> Value? { self[.string(Text(name))] }

    /// Only while the dictionary is made. An equal key stays as it was first written.
    func set(_ key: Key, _ keyValue: Value, to value: Value) {
        depth = max(depth, max(keyValue.depth, value.depth) + 1)
        if let place = places[key] {
            values[place] = value
        } else {
            places[key] = keys.count
            keys.append(keyValue)
            values.append(value)
        }
    }

    func set(_ name: String, to value: Value) {
        let text = Text(name)
        set(.string(text), .string(text), to: value)
    }

    var pairs: [Value] { keys.indices.map { .tuple(Items([keys[$0], values[$0]])) } }
}

final class DictView {
    enum Part: String { case keys, values, items }

    let part: Part
    let dict: Dict

    init(_ part: Part, of dict: Dict) {
        self.part = part
        self.dict = dict
    }

    var elements: [Value] {
        switch part {
        case .keys: dict.keys
        case .values: dict.values
        case .items: dict.pairs
        }
    }
}

/// Python's `range`: `step` is not 0.
struct PythonRange: Equatable {
    let start: Int
    let stop: Int
    let step: Int
    let count: Int

    /// Nil where the count does not fit into an integer.
    init?(start: Int, stop: Int, step: Int) {
        self.start = start
        self.stop = stop
        self.step = step
        let (distance, overflow) =
            step > 0
            ? stop.subtractingReportingOverflow(start) : start.subtractingReportingOverflow(stop)
        guard !overflow, step != Int.min else { return nil }
        count = distance <= 0 ? 0 : (distance - 1) / abs(step) + 1
    }

    func element(_ index: Int) -> Int { start + index * step }
}

/// A sequence that is computed as it is asked for, once: what `map`, `select` and their like give.
final class Generator {
    let name: String
    let depth: Int
    private var produce: ((Interpreter) throws(TemplateError) -> Value?)?

    init(
        _ name: String, depth: Int,
        _ produce: @escaping (Interpreter) throws(TemplateError) -> Value?
    ) {
        self.name = name
        self.depth = depth
        self.produce = produce
    }

    func next(_ interpreter: Interpreter) throws(TemplateError) -> Value? {
        guard let produce else { return nil }
        // An error ends it, and so does its end.
        self.produce = nil
        guard let value = try produce(interpreter) else { return nil }
        self.produce = produce
        return value
    }
}

final class Namespace {
    var attributes = Dict()

    /// Lets go of everything, so that circles are broken.
    func empty() { attributes = Dict() }
}

final class Cycler {
    let items: Items
    var position = 0

    init(_ items: Items) { self.items = items }
}

final class Joiner {
    let separator: Value
    var isUsed = false

    init(_ separator: Value) { self.separator = separator }
}

/// A macro and the frame in which it was defined.
final class Macro {
    let definition: Statement.Macro
    /// Which of `caller`, `kwargs` and `varargs` its body mentions.
    let specials: Set<String>
    let frame: Frame?

    init(_ definition: Statement.Macro, specials: Set<String>, frame: Frame?) {
        self.definition = definition
        self.specials = specials
        self.frame = frame
    }
}

final class Method {
    let receiver: Value
    let name: String

    init(_ receiver: Value, _ name: String) {
        self.receiver = receiver
        self.name = name
    }
}

extension Value {
    /// Containers inside each other.
    var depth: Int {
        switch self {
        case .list(let items), .tuple(let items): items.depth
        case .dictionary(let dict): dict.depth
        case .view(let view): view.dict.depth + 1
        case .generator(let generator): generator.depth
        case .cycler(let cycler): cycler.items.depth + 1
        case .joiner(let joiner): joiner.separator.depth + 1
        case .method(let method): method.receiver.depth + 1
        default: 0
        }
    }

    static func list(_ values: [Value]) -> Value { .list(Items(values)) }

    static func tuple(_ values: [Value]) -> Value { .tuple(Items(values)) }

    var isUndefined: Bool { if case .undefined = self { true } else { false } }

    var isNone: Bool { if case .none = self { true } else { false } }

    var text: Text? { if case .string(let text) = self { text } else { nil } }

    /// An integer, also written as a truth value.
    var integer: Int? {
        switch self {
        case .integer(let value): value
        case .bool(let value): value ? 1 : 0
        default: nil
        }
    }

    /// A number of any type.
    var number: Double? {
        switch self {
        case .float(let value): value
        default: integer.map { Double($0) }
        }
    }

    /// Python's name of its type.
    var typeName: String {
        switch self {
        case .missing, .undefined: "Undefined"
        case .none: "NoneType"
        case .bool: "bool"
        case .integer: "int"
        case .float: "float"
        case .string(let text): text.isMarkup ? "Markup" : "str"
        case .list: "list"
        case .tuple: "tuple"
        case .dictionary: "dict"
        case .view(let view): "dict_\(view.part.rawValue)"
        case .range: "range"
        case .generator: "generator"
        case .namespace: "Namespace"
        case .loop: "LoopContext"
        case .cycler: "Cycler"
        case .joiner: "Joiner"
        case .macro: "Macro"
        case .function: "function"
        case .method: "method"
        }
    }

    /// Python's `bool`.
    var isTrue: Bool {
        switch self {
        case .missing, .undefined, .none: false
        case .bool(let value): value
        case .integer(let value): value != 0
        case .float(let value): value != 0
        case .string(let text): !text.isEmpty
        case .list(let items), .tuple(let items): !items.values.isEmpty
        case .dictionary(let dict): dict.count > 0
        case .view(let view): view.dict.count > 0
        case .range(let range): range.count > 0
        case .loop, .generator, .namespace, .cycler, .joiner, .macro, .function, .method: true
        }
    }

    /// The same document as a value. Members keep their order.
    init(_ json: JSON) {
        switch json {
        case .null: self = .none
        case .bool(let value): self = .bool(value)
        case .integer(let value): self = .integer(value)
        case .number(let value): self = .float(value)
        case .string(let value): self = Value(value)
        case .array(let elements): self = .list(Items(elements.map { Value($0) }))
        case .object(let object):
            let dict = Dict()
            for member in object.members { dict.set(member.name, to: Value(member.value)) }
            self = .dictionary(dict)
        }
    }
}
