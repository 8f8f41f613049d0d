import Glibc
import Inference
import ModelFormats
import Testing
import Tokenization

@testable import Generation

@Suite struct LogprobTests {
    /// Log softmax by the definition, of the logits after each of `ids`.
    private func logSoftmax(_ served: ServedModel, _ ids: [Int32]) throws -> [[Double]] {
        let options = served.options(slots: 1)
        var engine = try Engine(
            model: served.model, options: options,
            plan: MemoryPlan(model: served.model, options: options))
        var rows: [[Double]] = []
        try unsafe engine.everyLogit(of: ids) { logits in
            let exact = unsafe logits.map { Double($0) }
            let largest = exact.max()!
            let sum = exact.reduce(0) { $0 + exp($1 - largest) }
            rows.append(exact.map { $0 - largest - log(sum) })
        }
        return rows
    }

    private func check(
        _ found: TokenLogprob, _ row: [Double], _ id: Int32, top: Int, _ served: ServedModel
    ) {
        #expect(found.id == id)
        #expect(abs(Double(found.logprob) - row[Int(id)]) < 1e-5)
        #expect(found.bytes == served.tokenizer.bytes(of: id, renderSpecial: false))
        let ranked = row.indices.sorted { row[$0] > row[$1] || (row[$0] == row[$1] && $0 < $1) }
        #expect(found.top.map { Int($0.id) } == Array(ranked.prefix(top)))
        for one in found.top { #expect(abs(Double(one.logprob) - row[Int(one.id)]) < 1e-5) }
    }

    @Test(arguments: [0, 1, 5, 20])
    func generatedTokensHaveTheModelsOwnLogprobs(top: Int) async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 2)
        // Neither bias nor penalties nor temperature show in them.
        let request = served.request(served.prompt(4, count: 20), tokens: 15) {
            $0.topLogprobs = top
            $0.sampler.temperature = 1.4
            $0.sampler.repetitionPenalty = 1.5
            $0.sampler.logitBias = [3: 5]
        }
        let answer = try await Answer(scheduler.submit(request))
        let tokens = try served.alone(request).tokens
        let rows = try logSoftmax(served, request.prompt + tokens)
        #expect(answer.logprobs[0].count == 15)
        for (index, found) in answer.logprobs[0].enumerated() {
            check(found, rows[19 + index], tokens[index], top: top, served)
        }
        await scheduler.drain(deadline: 10)
    }

    @Test func promptsHaveLogprobsWhateverIsKnownOfThem() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 1)
        let prompt = served.prompt(6, count: 37)
        _ = try await Answer(scheduler.submit(served.request(prompt)))
        let request = served.request(prompt, tokens: 0) {
            $0.echoLogprobs = true
            $0.topLogprobs = 2
        }
        let answer = try await Answer(scheduler.submit(request))
        let rows = try logSoftmax(served, prompt)
        let found = try #require(answer.promptLogprobs)
        #expect(found.count == prompt.count && found[0] == nil && answer.cachedTokens == 0)
        for index in 1..<prompt.count {
            check(try #require(found[index]), rows[index - 1], prompt[index], top: 2, served)
        }
        #expect(answer.tokens == [0] && answer.reasons == [.length])
        await scheduler.drain(deadline: 10)
    }

    @Test func whatIsNoNumberIsNoProblem() throws {
        let served = try ServedModel()
        let spelling = Logprobs(tokenizer: served.tokenizer, rendersSpecial: false)
        func of(_ id: Int32, _ logits: [Float]) -> TokenLogprob {
            unsafe logits.withUnsafeBufferPointer { unsafe spelling.of(id, top: 3, $0) }
        }
        let mixed = of(1, [.nan, 0, -.infinity, 0])
        #expect(abs(mixed.logprob - Float(log(0.5))) < 1e-6)
        #expect(mixed.top.map(\.id) == [1, 3, 2])
        for id in Int32(0)..<3 {
            let value = of(id, [.nan, .infinity, -.infinity]).logprob
            #expect(value.isFinite)
        }
        #expect(of(0, [.nan, .nan]).top.isEmpty)
    }
}
