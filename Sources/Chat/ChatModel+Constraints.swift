import Constraints
import JSONTree
import OpenAIAPI

// What an answer is held to: thoughts as the model likes, then the format or the calls that the
// request asks for, in the family's own way to write them.
extension ChatModel {
    func constraint(for request: ChatCompletionRequest, _ thinking: Thinking) throws(APIError)
        -> Constraint?
    {
        let answer = try answerParts(request)
        guard request.constrainsTools || (request.usesTools && answer != nil) else {
            guard let answer else { return nil }
            return try compiled(framed(answer, thinking), param: "response_format")
        }
        if request.toolChoice == .auto, answer == nil {
            return try triggeredCalls(request, thinking)
        }
        var tools = request.tools
        if case .function(let name) = request.toolChoice {
            tools = tools.filter { $0.name == name }
        }
        let writer = CallWriter(family: family, allowsSeveral: request.allowsParallelToolCalls)
        let calls = try writer.parts(for: tools)
        guard request.toolChoice == .auto, let answer else {
            return try compiled(thought(calls, thinking), param: "tools")
        }
        return try compiled(
            thought([.choice([calls, harmonyFinal + answer])], thinking), param: "response_format")
    }

    /// What `response_format` asks for; nil for text.
    private func answerParts(_ request: ChatCompletionRequest) throws(APIError)
        -> [ConstraintPart]?
    {
        do {
            switch request.responseFormat {
            case .text: return nil
            case .jsonObject: return [.constraint(.jsonObject())]
            case .jsonSchema(_, let schema, _): return [.constraint(try Constraint(schema: schema))]
            case .regex(let pattern): return [.constraint(try Constraint(regex: pattern))]
            case .grammar(let rules): return [.constraint(try Constraint(grammar: rules))]
            }
        } catch {
            let kind =
                switch request.responseFormat {
                case .jsonSchema(let name, _, _): "schema '\(name)'"
                case .regex: "regular expression"
                default: "grammar"
                }
            throw .invalid(
                "Invalid \(kind) for response_format: \(error).", param: "response_format",
                code: "invalid_response_format")
        }
    }

    private func compiled(_ parts: [ConstraintPart], param: String) throws(APIError) -> Constraint {
        do {
            return try Constraint.sequence(parts)
        } catch {
            throw .invalid(
                "The answer cannot be held to this format: \(error).", param: param,
                code: "invalid_response_format")
        }
    }

    private func framed(_ answer: [ConstraintPart], _ thinking: Thinking) -> [ConstraintPart] {
        thought(harmonyFinal + answer, thinking)
    }

    private var harmonyFinal: [ConstraintPart] {
        family == .harmony ? [.literal("<|channel|>final<|message|>")] : []
    }

    /// Thoughts before something, where the model has them.
    private func thought(_ parts: [ConstraintPart], _ thinking: Thinking) -> [ConstraintPart] {
        if family == .harmony {
            let analysis: [ConstraintPart] = [
                .literal("<|channel|>analysis<|message|>"), .until("<|end|>"),
                .literal("<|start|>assistant"),
            ]
            return [.choice([[], analysis])] + parts
        }
        guard let brackets = syntax.reasoning else { return parts }
        let space = ConstraintPart.choice([[], [.literal("\n")], [.literal("\n\n")]])
        let rest = [.until(brackets.close), space] + parts
        switch thinking {
        case .never: return parts
        case .begun: return rest
        case .possible:
            return [.choice([parts, [.literal(brackets.open)] + rest])]
        }
    }

    /// Free text in which calls, once begun, have their form. Nil for families that do not mark
    /// calls.
    private func triggeredCalls(_ request: ChatCompletionRequest, _ thinking: Thinking)
        throws(APIError) -> Constraint?
    {
        let writer = CallWriter(family: family, allowsSeveral: request.allowsParallelToolCalls)
        guard let (triggers, parts) = try writer.triggered(request.tools, onlyStrict: true) else {
            return nil
        }
        do {
            let then = try Constraint.sequence(parts)
            let free = try Constraint.triggered(
                triggers.map { (trigger: $0, then: then) }, requires: false,
                repeats: request.allowsParallelToolCalls)
            guard thinking == .begun, let brackets = syntax.reasoning else { return free }
            return try Constraint.sequence([.until(brackets.close), .constraint(free)])
        } catch {
            throw .invalid(
                "The calls cannot be held to the tools' schemas: \(error).", param: "tools",
                code: "invalid_function_parameters")
        }
    }
}
