import Testing

@testable import Inference

@Suite struct RotaryEmbeddingTests {
    @Test func plainAnglesAreTheGeometricSeries() {
        let (angles, magnitude) = RotaryEmbedding(dimensionCount: 8, base: 10_000, scaling: .none)
            .angles(divisors: [])
        #expect(magnitude == 1)
        for (found, expected) in zip(angles, [1, 0.1, 0.01, 0.001]) {
            #expect(abs(found - expected) < 1e-12)
        }
    }

    @Test func linearScalingAndDivisorsDivide() {
        let rotary = RotaryEmbedding(
            dimensionCount: 4, base: 10_000, scaling: .linear(factor: 4))
        let (angles, _) = rotary.angles(divisors: [1, 8])
        #expect(abs(angles[0] - 0.25) < 1e-12 && abs(angles[1] - 0.01 / 32) < 1e-12)
    }

    @Test func yarnAgreesWithTransformers() {
        // ROPE_INIT_FUNCTIONS["yarn"] for head size 16, base 10,000, factor 4, trained for 1,024
        // positions.
        let expected = [
            1.0, 0.3162277638912201, 0.08125000447034836, 0.019764237105846405,
            0.0043750000186264515,
            0.0007905694656074047, 0.0002500000118743628, 7.905694656074047e-05,
        ]
        let rotary = RotaryEmbedding(
            dimensionCount: 16, base: 10_000, scaling: .yarn(.init(factor: 4, trainedContext: 1024))
        )
        let (angles, magnitude) = rotary.angles(divisors: [])
        #expect(abs(magnitude - 1.138629436111989) < 1e-12)
        for (found, wanted) in zip(angles, expected) {
            #expect(abs(found - wanted) < 1e-6 * wanted, "\(angles)")
        }
    }
}
