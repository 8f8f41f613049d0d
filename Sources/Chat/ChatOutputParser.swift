import OpenAIAPI

/// Tells apart what a model writes: its thoughts, its answer, and the calls that it wants made.
///
/// Text comes in as it is decoded, in pieces of any size, and goes out as soon as it is certain
/// what it is: half a marker is held back until the rest has come. How the text is cut changes
/// nothing in what the pieces add up to. A call that is none (no name, no JSON) comes out as
/// content, marker and all; one that breaks off after its arguments have begun is left as it is.
public struct ChatOutputParser: Sendable {
    private enum State {
        /// Nothing but white space has come.
        case beginning(mayThink: Bool)
        case reasoning
        case content
        /// What is read begins at `start`, with `lead` bytes before the reader's first.
        case call(CallReader, start: Int, lead: Int, callsBefore: Int)
        case harmony(HarmonyReader)
    }

    private let syntax: OutputSyntax
    private let schemas: ToolSchemas
    private let splitsReasoning: Bool
    private let openings: [[UInt8]]
    private let markers: [[UInt8]]
    private var state: State
    private var text = PendingText()
    private var sink: DeltaSink
    /// White space behind thoughts and calls is not part of the answer.
    private var dropsSpace = false

    /// White space before a call is not part of the answer either, so much of it.
    private static let longestHeldSpace = 64

    /// - Parameters:
    ///   - tools: those that may be called; none, and nothing is taken for a call.
    ///   - startsInReasoning: the prompt has opened the thoughts.
    ///   - splitsReasoning: thoughts are told apart from the answer, or left in it with their
    ///     markers.
    ///   - greatestCallCount: further calls are dropped.
    init(
        _ syntax: OutputSyntax, tools: [ToolDefinition], startsInReasoning: Bool,
        splitsReasoning: Bool, greatestCallCount: Int, idStyle: DeltaSink.IDStyle
    ) {
        var syntax = syntax
        if tools.isEmpty {
            syntax.openings = []
            syntax.bareCalls = nil
        }
        syntax.bareCalls?.onlyNames = Set(tools.map(\.name))
        self.syntax = syntax
        self.splitsReasoning = splitsReasoning
        schemas = ToolSchemas(tools)
        openings = syntax.openings.map { Array($0.marker.utf8) }
        markers = openings + syntax.dropped.map { Array($0.utf8) }
        sink = DeltaSink(idStyle: idStyle, greatestCallCount: greatestCallCount)
        if syntax.isHarmony {
            state = .harmony(
                HarmonyReader(readsCalls: !tools.isEmpty, splitsReasoning: splitsReasoning))
        } else {
            state =
                startsInReasoning && syntax.reasoning != nil
                ? .reasoning
                : .beginning(mayThink: true)
            dropsSpace = startsInReasoning && splitsReasoning
        }
    }

    /// At least one call has begun.
    public var hasToolCalls: Bool { sink.callCount > 0 }

    /// Takes the next text and gives what is certain now.
    public mutating func append(_ piece: String) -> [ChatDelta] {
        text.append(piece)
        run()
        return sink.take()
    }

    /// The text has ended; gives what was held back.
    public mutating func finish() -> [ChatDelta] {
        text.isWhole = true
        run()
        return sink.take()
    }

    private mutating func run() {
        var goesOn = true
        while goesOn {
            switch state {
            case .harmony(var reader):
                reader.read(&text, into: &sink)
                state = .harmony(reader)
                goesOn = false
            case .beginning(let mayThink): goesOn = begin(mayThink: mayThink)
            case .reasoning: goesOn = reason()
            case .content: goesOn = answer()
            case .call(let reader, let start, let lead, let callsBefore):
                goesOn = call(reader, start: start, lead: lead, callsBefore: callsBefore)
            }
        }
    }

    /// Looks at the first characters.
    private mutating func begin(mayThink: Bool) -> Bool {
        let start = text.position
        text.skipSpace()
        if mayThink, let reasoning = syntax.reasoning {
            switch text.take([Array(reasoning.open.utf8)]) {
            case .found:
                if !splitsReasoning { sink.content(text.bytes[start..<text.position]) }
                text.forgetRead()
                dropsSpace = splitsReasoning
                state = .reasoning
                return true
            case .unsure:
                text.position = start
                return false
            case .none: break
            }
        }
        guard let first = text.first else {
            text.position = start
            if text.isWhole { state = .content }
            return text.isWhole
        }
        if first == UInt8(ascii: "{"), let bare = syntax.bareCalls {
            state = .call(
                .json(JSONCallReader(bare)), start: start, lead: 0, callsBefore: sink.callCount)
            return true
        }
        // White space before the answer is part of it, if an answer comes.
        text.position = start
        state = .content
        return true
    }

    private mutating func reason() -> Bool {
        guard let reasoning = syntax.reasoning else { return false }
        let close = Array(reasoning.close.utf8)
        let scan = text.scan([close])
        guard case .marker(let start, _) = scan else {
            if case .text(let end) = scan {
                splitsReasoning ? hand(upTo: end, asReasoning: true) : hand(all: end)
            }
            text.forgetRead()
            return false
        }
        if splitsReasoning {
            hand(upTo: start, asReasoning: true)
            text.position = start + close.count
        } else {
            hand(all: start + close.count)
        }
        text.forgetRead()
        dropsSpace = splitsReasoning
        if splitsReasoning {
            state = .beginning(mayThink: false)
        } else {
            state = .content
        }
        return true
    }

    private mutating func answer() -> Bool {
        switch text.scan(markers) {
        case .text(let end):
            if text.isWhole {
                // Nothing will follow that the white space could stand before.
                if !hasToolCalls { hand(all: end) } else { hand(upTo: end, asReasoning: false) }
            } else {
                hand(upTo: end, asReasoning: false)
            }
            text.forgetRead()
            return false
        case .marker(let start, let which):
            hand(upTo: start, asReasoning: false)
            guard which < openings.count else {
                text.position = start + markers[which].count
                text.forgetRead()
                dropsSpace = true
                return true
            }
            // The white space before is dropped if a call follows.
            let lead = start - text.position + openings[which].count
            text.forgetRead()
            text.position = lead
            state = .call(
                .choosing(syntax.openings[which].syntax, schemas: schemas), start: 0, lead: lead,
                callsBefore: sink.callCount)
            return true
        }
    }

    private mutating func call(
        _ reader: CallReader, start: Int, lead: Int, callsBefore: Int
    ) -> Bool {
        var reader = reader
        let progress = reader.read(&text, into: &sink)
        let hasBegun = sink.callCount > callsBefore
        switch progress {
        case .unsure:
            if hasBegun { text.forgetRead() }
            state = .call(reader, start: hasBegun ? 0 : start, lead: lead, callsBefore: callsBefore)
            return false
        case .done:
            dropsSpace = true
        case .malformed:
            if !hasBegun {
                // The marker and what came before it in this section is text after all.
                text.position = start
                hand(all: start + lead)
            }
        }
        text.forgetRead()
        state = .content
        return true
    }

    /// Hands on text up to a place, without the white space before it, which stays.
    private mutating func hand(upTo end: Int, asReasoning: Bool) {
        skipDroppedSpace(upTo: end)
        var last = end
        while last > text.position, end - last < Self.longestHeldSpace,
            PendingText.isSpace(text.bytes[last - 1])
        {
            last -= 1
        }
        let bytes = text.bytes[text.position..<last]
        if asReasoning { sink.reasoning(bytes) } else { sink.content(bytes) }
        text.position = last
    }

    private mutating func hand(all end: Int) {
        skipDroppedSpace(upTo: end)
        sink.content(text.bytes[text.position..<end])
        text.position = end
    }

    private mutating func skipDroppedSpace(upTo end: Int) {
        guard dropsSpace else { return }
        while text.position < end, PendingText.isSpace(text.bytes[text.position]) {
            text.position += 1
        }
        if text.position < end { dropsSpace = false }
    }
}
