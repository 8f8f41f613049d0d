import JSONTree

/// Reads calls that are JSON objects. The arguments are handed on as they come in once the name is
/// known; where they stand before the name, when the object ends.
struct JSONCallReader: Sendable {
    private enum State {
        case start, firstMember, member, colon, value, arguments, afterValue, afterObject, close
    }

    private let syntax: JSONCallSyntax
    private var state = State.start
    private var isInArray = false
    private var scanner = JSONValueScanner()
    private var raw: [UInt8] = []
    private var key = ""
    private var arguments = ArgumentsReader()
    // Of the object that is being read.
    private var name: String?
    private var id: String?
    private var kept: [UInt8]?
    private var hasBegun = false

    init(_ syntax: JSONCallSyntax) { self.syntax = syntax }

    mutating func read(_ text: inout PendingText, into sink: inout DeltaSink) -> ReadingProgress {
        while true {
            switch step(&text, &sink) {
            case .go: continue
            case .stop(let progress): return progress
            }
        }
    }

    private enum Step {
        case go
        case stop(ReadingProgress)
    }

    private mutating func step(_ text: inout PendingText, _ sink: inout DeltaSink) -> Step {
        switch state {
        case .arguments:
            switch arguments.read(&text, into: &sink) {
            case .done:
                state = .afterValue
                return .go
            case let other: return .stop(other == .unsure && text.isWhole ? .malformed : other)
            }
        case .value,
            .member where !raw.isEmpty, .firstMember where !raw.isEmpty:
            return readValue(&text, &sink)
        default: break
        }
        text.skipSpace()
        guard let byte = text.first else {
            if !text.isWhole { return .stop(.unsure) }
            // Calls that nobody closed are calls.
            return .stop(state == .close || state == .afterObject ? .done : .malformed)
        }
        return punctuation(byte, &text, &sink)
    }

    private mutating func punctuation(
        _ byte: UInt8, _ text: inout PendingText, _ sink: inout DeltaSink
    ) -> Step {
        switch (state, byte) {
        case (.start, UInt8(ascii: "[")) where !isInArray:
            isInArray = true
        case (.start, UInt8(ascii: "{")):
            beginObject()
        case (.firstMember, UInt8(ascii: "}")), (.afterValue, UInt8(ascii: "}")):
            guard endObject(&sink) else { return .stop(.malformed) }
            state = .afterObject
        case (.firstMember, UInt8(ascii: "\"")), (.member, UInt8(ascii: "\"")):
            return readValue(&text, &sink)
        case (.colon, UInt8(ascii: ":")):
            state = .value
            text.position += 1
            text.skipSpace()
            return .go
        case (.afterValue, UInt8(ascii: ",")):
            state = .member
        case (.afterObject, UInt8(ascii: ",")) where isInArray,
            (.afterObject, UInt8(ascii: ";")) where syntax.allowsSemicolons:
            state = .start
            text.position += 1
            return .go
        case (.afterObject, UInt8(ascii: "{")) where syntax.allowsSemicolons && !isInArray:
            beginObject()
        case (.afterObject, UInt8(ascii: "]")) where isInArray:
            state = .close
        case (.afterObject, _) where !isInArray, (.close, _):
            return close(&text)
        default: return .stop(.malformed)
        }
        text.position += 1
        return .go
    }

    private mutating func beginObject() {
        name = nil
        id = nil
        kept = nil
        hasBegun = false
        state = .firstMember
    }

    /// Reads a member's name, or a value that is no stream of arguments.
    private mutating func readValue(_ text: inout PendingText, _ sink: inout DeltaSink) -> Step {
        if state == .value, raw.isEmpty {
            text.skipSpace()
            guard text.first != nil else { return .stop(text.isWhole ? .malformed : .unsure) }
            if isArgumentsKey, let name, isAllowed(name), !hasBegun {
                sink.beginCall(name, id: id)
                hasBegun = true
                arguments = ArgumentsReader()
                state = .arguments
                return .go
            }
        }
        while let byte = text.first {
            let step = scanner.step(byte)
            if step == .invalid { return .stop(.malformed) }
            if step != .after {
                raw.append(byte)
                text.position += 1
            }
            if step == .inside { continue }
            defer {
                scanner = JSONValueScanner()
                raw = []
            }
            return take() ? .go : .stop(.malformed)
        }
        return .stop(text.isWhole ? .malformed : .unsure)
    }

    /// A whole member's name or value.
    private mutating func take() -> Bool {
        if state != .value {
            guard case .string(let text)? = try? JSON(parsing: raw) else { return false }
            key = text
            state = .colon
            return syntax.onlyNames == nil || Self.members.contains(key)
        }
        state = .afterValue
        if isArgumentsKey {
            kept = raw
        } else if Self.nameKeys.contains(key) {
            guard case .string(let text)? = try? JSON(parsing: raw), isAllowed(text) else {
                return false
            }
            name = text
        } else if Self.idKeys.contains(key), case .string(let text)? = try? JSON(parsing: raw) {
            id = text
        }
        return true
    }

    private mutating func endObject(_ sink: inout DeltaSink) -> Bool {
        if hasBegun { return true }
        guard let name else { return false }
        sink.beginCall(name, id: id)
        var whole = PendingText()
        whole.append(kept.map { String(decoding: $0, as: UTF8.self) } ?? "{}")
        whole.isWhole = true
        var reader = ArgumentsReader()
        return reader.read(&whole, into: &sink) == .done
    }

    private mutating func close(_ text: inout PendingText) -> Step {
        guard let marker = syntax.close else { return .stop(.done) }
        // Whatever stands in place of the closing marker is no part of the call.
        return .stop(text.take([Array(marker.utf8)]) == .unsure ? .unsure : .done)
    }

    private func isAllowed(_ name: String) -> Bool {
        !name.isEmpty && syntax.onlyNames?.contains(name) != false
    }

    private var isArgumentsKey: Bool { key == "arguments" || key == "parameters" }
    private static let nameKeys: Set<String> = ["name", "tool_name", "function"]
    private static let idKeys: Set<String> = ["id", "tool_call_id"]
    private static let members = nameKeys.union(idKeys).union(["arguments", "parameters", "type"])
}
