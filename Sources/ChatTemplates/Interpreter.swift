/// One rendering. It walks the syntax tree, and every loop, string and call is paid for out of `RenderLimits`.
final class Interpreter {
    let template: Scope
    let scopes: Scopes
    let limits: RenderLimits
    let now: Double
    private let variables: Dict

    /// The line that is being carried out, for messages.
    var line = 1
    var frame: Frame
    private var output: [UInt8] = []
    private var steps = 0
    private var bytes = 0
    private var depth = 0
    /// Assigned outside of every scope, which is what blocks see.
    private var topLevel: [String: Value] = [:]
    private let topFrame: Frame
    private var namespaces: [Namespace] = []
    private var macroFrames: [Frame] = []

    init(
        _ template: Scope, _ scopes: Scopes, variables: Dict, now: Double, limits: RenderLimits
    ) {
        self.template = template
        self.scopes = scopes
        self.variables = variables
        self.now = now
        self.limits = limits
        topFrame = Frame(parent: nil)
        frame = topFrame
    }

    func render() throws(TemplateError) -> String {
        defer {
            for namespace in namespaces { namespace.empty() }
            for frame in macroFrames { frame.empty() }
            topFrame.empty()
        }
        enter(topFrame, template.id)
        topFrame.set("self", to: selfReference())
        _ = try execute(template.body)
        return String(decoding: output, as: UTF8.self)
    }

    func fail(_ problem: String) -> TemplateError { TemplateError(line: line, problem) }

    // MARK: Limits

    /// Counts work, about one for each nanosecond or few.
    func spend(steps count: Int = 1) throws(TemplateError) {
        steps += count
        if steps > limits.steps {
            throw fail("the template takes more than \(limits.steps) steps")
        }
    }

    /// Counts memory, before it is taken where it can be much.
    func spend(bytes count: Int) throws(TemplateError) {
        guard count <= limits.bytes - bytes else {
            throw fail("the template's strings and lists take more than \(limits.bytes) bytes")
        }
        bytes += count
    }

    /// The memory of `count` copies of something of `size` bytes.
    func spend(bytes size: Int, times count: Int) throws(TemplateError) {
        let (product, overflow) = size.multipliedReportingOverflow(by: max(count, 0))
        try spend(bytes: overflow ? Int.max : product)
    }

    func deeper<Result>(
        _ body: () throws(TemplateError) -> Result
    ) throws(TemplateError) -> Result {
        guard depth < limits.depth else {
            throw fail("more than \(limits.depth) expressions and calls inside each other")
        }
        depth += 1
        defer { depth -= 1 }
        return try body()
    }

    /// A new list, tuple, dictionary or string, paid for.
    func made(_ value: Value) throws(TemplateError) -> Value {
        switch value {
        case .string(let text): try spend(bytes: text.utf8.count + 32)
        case .list(let items), .tuple(let items):
            try spend(bytes: items.values.count * 16 + 64)
        case .dictionary(let dict): try spend(bytes: dict.count * 128 + 128)
        case .generator: try spend(bytes: 128)
        default: break
        }
        if value.depth > greatestValueDepth {
            throw fail("more than \(greatestValueDepth) lists and dictionaries inside each other")
        }
        return value
    }

    // MARK: Output

    func emit(_ text: Text) throws(TemplateError) {
        output.append(contentsOf: text.utf8)
        if output.count > limits.outputBytes {
            throw fail("the rendering has more than \(limits.outputBytes) bytes")
        }
    }

    /// What `body` prints, instead of printing it.
    func capture(
        _ body: () throws(TemplateError) -> Flow
    ) throws(TemplateError) -> (text: Text, flow: Flow) {
        let outer = output
        output = []
        defer { output = outer }
        let flow = try body()
        try spend(bytes: output.count)
        return (Text(utf8: output), flow)
    }

    // MARK: Names

    /// Gives a scope's names their first values.
    func enter(_ frame: Frame, _ scope: Int) {
        for entry in scopes.entries[scope] {
            switch entry.origin {
            case .parameter: break
            case .variables: frame.set(entry.name, to: resolve(entry.name))
            case .outer: frame.set(entry.name, to: frame.parent?[entry.name] ?? .missing)
            case .nowhere: frame.set(entry.name, to: .missing)
            }
        }
    }

    private func resolve(_ name: String) -> Value {
        if let value = topLevel[name] ?? variables[name] { return value }
        return Functions.names.contains(name) ? .function(name) : .missing
    }

    /// The value of a name as an expression sees it.
    func value(of name: String) -> Value {
        switch frame[name] ?? resolve(name) {
        case .missing: .undefined(Undefined("'\(name)' is undefined"))
        case let value: value
        }
    }

    func assign(_ name: String, _ value: Value) {
        frame.set(name, to: value)
        if frame === topFrame { topLevel[name] = value }
    }

    /// Runs `body` with the names of `inner`.
    func within<Result>(
        _ inner: Frame, _ body: () throws(TemplateError) -> Result
    ) throws(TemplateError) -> Result {
        let outer = frame
        frame = inner
        defer { frame = outer }
        return try body()
    }

    func newNamespace() throws(TemplateError) -> Namespace {
        try spend(bytes: 256)
        let namespace = Namespace()
        namespaces.append(namespace)
        return namespace
    }

    func newMacro(_ definition: Statement.Macro) throws(TemplateError) -> Macro {
        try spend(bytes: 256)
        if macroFrames.last !== frame { macroFrames.append(frame) }
        return Macro(
            definition, specials: scopes.specials[definition.body.id] ?? [], frame: frame)
    }

    /// `self`, whose members render the template's blocks.
    private func selfReference() -> Value {
        let namespace = Namespace()
        for name in scopes.blocks.keys.sorted() {
            namespace.attributes.set(name, to: .function("block " + name))
        }
        return .namespace(namespace)
    }

    func enterBlock(_ scope: Scope) throws(TemplateError) -> Flow {
        let inner = Frame(parent: nil)
        enter(inner, scope.id)
        inner.set("self", to: selfReference())
        inner.set("super", to: .undefined(Undefined("there is no parent block")))
        return try within(inner) { () throws(TemplateError) in try execute(scope.body) }
    }
}

/// How a statement ended.
enum Flow { case normal, breakLoop, continueLoop }
