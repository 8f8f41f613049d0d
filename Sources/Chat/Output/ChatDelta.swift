public import OpenAIAPI

/// A piece of what a model said, told apart.
public enum ChatDelta: Sendable, Equatable {
    case content(String)
    case reasoning(String)
    /// A call begins; calls are numbered from 0.
    case toolCall(index: Int, id: String, name: String)
    /// The next part of the JSON text of a call's arguments.
    case toolArguments(index: Int, String)
}

extension ChatDelta {
    /// The piece as a stream carries it.
    public var chunkDelta: ChatChunk.Delta {
        switch self {
        case .content(let text): .init(content: text)
        case .reasoning(let text): .init(reasoningContent: text)
        case .toolCall(let index, let id, let name):
            .init(toolCalls: [.init(index: index, id: id, name: name, arguments: "")])
        case .toolArguments(let index, let text):
            .init(toolCalls: [.init(index: index, arguments: text)])
        }
    }
}

/// The pieces found so far, neighbours of one kind joined, and the calls counted.
struct DeltaSink: Sendable {
    /// What the ids of calls look like.
    enum IDStyle: Sendable {
        /// `call_` and 24 letters and digits, as OpenAI's.
        case long
        /// Nine letters and digits: all that Mistral's templates take.
        case nine
        /// The model names the call itself, and its template wants the name back.
        case own
    }

    private(set) var deltas: [ChatDelta] = []
    /// Calls begun.
    private(set) var callCount = 0
    let idStyle: IDStyle
    /// Calls beyond are dropped.
    let greatestCallCount: Int

    init(idStyle: IDStyle, greatestCallCount: Int) {
        self.idStyle = idStyle
        self.greatestCallCount = greatestCallCount
    }

    mutating func take() -> [ChatDelta] {
        defer { deltas = [] }
        return deltas
    }

    mutating func content(_ bytes: some Sequence<UInt8>) {
        let text = String(decoding: Array(bytes), as: UTF8.self)
        if text.isEmpty { return }
        if case .content(let before)? = deltas.last {
            deltas[deltas.count - 1] = .content(before + text)
        } else {
            deltas.append(.content(text))
        }
    }

    mutating func reasoning(_ bytes: some Sequence<UInt8>) {
        let text = String(decoding: Array(bytes), as: UTF8.self)
        if text.isEmpty { return }
        if case .reasoning(let before)? = deltas.last {
            deltas[deltas.count - 1] = .reasoning(before + text)
        } else {
            deltas.append(.reasoning(text))
        }
    }

    /// - Parameter id: the model's own name for the call, where it gives one.
    mutating func beginCall(_ name: String, id: String?) {
        callCount += 1
        guard callCount <= greatestCallCount else { return }
        let given =
            switch idStyle {
            case .long: ResponseHeader.newID("call_")
            case .nine: ResponseHeader.newID("", length: 9)
            case .own: id ?? ResponseHeader.newID("call_")
            }
        deltas.append(.toolCall(index: callCount - 1, id: given, name: name))
    }

    mutating func arguments(_ bytes: some Sequence<UInt8>) {
        guard callCount <= greatestCallCount else { return }
        let text = String(decoding: Array(bytes), as: UTF8.self)
        if text.isEmpty { return }
        if case .toolArguments(let index, let before)? = deltas.last, index == callCount - 1 {
            deltas[deltas.count - 1] = .toolArguments(index: index, before + text)
        } else {
            deltas.append(.toolArguments(index: callCount - 1, text))
        }
    }
}
