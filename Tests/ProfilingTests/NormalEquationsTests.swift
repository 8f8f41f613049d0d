import Testing

@testable import Profiling

@Suite struct NormalEquationsTests {
    private struct Case: Decodable {
        var samples: Int
        var inputs: Int
        var outputs: Int
        var penalty: Double
        var x: [Float]
        var y: [Float]
        var weights: [Double]
        var bias: [Double]
    }

    /// NumPy's least squares on the augmented system; see tools/make_profiling_fixtures.py.
    @Test func ridgeRegressionIsNumPys() throws {
        let cases = try Fixture.json("ridge", as: [Case].self)
        #expect(cases.count == 3)
        for example in cases {
            var equations = NormalEquations(inputs: example.inputs, outputs: example.outputs)
            // In uneven pieces: sums do not depend on how samples come, but for rounding.
            var first = 0
            for size in [1, 5, 2, 100] {
                let count = min(size, example.samples - first)
                unsafe example.x.withUnsafeBufferPointer { x in
                    unsafe example.y.withUnsafeBufferPointer { y in
                        unsafe equations.add(
                            x: x.baseAddress! + first * example.inputs,
                            y: y.baseAddress! + first * example.outputs, samples: count)
                    }
                }
                first += count
            }
            #expect(equations.samples == example.samples)
            let solution = try #require(equations.solve(penalty: example.penalty))
            for (found, wanted) in zip(
                solution.weights + solution.bias, example.weights + example.bias)
            {
                #expect(abs(found - wanted) < 1e-8 * max(1, abs(wanted)))
            }
        }
    }

    @Test func whatCannotBeSolvedIsSaid() {
        func equations(_ x: [Float]) -> NormalEquations {
            var equations = NormalEquations(inputs: 2, outputs: 1)
            unsafe x.withUnsafeBufferPointer { x in
                unsafe equations.add(x: x.baseAddress!, y: [1, 2], samples: 2)
            }
            return equations
        }
        #expect(equations([1, 2, 2, 4]).solve(penalty: 0) == nil, "two columns alike")
        #expect(equations([1, 2, 2, 4]).solve(penalty: 0.1) != nil)
        #expect(equations([1, .nan, 2, 4]).solve(penalty: 0.1) == nil)
        #expect(equations([1, .infinity, 2, 4]).solve(penalty: 0.1) == nil)
    }
}
