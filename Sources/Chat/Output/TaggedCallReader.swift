import JSONTree

/// Reads calls with every argument between tags of its own, and makes the JSON text of them. An
/// argument is handed on when it is whole.
struct TaggedCallReader: Sendable {
    private enum State { case open, name, beforeArguments, json, key, value, next }

    private let syntax: TaggedCallSyntax
    private let schemas: ToolSchemas
    private var state = State.open
    private var name = ""
    private var key = ""
    private var isString: Bool?
    private var argumentCount = 0
    private var hasBegun = false
    private var arguments = ArgumentsReader()

    init(_ syntax: TaggedCallSyntax, schemas: ToolSchemas) {
        self.syntax = syntax
        self.schemas = schemas
    }

    mutating func read(_ text: inout PendingText, into sink: inout DeltaSink) -> ReadingProgress {
        while true {
            let progress =
                switch state {
                case .open: readOpen(&text)
                case .name: readName(&text)
                case .beforeArguments: readBeforeArguments(&text, &sink)
                case .json: readJSON(&text, &sink)
                case .key: readKey(&text)
                case .value: readValue(&text, &sink)
                case .next: readNext(&text)
                }
            if let progress { return progress }
        }
    }

    private mutating func readOpen(_ text: inout PendingText) -> ReadingProgress? {
        if syntax.callOpen.isEmpty {
            state = .name
            return nil
        }
        text.skipSpace()
        switch text.take([Array(syntax.callOpen.utf8)]) {
        case .found:
            state = .name
            return nil
        case .unsure: return .unsure
        case .none: return text.isAtEnd && !text.isWhole ? .unsure : .malformed
        }
    }

    private mutating func readName(_ text: inout PendingText) -> ReadingProgress? {
        let ends = [syntax.nameEnd, syntax.keyOpen, syntax.callClose].map { Array($0.utf8) }
        guard case .marker(let start, let which) = text.scan(ends) else {
            // A name does not go on for ever.
            let length = text.bytes.count - text.position
            return text.isWhole || length > 512 ? .malformed : .unsure
        }
        let bytes = text.bytes[text.position..<start]
        name = bytes.trimmed.string
        guard bytes.count <= 512, Self.isName(name) else { return .malformed }
        text.position = start + (which == 0 ? ends[0].count : 0)
        argumentCount = 0
        hasBegun = false
        state = .beforeArguments
        return nil
    }

    /// Something that can be a function's name: prose behind a marker is none.
    private static func isName(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { !PendingText.isSpace($0) && $0 != UInt8(ascii: "<") }
    }

    private mutating func readBeforeArguments(
        _ text: inout PendingText, _ sink: inout DeltaSink
    ) -> ReadingProgress? {
        text.skipSpace()
        if text.first == UInt8(ascii: "{"), argumentCount == 0 {
            begin(&sink)
            arguments = ArgumentsReader()
            state = .json
            return nil
        }
        switch text.take([syntax.keyOpen, syntax.callClose].map { Array($0.utf8) }) {
        case .found(0):
            begin(&sink)
            state = .key
        case .found:
            begin(&sink)
            sink.arguments((argumentCount == 0 ? "{}" : "}").utf8)
            state = .next
        case .unsure: return .unsure
        case .none:
            if text.isAtEnd, !text.isWhole { return .unsure }
            // A call that broke off stays as it is; what goes on in another way is made whole.
            if hasBegun, !text.isAtEnd { sink.arguments("}".utf8) }
            return .malformed
        }
        return nil
    }

    /// With the first sign behind its name that this is a call.
    private mutating func begin(_ sink: inout DeltaSink) {
        if !hasBegun { sink.beginCall(name, id: nil) }
        hasBegun = true
    }

    /// Arguments as one object, as functionary writes them between the same tags.
    private mutating func readJSON(_ text: inout PendingText, _ sink: inout DeltaSink)
        -> ReadingProgress?
    {
        switch arguments.read(&text, into: &sink) {
        case .malformed: return .malformed
        case .unsure: return text.isWhole ? .malformed : .unsure
        case .done: break
        }
        text.skipSpace()
        state = .next
        return nil
    }

    private mutating func readKey(_ text: inout PendingText) -> ReadingProgress? {
        guard let (bytes, _) = text.read(until: [Array(syntax.valueOpen.utf8)]) else {
            return text.isWhole ? .done : .unsure
        }
        // `KEY`, `KEY</arg_key>` or `KEY" string="true"`.
        let header = bytes.trimmed.string
        isString = nil
        if let quote = header.firstIndex(of: "\"") {
            key = String(header[..<quote])
            if header[quote...].contains("string=\"true\"") { isString = true }
            if header[quote...].contains("string=\"false\"") { isString = false }
        } else if let tag = header.firstIndex(of: "<") {
            key = String(header[..<tag])
        } else {
            key = header
        }
        state = .value
        return nil
    }

    private mutating func readValue(_ text: inout PendingText, _ sink: inout DeltaSink)
        -> ReadingProgress?
    {
        guard var (bytes, _) = text.read(until: [Array(syntax.valueClose.utf8)]) else {
            return text.isWhole ? .done : .unsure
        }
        if syntax.trimsLineBreaks {
            if bytes.first == 0x0A { bytes.removeFirst() }
            if bytes.last == 0x0A { bytes.removeLast() }
        }
        var argument: [UInt8] = [UInt8(ascii: argumentCount == 0 ? "{" : ",")]
        JSON.appendQuoted(key, to: &argument)
        argument.append(UInt8(ascii: ":"))
        argument += schemas.json(bytes.string, of: key, tool: name, isString: isString)
        sink.arguments(argument)
        argumentCount += 1
        state = .beforeArguments
        return nil
    }

    /// Another call of the same section, or its end.
    private mutating func readNext(_ text: inout PendingText) -> ReadingProgress? {
        text.skipSpace()
        let markers = [syntax.callOpen, syntax.sectionClose ?? "", syntax.callClose]
        switch text.take(markers.map { Array($0.utf8) }) {
        case .found(0):
            state = .name
            return nil
        // The tag after arguments that were one object.
        case .found(2): return nil
        case .found: return .done
        case .unsure: return .unsure
        case .none: return text.isAtEnd && !text.isWhole ? .unsure : .done
        }
    }
}
