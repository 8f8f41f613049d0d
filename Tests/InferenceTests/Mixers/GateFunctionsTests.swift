import Glibc
import Testing

@testable import Inference

@Suite struct GateFunctionsTests {
    @Test func expIsTheMathematicsLibrarysToFourteenDigits() {
        for step in -70_000...70_000 {
            let x = Double(step) / 101
            guard abs(x) <= 700 else { continue }
            let (found, expected) = (GateFunctions.exp(x), Glibc.exp(x))
            #expect(abs(found - expected) <= 1e-14 * expected, "\(x)")
        }
    }

    @Test func softplusAndSigmoidAreTheNearestFloat() {
        for step in -20_000...20_000 {
            let x = Float(step) / 301
            let softplus = Float(max(Double(x), 0) + log1p(Glibc.exp(-abs(Double(x)))))
            #expect(abs(GateFunctions.softplus(x) - softplus) <= softplus.ulp, "\(x)")
            let sigmoid = Float(1 / (1 + Glibc.exp(-Double(x))))
            #expect(abs(GateFunctions.sigmoid(x) - sigmoid) <= sigmoid.ulp, "\(x)")
        }
    }

    @Test func theEndsAreLimitsAndNotANumberStays() {
        #expect(GateFunctions.exp(0) == 1 && GateFunctions.softplus(0) == Float(log(2.0)))
        #expect(GateFunctions.exp(-.infinity) < 1e-303 && GateFunctions.exp(.infinity) > 1e303)
        #expect(GateFunctions.exp(-.greatestFiniteMagnitude) == GateFunctions.exp(-700))
        #expect(GateFunctions.sigmoid(-.infinity) == 0 && GateFunctions.sigmoid(.infinity) == 1)
        #expect(GateFunctions.softplus(-.infinity) == 0)
        #expect(GateFunctions.softplus(.infinity) == .infinity)
        #expect(GateFunctions.softplus(1000) == 1000)
        #expect(GateFunctions.exp(.nan).isNaN && GateFunctions.sigmoid(.nan).isNaN)
        #expect(GateFunctions.softplus(.nan).isNaN)
    }

    /// The same constants on every machine: what makes a model's answer the same.
    @Test func theBitsAreTheseEverywhere() {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for step in -3000...3000 {
            let x = Float(step) / 97
            for bits in [
                GateFunctions.exp(Double(x)).bitPattern,
                UInt64(GateFunctions.sigmoid(x).bitPattern),
                UInt64(GateFunctions.softplus(x).bitPattern),
            ] {
                hash = (hash ^ bits) &* 0x100_0000_01B3
            }
        }
        #expect(hash == 996_263_961_405_994_448)
    }
}
