extension Interpreter {
    func execute(_ statements: [Statement]) throws(TemplateError) -> Flow {
        for statement in statements {
            line = statement.line
            try spend()
            let flow = try deeper { () throws(TemplateError) in try execute(statement) }
            if flow != .normal { return flow }
        }
        return .normal
    }

    private func execute(_ statement: Statement) throws(TemplateError) -> Flow {
        switch statement.kind {
        case .output(let outputs): try print(outputs)
        case .set(let target, let value): try assign(target, try evaluate(value))
        case .setBlock(let target, let filter, let scope):
            return try setBlock(target, filter, scope)
        case .loop(let loop): return try run(loop)
        case .branches(let branches, let otherwise): return try choose(branches, otherwise)
        case .macro(let macro): assign(macro.name, .macro(try newMacro(macro)))
        case .callBlock(let macro, let call): try callBlock(macro, call)
        case .filterBlock(let filter, let scope): return try filterBlock(filter, scope)
        case .with(let bindings, let scope): return try with(bindings, scope)
        case .block(_, let scope): return try enterBlock(scope)
        case .generation(let macro):
            let inner = Frame(parent: frame)
            return try scoped(inner, macro.body, isFunction: true)
        case .autoescape(let value, let scope):
            if try evaluate(value).isTrue {
                throw fail("'autoescape' that is on: chat templates are no HTML")
            }
            return try scoped(Frame(parent: frame), scope)
        case .breakLoop: return .breakLoop
        case .continueLoop: return .continueLoop
        case .refused(let problem): throw fail(problem)
        }
        return .normal
    }

    private func print(_ outputs: [Statement.Output]) throws(TemplateError) {
        for output in outputs {
            switch output {
            case .text(let text): try emit(text)
            case .value(let expression): try emit(try string(try evaluate(expression)))
            }
        }
    }

    /// Runs a scope with names of its own, which end with it unless it is a function.
    private func scoped(
        _ inner: Frame, _ scope: Scope, isFunction: Bool = false
    ) throws(TemplateError) -> Flow {
        enter(inner, scope.id)
        let flow = try within(inner) { () throws(TemplateError) in try execute(scope.body) }
        if !isFunction { inner.leave() }
        return flow
    }

    private func choose(
        _ branches: [Statement.Branch], _ otherwise: [Statement]
    ) throws(TemplateError) -> Flow {
        for branch in branches where try evaluate(branch.test).isTrue {
            return try execute(branch.body)
        }
        return try execute(otherwise)
    }

    private func setBlock(
        _ target: Target, _ filter: Expression?, _ scope: Scope
    ) throws(TemplateError) -> Flow {
        let inner = Frame(parent: frame)
        let (text, flow) = try capture { () throws(TemplateError) in
            enter(inner, scope.id)
            return try within(inner) { () throws(TemplateError) in try execute(scope.body) }
        }
        if flow != .normal { return flow }
        var value = Value(text)
        if let filter {
            value = try within(inner) { () throws(TemplateError) in
                try evaluate(filter, input: value)
            }
        }
        inner.leave()
        try assign(target, value)
        return .normal
    }

    private func filterBlock(_ filter: Expression, _ scope: Scope) throws(TemplateError) -> Flow {
        let inner = Frame(parent: frame)
        let (text, flow) = try capture { () throws(TemplateError) in
            enter(inner, scope.id)
            return try within(inner) { () throws(TemplateError) in try execute(scope.body) }
        }
        if flow != .normal { return flow }
        let value = try within(inner) { () throws(TemplateError) in
            try evaluate(filter, input: .string(text))
        }
        inner.leave()
        try emit(try string(value))
        return .normal
    }

    private func with(
        _ bindings: [Statement.Binding], _ scope: Scope
    ) throws(TemplateError) -> Flow {
        let inner = Frame(parent: frame)
        enter(inner, scope.id)
        for binding in bindings {
            // Values are computed outside: they do not see each other.
            let value = try evaluate(binding.value)
            try within(inner) { () throws(TemplateError) in try assign(binding.target, value) }
        }
        let flow = try within(inner) { () throws(TemplateError) in try execute(scope.body) }
        inner.leave()
        return flow
    }

    private func callBlock(
        _ definition: Statement.Macro, _ call: Expression
    ) throws(TemplateError) {
        guard case .call(let callee, let arguments) = call.kind else { return }
        let caller = Value.macro(try newMacro(definition))
        let function = try evaluate(callee)
        var values = try evaluate(arguments)
        values.keywords.append(("caller", caller))
        line = call.line
        try emit(try string(try self.call(function, values)))
    }

    // MARK: Assignment

    func assign(_ target: Target, _ value: Value) throws(TemplateError) {
        switch target {
        case .name(let name): assign(name, value)
        case .attribute(let namespace, let attribute):
            guard case .namespace(let object) = self.value(of: namespace) else {
                throw fail(
                    "cannot assign the attribute '\(attribute)' of '\(namespace)': it is no namespace"
                )
            }
            try set(attribute, of: object, to: value)
        case .tuple(let targets):
            let values = try elements(of: value)
            if values.count != targets.count {
                throw fail(
                    "\(targets.count) names on the left, and \(values.count) values to unpack")
            }
            for (target, value) in zip(targets, values) { try assign(target, value) }
        }
    }

    func set(
        _ attribute: String, of namespace: Namespace, to value: Value
    ) throws(TemplateError) {
        if attribute.hasPrefix("_") {
            throw fail("a namespace cannot hold '\(attribute)', which begins with an underscore")
        }
        try spend(bytes: 64)
        namespace.attributes.set(attribute, to: value)
    }

    // MARK: Loops

    private func run(_ loop: Statement.Loop) throws(TemplateError) -> Flow {
        try run(loop, over: try evaluate(loop.iterated), outer: frame, depth: 0)
    }

    /// Runs a loop's body for each element; also for `loop(...)` of a recursive one. A `break` in the loop's
    /// `else` is one of the loop around.
    func run(
        _ loop: Statement.Loop, over iterated: Value, outer: Frame, depth: Int
    ) throws(TemplateError) -> Flow {
        var cursor = try self.cursor(over: iterated)
        if let test = loop.test { cursor = filtered(cursor, by: test, of: loop, outer: outer) }
        let context = LoopContext(
            cursor, of: loop.isRecursive ? loop : nil, outer: outer, depth: depth)
        let inner = Frame(parent: outer)
        var hasRun = false
        var isBroken = false
        let loopLine = line
        while !isBroken, let item = try context.advance(self) {
            try spend()
            enter(inner, loop.body.id)
            inner.set("loop", to: .loop(context))
            let flow = try within(inner) { () throws(TemplateError) in
                line = loopLine
                try assign(loop.target, item)
                return try execute(loop.body.body)
            }
            switch flow {
            // As Jinja has it: an iteration that is left early does not count for `else`.
            case .normal: hasRun = true
            case .breakLoop: isBroken = true
            case .continueLoop: break
            }
        }
        context.finish()
        inner.leave()
        if hasRun || loop.otherwise.body.isEmpty { return .normal }
        return try within(outer) { () throws(TemplateError) in
            try scoped(Frame(parent: outer), loop.otherwise)
        }
    }

    /// The elements for which a loop's test is true, each computed when the loop gets there.
    private func filtered(
        _ cursor: Cursor, by test: Expression, of loop: Statement.Loop, outer: Frame
    ) -> Cursor {
        let inner = Frame(parent: outer)
        return Cursor(
            Generator("loop filter", depth: 0) { interpreter throws(TemplateError) in
                while let item = try cursor.next(interpreter) {
                    try interpreter.spend()
                    interpreter.enter(inner, loop.testScope)
                    let isWanted = try interpreter.within(inner) { () throws(TemplateError) in
                        try interpreter.assign(loop.target, item)
                        return try interpreter.evaluate(test).isTrue
                    }
                    if isWanted { return item }
                }
                return nil
            })
    }
}
