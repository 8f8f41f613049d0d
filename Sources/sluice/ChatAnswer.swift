import Glibc
import OpenAIAPI
import SluiceClient
import Synchronization

/// An answer that is received and printed by a task, while the main thread waits for it or for a
/// signal.
final class ChatAnswer: Sendable {
    /// What came, complete or not.
    struct Outcome: Sendable {
        var message = ChatCompletion.Message()
        var finishReason: FinishReason?
        var usage: Usage?
        var timings: Timings?
        var seconds = 0.0
        var problem: ClientError?
    }

    /// Can be read, without a byte in it, when the answer has ended.
    let end: Int32
    private let writing: Int32
    private let result = Mutex(Outcome())
    private let task = Mutex<Task<Void, Never>?>(nil)

    init(_ stream: ResponseStream<ChatChunk>) throws {
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else {
            throw InputError("no pipe can be made: \(Console.reason())", code: Failure.software)
        }
        (end, writing) = (ends[0], ends[1])
        task.withLock { task in
            task = Task {
                await receive(stream)
                close(writing)
            }
        }
    }

    deinit { close(end) }

    func cancel() { task.withLock { $0 }?.cancel() }

    /// To be asked for when `end` can be read.
    var outcome: Outcome { result.withLock { $0 } }

    private func receive(_ stream: ResponseStream<ChatChunk>) async {
        var outcome = Outcome()
        var printer = AnswerPrinter()
        let start = ContinuousClock.now
        do {
            for try await chunk in stream {
                outcome.usage = chunk.usage ?? outcome.usage
                outcome.timings = chunk.timings ?? outcome.timings
                guard let choice = chunk.choices.first else { continue }
                outcome.message.append(choice.delta)
                outcome.finishReason = choice.finishReason ?? outcome.finishReason
                if let text = choice.delta.reasoningContent { printer.reasoning(text) }
                if let text = choice.delta.content { printer.content(text) }
            }
        } catch let error as ClientError {
            outcome.problem = error
        } catch {
            // Cancelled: what came is what there is.
        }
        printer.finish()
        outcome.seconds = (ContinuousClock.now - start) / .seconds(1)
        result.withLock { $0 = outcome }
    }
}

/// Prints an answer as it comes. On a terminal, what the model thinks is dimmed, and control characters
/// are replaced: what a model writes must not drive the terminal. Elsewhere the answer goes out as it
/// is, and the thinking does not.
struct AnswerPrinter {
    private let isTerminal = isatty(1) == 1
    private var isDimmed = false
    private var last: Character?

    mutating func reasoning(_ text: String) {
        guard isTerminal, !text.isEmpty else { return }
        if !isDimmed { Console.out("\u{1B}[2m") }
        isDimmed = true
        write(text)
    }

    mutating func content(_ text: String) {
        // What stands between the thinking and the answer is two line ends for most models.
        let text = isDimmed ? String(text.drop(while: \.isNewline)) : text
        if text.isEmpty { return }
        if isDimmed { endReasoning() }
        write(text)
    }

    mutating func finish() {
        if isDimmed { endReasoning() }
        if let last, !last.isNewline { Console.out("\n") }
    }

    private mutating func endReasoning() {
        Console.out("\u{1B}[0m" + (last?.isNewline == false ? "\n\n" : "\n"))
        isDimmed = false
        last = "\n"
    }

    private mutating func write(_ text: String) {
        last = text.last ?? last
        Console.out(isTerminal ? Self.harmless(text) : text)
    }

    /// The text with a replacement character for each control character but line ends and tabs.
    static func harmless(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    switch scalar.value {
                    case 0x09, 0x0A: scalar
                    case 0..<0x20, 0x7F..<0xA0: "\u{FFFD}"
                    default: scalar
                    }
                }))
    }
}
