import Testing

@testable import Profiling

@Suite struct SuperExpertTests {
    private struct Case: Decodable {
        var outputs: [[Float]]
        var found: [[Int]]
    }

    /// The criterion in numpy's own terms, on random matrices; see tools/make_profiling_fixtures.py.
    @Test func theCriterionFindsWhatNumPyFinds() throws {
        let cases = try Fixture.json("super-experts", as: [Case].self)
        #expect(cases.count > 10)
        for (index, example) in cases.enumerated() {
            let found = SuperExpert.detect(in: example.outputs)
            #expect(
                Set(found.map { [$0.layer, $0.expert] }) == Set(example.found), "case \(index)")
            #expect(found.map(\.largestOutput) == found.map(\.largestOutput).sorted(by: >))
        }
    }

    @Test func lateLayersAndEvenOutputsHaveNone() {
        var outputs = [[Float]](repeating: [Float](repeating: 1, count: 300), count: 4)
        #expect(SuperExpert.detect(in: outputs).isEmpty)
        outputs[3][7] = 1000
        #expect(SuperExpert.detect(in: outputs).isEmpty, "layer 3 of 4 is past three quarters")
        outputs[2][7] = 1000
        #expect(
            SuperExpert.detect(in: outputs)
                == [SuperExpert(layer: 2, expert: 7, largestOutput: 1000)])
        #expect(SuperExpert.detect(in: []).isEmpty)
        #expect(SuperExpert.detect(in: [[0, 0]]).isEmpty)
    }

    /// Two of a thousand are above the percentile; one of them is not within ten of the greatest.
    @Test func aTenthOfTheGreatestIsNeeded() {
        var outputs = [[Float]](repeating: [Float](repeating: 1, count: 250), count: 8)
        outputs[0][3] = 500
        outputs[1][4] = 51
        outputs[1][5] = 50
        #expect(SuperExpert.detect(in: outputs).map(\.expert) == [3, 4])
    }
}
