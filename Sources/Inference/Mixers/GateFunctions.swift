/// exp, the logistic function and softplus, the same bits on every machine.
///
/// The mathematics library's functions may differ by a unit in the last place from one machine to
/// the next, so these are made of additions, multiplications and divisions of doubles, each rounded
/// to nearest even, in the order written here. They are for the few gates that a head has per token;
/// vectors use the kernels' exp. Relative errors stay below 1e-14, so rounded to `Float` they are
/// the nearest one but for rare ties.
enum GateFunctions {
    /// e to the power x, for x up to 700 in magnitude: beyond, what it is there (1e304, or 1e-304).
    /// NaN gives NaN.
    ///
    /// x = k ln 2 + r with |r| <= ln 2 / 2; Taylor's series of exp(r) ends with r^13 / 13!, below
    /// which 2e-17 is left.
    static func exp(_ x: Double) -> Double {
        guard x == x else { return x }
        let x = min(max(x, -700), 700)
        // Adding 1.5 * 2^52 rounds to an integer, to nearest even.
        let shift = 6_755_399_441_055_744.0
        let k = (x * 1.4426950408889634 + shift) - shift
        // ln 2 in two parts, of which the first has so few bits that k times it is exact.
        let r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
        var sum = 1.0
        var factor = 13.0
        while factor >= 1 {
            sum = 1 + r / factor * sum
            factor -= 1
        }
        return sum * Double(bitPattern: UInt64(1023 + Int(k)) << 52)
    }

    /// 1 / (1 + exp(-x)).
    static func sigmoid(_ x: Float) -> Float { Float(1 / (1 + exp(-Double(x)))) }

    /// log(1 + exp(x)) = max(x, 0) + log(1 + u) with u = exp(-|x|).
    ///
    /// log(1 + u) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = u / (2 + u) <= 1 / 3; after s^31 / 31
    /// less than 1e-16 of it is left.
    static func softplus(_ x: Float) -> Float {
        let x = Double(x)
        let u = exp(-abs(x))
        let s = u / (2 + u)
        let square = s * s
        var sum = 0.0
        var power = 31.0
        while power >= 1 {
            sum = sum * square + 1 / power
            power -= 2
        }
        return Float((x > 0 ? x : 0) + 2 * s * sum)
    }
}
