// Ridge regression in double precision, from sums alone.
//
// With the inputs x of a sample extended by a 1 for the bias, the sums G = sum x x^T and
// M = sum x y^T determine the weights W that minimise
//
//     sum ||y - W x||^2 + penalty * ||W without its bias||^2 :     (G + penalty * I') W^T = M,
//
// I' being the unit matrix with 0 in the bias's place. G is symmetric; its lower half is kept, and
// solved by Cholesky's decomposition. Memory is (d + 1)^2 + (d + 1) * e doubles for d inputs and e
// outputs, whatever the number of samples.

/// The sums of a linear regression.
struct NormalEquations {
    let inputs: Int
    let outputs: Int
    private(set) var samples = 0
    /// (inputs + 1, inputs + 1), lower half.
    private var gram: [Double]
    /// (inputs + 1, outputs)
    private var moments: [Double]
    /// (block, inputs + 1): samples as doubles, so that every row of `gram` is touched once a
    /// block.
    private var block: [Double]
    private static let blockSamples = 32

    /// Bytes of the sums.
    static func byteCount(inputs: Int, outputs: Int) -> Int {
        8 * (inputs + 1) * (inputs + 1 + outputs + blockSamples)
    }

    init(inputs: Int, outputs: Int) {
        self.inputs = inputs
        self.outputs = outputs
        gram = [Double](repeating: 0, count: (inputs + 1) * (inputs + 1))
        moments = [Double](repeating: 0, count: (inputs + 1) * outputs)
        block = [Double](repeating: 0, count: NormalEquations.blockSamples * (inputs + 1))
    }

    /// Adds samples: x (samples, inputs), y (samples, outputs).
    mutating func add(x: UnsafePointer<Float>, y: UnsafePointer<Float>, samples count: Int) {
        var first = 0
        while first < count {
            let size = min(NormalEquations.blockSamples, count - first)
            unsafe addBlock(x + first * inputs, y + first * outputs, size)
            first += size
        }
        samples += count
    }

    private mutating func addBlock(
        _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ count: Int
    ) {
        let (inputs, outputs, width) = (inputs, outputs, inputs + 1)
        unsafe block.withUnsafeMutableBufferPointer { rows in
            for sample in 0..<NormalEquations.blockSamples {
                for index in 0..<inputs {
                    // Rows past the last sample are zero, so that four go at a time below.
                    unsafe rows[sample * width + index] =
                        sample < count ? Double(x[sample * inputs + index]) : 0
                }
                unsafe rows[sample * width + inputs] = sample < count ? 1 : 0
            }
        }
        unsafe block.withUnsafeBufferPointer { rows in
            unsafe gram.withUnsafeMutableBufferPointer { gram in
                for row in 0..<width {
                    let sums = unsafe gram.baseAddress! + row * width
                    for sample in stride(from: 0, to: count, by: 4) {
                        let a = unsafe rows.baseAddress! + sample * width
                        let (b, c, d) = unsafe (a + width, a + 2 * width, a + 3 * width)
                        let (fa, fb, fc, fd) = unsafe (a[row], b[row], c[row], d[row])
                        for column in 0...row {
                            unsafe sums[column] +=
                                fa * a[column] + fb * b[column] + fc * c[column] + fd * d[column]
                        }
                    }
                }
            }
            unsafe moments.withUnsafeMutableBufferPointer { moments in
                for row in 0..<width {
                    let sums = unsafe moments.baseAddress! + row * outputs
                    for sample in 0..<count {
                        let factor = unsafe rows[sample * width + row]
                        for output in 0..<outputs {
                            unsafe sums[output] += factor * Double(y[sample * outputs + output])
                        }
                    }
                }
            }
        }
    }

    /// Mean of the inputs' sums of squares: the scale against which a penalty is large or small.
    var scale: Double {
        (0..<inputs).reduce(0) { $0 + gram[$1 * (inputs + 2)] } / Double(inputs)
    }

    /// The weights (outputs, inputs) and bias (outputs) for a penalty; nil where the system cannot
    /// be solved: samples that are not finite, or no penalty and too few samples.
    func solve(penalty: Double) -> (weights: [Double], bias: [Double])? {
        let (outputs, width) = (outputs, inputs + 1)
        var factor = gram
        for index in 0..<inputs { factor[index * (width + 1)] += penalty }
        guard NormalEquations.decompose(&factor, width) else { return nil }
        var solution = moments
        unsafe factor.withUnsafeBufferPointer { factor in
            unsafe solution.withUnsafeMutableBufferPointer { solution in
                let base = solution.baseAddress!
                func subtract(_ scale: Double, _ from: Int, _ to: Int) {
                    let (source, target) = unsafe (base + from * outputs, base + to * outputs)
                    for output in 0..<outputs { unsafe target[output] -= scale * source[output] }
                }
                func divide(_ row: Int) {
                    let pivot = unsafe factor[row * (width + 1)]
                    for output in 0..<outputs { unsafe base[row * outputs + output] /= pivot }
                }
                for row in 0..<width {
                    for column in 0..<row {
                        unsafe subtract(factor[row * width + column], column, row)
                    }
                    divide(row)
                }
                for row in stride(from: width - 1, through: 0, by: -1) {
                    divide(row)
                    for column in 0..<row {
                        unsafe subtract(factor[row * width + column], row, column)
                    }
                }
            }
        }
        var weights = [Double](repeating: 0, count: outputs * inputs)
        for input in 0..<inputs {
            for output in 0..<outputs {
                weights[output * inputs + input] = solution[input * outputs + output]
            }
        }
        let bias = Array(solution[(inputs * outputs)...])
        return (weights + bias).allSatisfy(\.isFinite) ? (weights, bias) : nil
    }

    /// Replaces the lower half of a symmetric matrix by its Cholesky factor; false where it is not
    /// positive definite.
    private static func decompose(_ matrix: inout [Double], _ width: Int) -> Bool {
        unsafe matrix.withUnsafeMutableBufferPointer { matrix in
            for row in 0..<width {
                let r = unsafe matrix.baseAddress! + row * width
                for column in 0...row {
                    let c = unsafe matrix.baseAddress! + column * width
                    let rest = unsafe r[column] - LinearMap.product(r, c, column)
                    if column < row {
                        unsafe r[column] = rest / c[column]
                    } else {
                        guard rest > 0, rest.isFinite else { return false }
                        unsafe r[row] = rest.squareRoot()
                    }
                }
            }
            return true
        }
    }
}
