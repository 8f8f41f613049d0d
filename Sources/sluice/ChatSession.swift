import ArgumentParser
import Glibc
import OpenAIAPI
import SluiceClient

/// A conversation: turns come in, answers go out, and the history grows.
final class ChatSession {
    private let client: SluiceClient
    private let input: ChatInput
    private let showsFigures: Bool
    /// All but the messages.
    private let request: ChatCompletionRequest
    private var system: String?
    /// Questions and their answers, in turn.
    private var history: [ChatMessage] = []
    /// The last question, also one that got no answer.
    private var question: String?

    private var reader = TurnReader()
    /// Ctrl-C was pressed at the prompt, and nothing was typed since.
    private var isLeaving = false
    private var status: Int32 = 0

    init(
        client: SluiceClient, request: ChatCompletionRequest, system: String?, input: ChatInput,
        showsFigures: Bool
    ) {
        self.client = client
        self.request = request
        self.system = system
        self.input = input
        self.showsFigures = showsFigures
    }

    /// Talks until the input ends or the user leaves. Returns the exit status: not 0 where a turn of
    /// a script was not answered, or a signal ended the session.
    func run() throws -> Int32 {
        if input.isTerminal { Console.error("/help lists the commands; Ctrl-D leaves.") }
        while true {
            if input.isTerminal { Console.errorPart(reader.isGathering ? ". " : "> ") }
            switch try input.next() {
            case .line(let line):
                isLeaving = false
                if let turn = reader.take(line), try !perform(turn) { return status }
            case .end:
                if let turn = reader.end() { _ = try perform(turn) }
                if input.isTerminal { Console.error("") }
                return status
            case .signal(let number):
                if interrupted(number) { return status }
            }
        }
    }

    /// A signal at the prompt. Returns whether to leave.
    private func interrupted(_ number: Int32) -> Bool {
        guard number == SIGINT, input.isTerminal else {
            status = 128 + number
            return true
        }
        Console.error("")
        if isLeaving, !reader.isGathering { return true }
        isLeaving = !reader.isGathering
        reader.forget()
        if isLeaving { Console.error("Ctrl-C again, or Ctrl-D, leaves.") }
        return false
    }

    /// Returns whether to go on.
    private func perform(_ turn: TurnReader.Turn) throws -> Bool {
        switch turn {
        case .text(let text): return try ask(text)
        case .command(let name, let argument):
            do {
                return try perform(name, argument)
            } catch let error as InputError {
                fail("\(error)", error.code)
                return true
            }
        }
    }

    // MARK: answers

    /// Asks and prints the answer. Returns whether to go on.
    private func ask(_ text: String) throws -> Bool {
        question = text
        let asked = ChatMessage(role: .user, content: text)
        var request = request
        request.messages =
            (system.map { [ChatMessage(role: .system, content: $0)] } ?? []) + history + [asked]
        let answer = try ChatAnswer(client.streamChat(request))
        var wasCancelled = false
        waiting: while true {
            switch input.wait(for: answer.end) {
            case .readable: break waiting
            case .signal(let number):
                answer.cancel()
                wasCancelled = true
                if number != SIGINT || !input.isTerminal { status = 128 + number }
            }
        }
        let outcome = answer.outcome
        if let problem = outcome.problem { fail("\(problem)", Failure.unavailable) }
        if outcome.message.content?.isEmpty == false {
            history += [asked, outcome.message.asHistory]
        }
        report(outcome, wasCancelled: wasCancelled)
        return !wasCancelled || input.isTerminal && status < 128
    }

    private func report(_ outcome: ChatAnswer.Outcome, wasCancelled: Bool) {
        guard showsFigures else { return }
        var words: [String] = []
        if let usage = outcome.usage {
            words.append("\(usage.completionTokens) tokens")
            if let timings = outcome.timings {
                words.append("\(fixed(timings.predictedPerSecond, 1)) tok/s")
            }
            words.append(
                "prompt \(usage.promptTokens) tokens, \(usage.cachedTokens) of them cached")
        }
        if wasCancelled { words.append("cancelled") }
        if outcome.finishReason == .length { words.append("cut off at the limit of tokens") }
        words.append("\(fixed(outcome.seconds, 1)) s")
        Console.error("[\(words.joined(separator: "; "))]")
    }

    private func fail(_ line: String, _ code: ExitCode) {
        Console.error("sluice: \(line)")
        if !input.isTerminal { status = code.rawValue }
    }

    // MARK: commands

    private static let help = """
        /clear        forget the conversation; the system message stays
        /system TEXT  change the system message; without TEXT, print it
        /retry        ask the last question again
        /save FILE    write the conversation as JSON
        /load FILE    go on with a conversation that was saved
        /exit         leave, as Ctrl-D does
        A line that ends in \\ goes on with the next; text between \"\"\" and \"\"\" may have any number of
        lines, as may what is pasted. A line that begins with // is said with one slash. Ctrl-C ends an answer.
        """

    /// Returns whether to go on.
    private func perform(_ name: String, _ argument: String) throws -> Bool {
        switch name {
        case "/help": Console.error(Self.help)
        case "/clear":
            history = []
            question = nil
        case "/system":
            if argument.isEmpty {
                Console.error(system ?? "There is no system message.")
            } else {
                system = argument
            }
        case "/retry":
            guard let question else { throw InputError("there is no question to ask again") }
            if history.count >= 2, history[history.count - 2].content == question {
                history.removeLast(2)
            }
            return try ask(question)
        case "/save": try save(argument)
        case "/load": try load(argument)
        case "/exit": return false
        default:
            throw InputError(
                "there is no command \(name); /help lists them, and // at a line's start says /")
        }
        return true
    }

    private func save(_ path: String) throws {
        if path.isEmpty { throw InputError("/save needs the name of a file") }
        var request = ChatCompletionRequest(messages: history)
        if let system {
            request.messages.insert(ChatMessage(role: .system, content: system), at: 0)
        }
        try Console.writeFile(path, Array((request.json.text + "\n").utf8))
    }

    private func load(_ path: String) throws {
        if path.isEmpty { throw InputError("/load needs the name of a file") }
        let bytes = try Console.readFile(path)
        do {
            var messages = try ChatCompletionRequest(JSON(body: bytes)).messages
            system = nil
            if messages.first?.role == .system { system = messages.removeFirst().content }
            history = messages
            question = messages.last { $0.role == .user }?.content
        } catch {
            throw InputError("\(path): no saved conversation: \(error)", code: Failure.badData)
        }
    }
}
