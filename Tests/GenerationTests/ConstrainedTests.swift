import Constraints
import ModelFormats
import Testing

@testable import Generation

@Suite struct ConstrainedTests {
    @Test func aTextIsAMemberOfItsConstraint() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 3)
        let cases: [(Constraint, Int)] = [
            (try Constraint(regex: "[a-f]{3}-[0-9]{4}"), 30),
            (try Constraint(regex: "(yes|no|maybe)"), 5),
            (Constraint.jsonObject(), 40),
        ]
        var generations: [(Constraint, Generation)] = []
        for (constraint, tokens) in cases {
            for seed in 0..<4 {
                let request = served.request(served.prompt(seed, count: 10), tokens: tokens) {
                    $0.constraint = constraint
                    $0.sampler.temperature = 1.2
                    $0.sampler.seed = UInt64(seed)
                    $0.ignoresEndOfText = false
                }
                generations.append((constraint, try scheduler.submit(request)))
            }
        }
        for (constraint, generation) in generations {
            let answer = try await Answer(generation)
            #expect(constraint.matches(Array(answer.texts[0].utf8)), "\(answer.texts[0])")
        }
        await scheduler.drain(deadline: 10)
    }

    /// One beside another: the mask of one sequence is not the other's.
    @Test func constraintsDoNotTouchTheirNeighbours() async throws {
        let served = try ServedModel()
        let scheduler = try await served.scheduler(slots: 2)
        let free = served.request(served.prompt(2, count: 12), tokens: 20)
        let held = served.request(served.prompt(2, count: 12), tokens: 20) {
            $0.constraint = try? Constraint(regex: "[xyz]{12}")
        }
        let (first, second) = (try scheduler.submit(held), try scheduler.submit(free))
        let text = try await Answer(first).texts[0]
        #expect(text.count == 12 && text.allSatisfy { "xyz".contains($0) })
        #expect(try await Answer(second).texts[0] == served.alone(free).text)
        await scheduler.drain(deadline: 10)
    }
}
