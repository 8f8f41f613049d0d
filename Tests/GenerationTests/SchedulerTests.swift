import ExpertStreaming
import Inference
import ModelFormats
import Testing

@testable import Generation
@testable import Tokenization

@Suite struct SchedulerTests {
    @Test(arguments: [Float(0), 0.9])
    func togetherAnswersAreTheSameAsAlone(temperature: Float) async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 3)
        // More requests than slots, with prompts of one to several slices.
        let requests = (0..<8).map { index in
            served.request(served.prompt(index + 1, count: 1 + 5 * index), tokens: 9 + index) {
                $0.sampler.temperature = temperature
                $0.sampler.seed = UInt64(index)
                $0.sampler.repetitionPenalty = index % 2 == 0 ? 1 : 1.2
            }
        }
        let generations = try requests.map { try scheduler.submit($0) }
        for (request, generation) in zip(requests, generations) {
            let answer = try await Answer(generation)
            let alone = try served.alone(request)
            #expect(answer.texts[0] == alone.text)
            #expect(answer.usage?.completionTokens == alone.tokens.count)
            #expect(answer.reasons[0] == alone.stopReason)
            #expect(answer.usage?.promptTokens == request.prompt.count)
        }
        await scheduler.drain(deadline: 10)
        #expect(scheduler.state == .stopped)
        let snapshot = scheduler.snapshot()
        #expect(snapshot.finished[.length] == 8 && snapshot.requests == 8)
        #expect(
            snapshot.generatedTokens == UInt64(requests.reduce(0) { $0 + $1.maximumTokens! }))
        #expect(snapshot.promptTokens == UInt64(requests.reduce(0) { $0 + $1.prompt.count }))
    }

    @Test func theSameBeginningIsNotComputedTwice() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 2)
        let first = served.request(served.prompt(3, count: 40), tokens: 10)
        let before = try await Answer(scheduler.submit(first))
        #expect(before.cachedTokens == 0)
        // All but the last token, whose logits are wanted.
        let again = try await Answer(scheduler.submit(first))
        #expect(again.cachedTokens == 39 && again.usage?.cachedTokens == 39)
        #expect(again.texts == before.texts)
        // A turn more: the prompt, what was answered, and something new.
        let tokens = try served.alone(first).tokens
        let next = served.request(
            first.prompt + tokens + served.prompt(9, count: 6), tokens: 10)
        let followed = try await Answer(scheduler.submit(next))
        #expect(followed.cachedTokens == 40 + 9)
        #expect(try followed.texts[0] == served.alone(next).text)
        // Nobody's beginning, where it is not wanted.
        let apart = try await Answer(
            scheduler.submit(served.request(next.prompt) { $0.usesPrefixCache = false }))
        #expect(apart.cachedTokens == 0)
        await scheduler.drain(deadline: 10)
    }

    @Test func aRunningNeighbourLendsItsBeginning() async throws {
        let served = try ServedModel()
        let gate = Gate(steps: 10)
        let scheduler = try await served.scheduler(slots: 2, gate: gate)
        let prompt = served.prompt(5, count: 50)
        let long = try scheduler.submit(served.request(prompt, tokens: nil))
        var iterator = long.makeAsyncIterator()
        while let event = try await iterator.next() {
            if case .text = event { break }
        }
        let other = served.request(Array(prompt[..<30]) + served.prompt(2, count: 10))
        let generation = try scheduler.submit(other)
        gate.open()
        let answer = try await Answer(generation)
        #expect(answer.cachedTokens == 30)
        #expect(try answer.texts[0] == served.alone(other).text)
        await scheduler.drain(deadline: 10)
    }

    @Test func cancellingFreesTheSlotWithinOneToken() async throws {
        let served = try ServedModel()
        let gate = Gate(steps: 5)
        let scheduler = try await served.scheduler(slots: 1, gate: gate)
        let long = try scheduler.submit(served.request(served.prompt(1, count: 4), tokens: nil))
        let waiting = try scheduler.submit(served.request(served.prompt(2, count: 4)))
        var isCancelled = false
        let answer = try await Answer(long) { event in
            if case .text = event, !isCancelled {
                isCancelled = true
                #expect(!scheduler.isIdle && scheduler.snapshot().running == 1)
                long.cancel()
                gate.open()
            }
        }
        #expect(answer.reasons == [.cancelled])
        // The prompt's step gives two, each of the others one, and one may have begun.
        #expect(answer.tokens[0] <= 7)
        _ = try await Answer(waiting)
        await scheduler.drain(deadline: 10)
        #expect(scheduler.isIdle)
    }

    @Test func cancellingEndsALongPromptWithinOneSlice() async throws {
        let served = try ServedModel()
        let gate = Gate(steps: 2)
        let scheduler = try await served.scheduler(slots: 1, gate: gate)
        let long = try scheduler.submit(
            served.request(served.prompt(1, count: 80)) { $0.choices = 3 })
        let answer = try await Answer(long, choices: 3) { event in
            if case .started = event {
                long.cancel()
                gate.open()
            }
        }
        #expect(answer.reasons == [.cancelled, .cancelled, .cancelled])
        #expect(answer.tokens == [0, 0, 0])
        await scheduler.drain(deadline: 10)
        // Slices of 8: the two that were allowed, and one that may have begun.
        #expect(scheduler.snapshot().promptTokens <= 24)
    }

    @Test func whoIsNotListenedToIsCancelled() async throws {
        let served = try ServedModel()
        // No step before the first is gone: how soon that is, is for the machine to say.
        let gate = Gate(steps: 0)
        let scheduler = try await served.scheduler(slots: 1, gate: gate)
        // One that is thrown away, one whose loop is left, one whose task is cancelled.
        _ = try scheduler.submit(served.request([1], tokens: nil))
        gate.allow(20)
        let left = try scheduler.submit(served.request([2], tokens: nil))
        for try await event in left { if case .text = event { break } }
        let task = Task {
            for try await event in try scheduler.submit(served.request([3], tokens: nil)) {
                if case .text = event { unsafe withUnsafeCurrentTask { unsafe $0?.cancel() } }
            }
        }
        gate.allow(20)
        _ = await task.result
        gate.open()
        // Nobody is in the way any more.
        _ = try await Answer(scheduler.submit(served.request([4])))
        await scheduler.drain(deadline: 10)
        let snapshot = scheduler.snapshot()
        #expect(snapshot.running == 0 && snapshot.queued == 0)
        #expect(snapshot.finished == [.cancelled: 3, .length: 1])
    }

    @Test func aFullQueueRefuses() async throws {
        let served = try ServedModel()
        let gate = Gate(steps: 1)
        let scheduler = try await served.scheduler(slots: 1, gate: gate) { $0.queueLimit = 2 }
        let long = try scheduler.submit(served.request([1], tokens: nil))
        var iterator = long.makeAsyncIterator()
        _ = try await iterator.next()
        let waiting = try (0..<2).map { try scheduler.submit(served.request([Int32($0)])) }
        let error = #expect(throws: SchedulingError.self) {
            try scheduler.submit(served.request([7]))
        }
        guard case .queueFull(let seconds)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect((1...120).contains(seconds))
        #expect(scheduler.snapshot().refused == 1)
        gate.open()
        // Whom nobody listens to would have left the queue early.
        withExtendedLifetime(iterator) {}
        for generation in waiting { _ = try await Answer(generation) }
        _ = try await Answer(scheduler.submit(served.request([7])))
        await scheduler.drain(deadline: 10)
    }

    @Test func whatCannotBeAnsweredIsRefusedBeforeAnyWork() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 1)
        func refusal(_ request: GenerationRequest) -> SchedulingError? {
            do throws(SchedulingError) {
                _ = try scheduler.submit(request)
                return nil
            } catch { return error }
        }
        #expect(refusal(served.request([])) == .empty)
        let context = ServedModel.context
        #expect(
            refusal(served.request(served.prompt(1, count: context + 1)))
                == .promptTooLong(tokens: context + 1, context: context))
        let hostile: [(String, (inout GenerationRequest) -> Void)] = [
            ("token -1", { $0.prompt = [-1] }),
            ("token 99999999", { $0.prompt = [1, 99_999_999] }),
            ("bias", { $0.sampler.logitBias = [-5: 1] }),
            ("bias", { $0.sampler.logitBias = [1: .nan] }),
            ("temperature", { $0.sampler.temperature = -1 }),
            ("top logprobs", { $0.topLogprobs = 21 }),
            ("choices", { $0.choices = 0 }),
            ("fewer", { $0.maximumTokens = -1 }),
        ]
        for (part, change) in hostile {
            guard case .invalid(let text)? = refusal(served.request([1], change)) else {
                Issue.record("\(part) was accepted")
                continue
            }
            #expect(text.contains(part), "\(text)")
        }
        await scheduler.drain(deadline: 1)
        #expect(refusal(served.request([1])) == .stopping)
    }

    @Test func aTextEndsWithTheContext() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 1)
        let context = ServedModel.context
        for count in [context, context - 1, context - 7] {
            let request = served.request(served.prompt(2, count: count), tokens: nil)
            let answer = try await Answer(scheduler.submit(request))
            #expect(answer.reasons == [.context])
            // One token more than positions: the last one need not be computed.
            #expect(answer.tokens == [context - count + 1])
        }
        let none = try await Answer(scheduler.submit(served.request([1, 2], tokens: 0)))
        #expect(none.reasons == [.length] && none.tokens == [0] && none.texts == [""])
        await scheduler.drain(deadline: 10)
    }

    @Test(arguments: [1, 2, 4])
    func choicesShareTheirPromptAndDifferByTheirSeeds(slots: Int) async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: slots)
        let request = served.request(served.prompt(4, count: 30), tokens: 14) {
            $0.choices = 3
            $0.sampler.temperature = 1.5
            $0.sampler.topK = 0
            $0.sampler.seed = 11
            $0.usesPrefixCache = false
        }
        let answer = try await Answer(scheduler.submit(request), choices: 3)
        for choice in 0..<3 {
            #expect(try answer.texts[choice] == served.alone(request, choice: choice).text)
        }
        #expect(Set(answer.texts).count == 3)
        #expect(answer.usage?.promptTokens == 30 && answer.usage?.completionTokens == 42)
        // The prompt once, and its last token for the logits of each other choice.
        #expect(scheduler.snapshot().promptTokens == 30 + 2)
        await scheduler.drain(deadline: 10)
    }

    @Test func aStopStringEndsTheTextBeforeIt() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 1)
        // Letters only, so that the text can be compared with its bytes.
        var banned: [Int32: Float] = [:]
        for id in 0..<Int32(served.model.vocabularyCount) {
            let bytes = served.tokenizer.bytes(of: id, renderSpecial: false)
            if bytes.isEmpty || !bytes.allSatisfy({ (97...122).contains($0) }) { banned[id] = -100 }
        }
        let request = served.request(served.prompt(6, count: 8), tokens: 40) {
            $0.sampler.logitBias = banned
            $0.sampler.temperature = 2
            $0.sampler.topK = 0
            $0.sampler.topP = 1
            $0.sampler.minP = 0
        }
        let whole = try served.alone(request).text
        #expect(whole.utf8.allSatisfy { (97...122).contains($0) } && Set(whole).count > 8)
        // Something that is in it, not at its start.
        let stop = String(whole.dropFirst(whole.count / 2).prefix(3))
        var stopping = request
        stopping.stops = [stop]
        stopping.topLogprobs = 0
        let answer = try await Answer(scheduler.submit(stopping))
        let expected = try served.alone(stopping)
        #expect(answer.texts == [expected.text] && answer.reasons == [.stopString])
        #expect(answer.stops == [stop] && !expected.text.contains(stop))
        // Logprobs are told of the tokens that end in the text.
        #expect(answer.logprobs[0].count < answer.tokens[0])
        let spelled = answer.logprobs[0].flatMap(\.bytes)
        #expect(!spelled.isEmpty && Array(expected.text.utf8).starts(with: spelled))
        await scheduler.drain(deadline: 10)
    }

    @Test func drainingFinishesWhatRunsAndRefusesWhatComes() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 1)
        let running = try (0..<3).map {
            try scheduler.submit(served.request([Int32($0), 5], tokens: 30))
        }
        async let drained: Void = scheduler.drain(deadline: 60)
        for generation in running {
            #expect(try await Answer(generation).reasons == [.length])
        }
        await drained
        #expect(scheduler.state == .stopped && scheduler.isIdle)
        #expect(throws: SchedulingError.stopping) { try scheduler.submit(served.request([1])) }
        await #expect(throws: SchedulingError.stopping) { try await scheduler.ready() }
        await #expect(throws: SchedulingError.stopping) { try await scheduler.releaseCache() }
        // Once more does no harm.
        await scheduler.drain(deadline: 0)
    }

    @Test func theDeadlineOfADrainCancels() async throws {
        let served = try ServedModel()
        let gate = Gate(steps: 2)
        let scheduler = try await served.scheduler(slots: 1, gate: gate)
        let running = try scheduler.submit(served.request([1], tokens: nil))
        let waiting = try scheduler.submit(served.request([2], tokens: nil))
        var iterator = running.makeAsyncIterator()
        _ = try await iterator.next()
        async let drained: Void = scheduler.drain(deadline: 0)
        while scheduler.state != .draining { await Task.yield() }
        gate.open()
        #expect(try await Answer(waiting).reasons == [.cancelled])
        await drained
        while scheduler.state != .stopped { await Task.yield() }
        #expect(scheduler.snapshot().finished == [.cancelled: 2])
    }

    @Test func anEngineThatDoesNotGoOnIsNotWaitedForLong() async throws {
        let served = try ServedModel()
        let told = Monitor<[String]>([])
        let scheduler = try await served.scheduler(slots: 1) {
            $0.wedgeAfterTokens = 3
            $0.log = { line in told.withLock { $0.append(line) } }
        }
        let generation = try scheduler.submit(served.request([1], tokens: nil))
        while told.withLock({ $0.allSatisfy { !$0.contains("stops for ever") } }) {
            await Task.yield()
        }
        let beats = scheduler.heartbeat
        await scheduler.drain(deadline: 0)
        #expect(scheduler.state == .draining && scheduler.heartbeat == beats)
        generation.cancel()
    }

    @Test func theCacheCanBeResizedAndReleasedWhileTextsRun() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 2)
        let requests = (0..<6).map {
            served.request(served.prompt($0 + 20, count: 20), tokens: 60)
        }
        let generations = try requests.map { try scheduler.submit($0) }
        let plan = scheduler.snapshot().plan
        try await scheduler.resize(memoryBytes: plan.resizeFloorBytes)
        #expect(scheduler.snapshot().cacheBytes < plan.cacheBytes)
        try await scheduler.resize(memoryBytes: plan.budgetBytes)
        #expect(scheduler.snapshot().cacheBytes == plan.cacheBytes)
        await #expect(throws: EngineError.self) { try await scheduler.resize(memoryBytes: 1) }
        for (request, generation) in zip(requests, generations) {
            #expect(try await Answer(generation).texts[0] == served.alone(request).text)
        }
        try await scheduler.releaseCache()
        let released = scheduler.snapshot()
        #expect(released.isCacheReleased && released.cacheBytes < plan.cacheBytes)
        let answer = try await Answer(scheduler.submit(requests[0]))
        #expect(try answer.texts[0] == served.alone(requests[0]).text)
        #expect(scheduler.snapshot().cacheBytes == plan.cacheBytes)
        await scheduler.drain(deadline: 10)
    }

    @Test func anIdleSchedulerGivesItsCacheBack() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 1) { $0.idleSeconds = 0 }
        _ = try await Answer(scheduler.submit(served.request([1])))
        while !scheduler.snapshot().isCacheReleased { await Task.yield() }
        let beats = scheduler.heartbeat
        _ = try await Answer(scheduler.submit(served.request([2])))
        #expect(scheduler.heartbeat > beats)
        await scheduler.drain(deadline: 10)
    }

    @Test func nothingIsTakenBeforeTheModelIsLoaded() async throws {
        let served = try ServedModel()
        let scheduler = try served.loading(slots: 1)
        if case .loading = scheduler.state {
            // It may be loaded by now, and then it is taken.
            do throws(SchedulingError) {
                _ = try scheduler.submit(served.request([1]))
            } catch { #expect(error == .notReady) }
        }
        try await scheduler.ready()
        #expect(scheduler.state == .ready)
        await scheduler.drain(deadline: 1)
    }

    @Test func anEngineThatCannotBeMadeSaysWhy() async throws {
        let served = try ServedModel()
        let scheduler = try served.loading(slots: 1, options: { $0.instructionSet = "6502" })
        let error = await #expect(throws: SchedulingError.self) { try await scheduler.ready() }
        guard case .failed(let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains("6502"))
        #expect(scheduler.state == .failed(reason))
        #expect(throws: SchedulingError.failed(reason)) {
            try scheduler.submit(served.request([1]))
        }
        await scheduler.drain(deadline: 1)
    }
}
