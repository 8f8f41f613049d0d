/// Methods of Python's types. Those that change a list or dictionary are there and forbidden, as in Jinja's
/// ImmutableSandboxedEnvironment.
enum Methods {
    private static let ofStrings: Set<String> = [
        "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find",
        "format", "format_map", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit",
        "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper",
        "join", "ljust", "lower", "lstrip", "maketrans", "partition", "removeprefix",
        "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip",
        "split", "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper",
        "zfill",
    ]
    private static let ofDictionaries: Set<String> = [
        "get", "keys", "values", "items", "copy", "fromkeys",
    ]
    private static let ofLists: Set<String> = ["count", "index", "copy"]
    private static let ofTuples: Set<String> = ["count", "index"]
    private static let changingDictionaries: Set<String> = [
        "clear", "pop", "popitem", "setdefault", "update",
    ]
    private static let changingLists: Set<String> = [
        "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove",
    ]

    static func names(of value: Value) -> Set<String> {
        switch value {
        case .string: ofStrings
        case .dictionary: ofDictionaries
        case .list: ofLists
        case .tuple, .range: ofTuples
        case .loop: ["cycle", "changed"]
        case .cycler: ["next", "reset"]
        case .integer, .bool: ["bit_length", "bit_count", "conjugate"]
        case .float: ["is_integer", "conjugate"]
        case .function("dict"): ["fromkeys"]
        default: []
        }
    }

    static func isForbidden(_ name: String, of value: Value) -> Bool {
        switch value {
        case .dictionary: changingDictionaries.contains(name)
        case .list: changingLists.contains(name)
        default: false
        }
    }

    static func call(
        _ name: String, of receiver: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        switch receiver {
        case .string(let text):
            try interpreter.spend(steps: text.utf8.count / 16)
            return try StringMethods(text: text, name: name, arguments: arguments, interpreter)
                .call()
        case .dictionary(let dict):
            return try call(name, of: dict, arguments, interpreter)
        case .list(let items), .tuple(let items):
            if name == "copy" { return receiver }
            return try search(name, in: items.values, arguments, interpreter)
        case .range:
            return try search(
                name, in: try interpreter.elements(of: receiver), arguments, interpreter)
        case .loop(let loop):
            if name == "changed" {
                return .bool(try loop.changed(arguments.positional, interpreter))
            }
            guard !arguments.positional.isEmpty else {
                throw interpreter.fail("'loop.cycle' without items")
            }
            return arguments.positional[max(loop.index0, 0) % arguments.positional.count]
        case .cycler(let cycler):
            if name == "reset" {
                cycler.position = 0
                return .none
            }
            defer { cycler.position = (cycler.position + 1) % cycler.items.values.count }
            return cycler.items.values[cycler.position]
        case .integer, .bool:
            let value = receiver.integer ?? 0
            switch name {
            case "bit_length": return .integer(Int.bitWidth - value.magnitude.leadingZeroBitCount)
            case "bit_count": return .integer(value.magnitude.nonzeroBitCount)
            default: return .integer(value)
            }
        case .float(let value):
            return name == "is_integer"
                ? .bool(value.isFinite && value == value.rounded()) : receiver
        default: return try fromKeys(arguments, interpreter)
        }
    }

    private static func search(
        _ name: String, in values: [Value], _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        let bound = try arguments.bound(
            to: name == "count" ? ["value"] : ["value", "start", "stop"], required: 1,
            of: "the method '\(name)'", interpreter)
        let wanted = bound[0] ?? .none
        if name == "count" {
            var count = 0
            for value in values where try interpreter.areEqual(value, wanted) { count += 1 }
            return .integer(count)
        }
        let range = Swift.Range(
            boundsOf: values.count, try bound.integer(1, initially: 0, interpreter),
            try bound.integer(2, initially: Int.max, interpreter))
        for index in range where try interpreter.areEqual(values[index], wanted) {
            return .integer(index)
        }
        throw interpreter.fail("the value is not in the list")
    }

    private static func call(
        _ name: String, of dict: Dict, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        func bound(_ names: [String], _ required: Int) throws(TemplateError) -> BoundArguments {
            try arguments.bound(
                to: names, required: required, of: "the method '\(name)'", interpreter)
        }
        switch name {
        case "get":
            // Python's takes no names.
            guard arguments.keywords.isEmpty else {
                throw interpreter.fail("the method 'get' takes no keyword arguments")
            }
            let bound = try bound(["key", "default"], 1)
            return dict[try interpreter.key(of: bound[0] ?? .none)] ?? bound[1] ?? .none
        case "fromkeys": return try fromKeys(arguments, interpreter)
        case "copy":
            _ = try bound([], 0)
            return .dictionary(dict)
        default:
            _ = try bound([], 0)
            return .view(DictView(DictView.Part(rawValue: name) ?? .keys, of: dict))
        }
    }

    private static func fromKeys(
        _ arguments: Arguments, _ interpreter: Interpreter
    ) throws(TemplateError) -> Value {
        let bound = try arguments.bound(
            to: ["iterable", "value"], required: 1, of: "the method 'fromkeys'", interpreter)
        let dict = Dict()
        for key in try interpreter.elements(of: bound[0] ?? .none) {
            dict.set(try interpreter.key(of: key), key, to: bound[1] ?? .none)
        }
        return .dictionary(dict)
    }
}

extension Swift.Range<Int> {
    /// What Python takes of a sequence between two bounds, negative ones counted from the end.
    init(boundsOf count: Int, _ start: Int, _ stop: Int) {
        let first = Swift.max(start < 0 ? start + count : start, 0)
        let end = Swift.min(Swift.max(stop < 0 ? stop + count : stop, 0), count)
        self = first < end ? first..<end : Swift.min(first, end)..<Swift.min(first, end)
    }
}
