import CAllocationCounter
import Inference
import ModelFormats
import Synchronization
import Testing
import Tokenization

@testable import Generation

@Suite struct StepAllocationTests {
    /// Allocations of the engine's thread before each step.
    private final class Ledger: Sendable {
        private let counts = Mutex<[UInt64]>([])

        init() { counts.withLock { $0.reserveCapacity(1000) } }

        func note() {
            let count = UInt64(allocations_of_this_thread())
            counts.withLock { $0.append(count) }
        }

        /// Of each step, from one to the next.
        var perStep: [UInt64] {
            counts.withLock { counts in zip(counts.dropFirst(), counts).map { $0 - $1 } }
        }
    }

    /// Sending text allocates, so the model says what has no text: control tokens. Without
    /// optimisation accesses to arrays in a class allocate, so it is not nothing here: but it stays
    /// what it is however long the texts get.
    @Test(
        .enabled(
            if: allocation_counter_works() != 0, "a sanitizer owns malloc, nothing can be counted"))
    func aStepDoesNotAllocateMoreTheLongerTextsAre() async throws {
        let served = try ServedModel()
        let ledger = Ledger()
        let scheduler = try served.loading(
            slots: 3, settings: { $0.beforeStep = { ledger.note() } })
        try await scheduler.ready()
        let control = try #require(served.tokenizer.endOfGeneration.first)
        let request = served.request([1, 2, 3], tokens: 80) {
            $0.sampler.logitBias = [control: 100]
        }
        let generations = try (0..<3).map { _ in try scheduler.submit(request) }
        for generation in generations {
            let answer = try await Answer(generation)
            #expect(answer.texts == [""] && answer.tokens == [80])
        }
        await scheduler.drain(deadline: 10)
        let perStep = ledger.perStep
        #expect(perStep.count >= 80)
        // Beginnings and ends do.
        #expect(
            perStep.count { $0 > 40 } <= 8,
            Comment(rawValue: "allocations by step: \(perStep)"))
    }
}
