import Inference
import ModelFormats
import Synchronization
import Testing

@testable import Generation

/// Models whose sequences have a state: what one slot has can be taken over as it is or not at all.
@Suite struct StatefulTests {
    private let served: ServedModel

    init() throws { served = try ServedModel(path: ServedModel.statefulPaths[1]) }

    @Test func aConversationGoesOnWhereItsStateIs() async throws {
        let scheduler = try await served.scheduler(slots: 2)
        let request = served.request(served.prompt(3, count: 20), tokens: 7)
        let expected = try served.alone(request)
        let first = try await Answer(scheduler.submit(request))
        #expect(first.texts == [expected.text] && first.cachedTokens == 0)
        // The token drawn last has not been computed.
        let text = request.prompt + expected.tokens.dropLast()
        let next = served.request(text + served.prompt(5, count: 9), tokens: 7)
        let second = try await Answer(scheduler.submit(next))
        #expect(second.cachedTokens == text.count)
        #expect(second.texts == [try served.alone(next).text])
        // The second turn without its end, another one in its place, a part of the first turn, and
        // that again: nothing that a state covers.
        for prompt in [
            Array(next.prompt.dropLast()), text.dropLast() + served.prompt(6, count: 4),
            Array(request.prompt[..<11]), request.prompt,
        ] {
            let other = served.request(prompt, tokens: 7)
            let answer = try await Answer(scheduler.submit(other))
            #expect(answer.cachedTokens == 0)
            #expect(answer.texts == [try served.alone(other).text])
        }
        await scheduler.drain(deadline: 60)
    }

    /// Texts of different lengths and with beginnings in common, all at once, more than there are
    /// slots.
    @Test(arguments: [1, 2, 3, 5]) func manyAtOnceAreAnsweredAsAlone(slots: Int) async throws {
        let scheduler = try await served.scheduler(slots: slots)
        let shared = served.prompt(2, count: 17)
        let requests = (0..<8).map { index in
            served.request(
                (index % 2 == 0 ? shared : []) + served.prompt(index, count: 3 + 5 * index),
                tokens: 4 + index)
        }
        // Twice, the second time with what the slots have from the first.
        for _ in 0..<2 {
            let generations = try requests.map { try scheduler.submit($0) }
            for (request, generation) in zip(requests, generations) {
                let answer = try await Answer(generation)
                #expect(answer.texts == [try served.alone(request).text])
            }
        }
        await scheduler.drain(deadline: 60)
    }

    @Test(arguments: [1, 2, 3, 4], [1, 2, 20])
    func choicesAreAnsweredAsAlone(slots: Int, promptLength: Int) async throws {
        let scheduler = try await served.scheduler(slots: slots)
        let request = served.request(served.prompt(3, count: promptLength), tokens: 9) {
            $0.choices = 3
            $0.sampler.temperature = 1.5
            $0.sampler.seed = 11
        }
        let expected = try (0..<3).map { try served.alone(request, choice: $0).text }
        let answer = try await Answer(scheduler.submit(request), choices: 3)
        #expect(answer.texts == expected && answer.cachedTokens == 0)
        let computed = scheduler.snapshot().promptTokens
        if slots >= 3 {
            // The others take over all but the prompt's last token.
            #expect(computed == UInt64(promptLength + 2))
        }
        let again = try await Answer(scheduler.submit(request), choices: 3)
        #expect(again.texts == expected)
        await scheduler.drain(deadline: 60)
    }

    @Test func choicesThatAreCancelledEndOnceEach() async throws {
        // In the step with this number: before, while and after the others are called.
        for step in 1...12 {
            let gate = Gate(steps: 0)
            let running = Mutex<Generation?>(nil)
            let count = Atomic(0)
            let scheduler = try await served.scheduler(slots: 3) {
                $0.beforeStep = {
                    gate.pass()
                    let (_, now) = count.add(1, ordering: .relaxed)
                    if now == step { running.withLock { $0?.cancel() } }
                }
            }
            let generation = try scheduler.submit(
                served.request(served.prompt(1, count: 40), tokens: 30) { $0.choices = 3 })
            running.withLock { $0 = generation }
            gate.open()
            let answer = try await Answer(generation, choices: 3)
            #expect(answer.reasons == [.cancelled, .cancelled, .cancelled])
            // Slots whose text was given up are used again.
            let request = served.request(served.prompt(1, count: 40))
            #expect(
                try await Answer(scheduler.submit(request)).texts == [
                    try served.alone(request).text
                ])
            await scheduler.drain(deadline: 60)
        }
    }

    @Test func logprobsOfThePromptComeWithEveryChoice() async throws {
        let scheduler = try await served.scheduler(slots: 3)
        let request = served.request(served.prompt(4, count: 19), tokens: 5) {
            $0.choices = 3
            $0.echoLogprobs = true
            $0.topLogprobs = 1
        }
        let expected = try served.alone(request).text
        let answer = try await Answer(scheduler.submit(request), choices: 3)
        #expect(answer.texts == [expected, expected, expected])
        #expect(answer.promptLogprobs?.count == 19)
        await scheduler.drain(deadline: 60)
    }
}
