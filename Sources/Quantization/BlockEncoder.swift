// Floats to blocks: the coarse versions of experts whose own format cannot be cut into planes.
//
// Q4_0 and Q8_0 give the bytes of the `gguf` Python package. Q2_K follows the search of ggml's
// make_qkx2_quants, weighing all elements alike. Weights that are not finite are taken as 0.

public import ModelFormats

/// Encodes rows of weights.
public enum BlockEncoder {
    /// The formats that can be written.
    public static let formats: [BlockFormat] = [.q2_K, .q4_0, .q8_0]

    /// The blocks of `values`, a whole number of them, in one of `formats`.
    public static func encode(_ format: BlockFormat, _ values: [Float]) -> [UInt8] {
        precondition(
            values.count % format.elementsPerBlock == 0,
            "\(values.count) elements do not fill blocks of \(format.name)")
        var bytes: [UInt8] = []
        bytes.reserveCapacity(format.byteCount(elements: values.count))
        for start in stride(from: 0, to: values.count, by: format.elementsPerBlock) {
            let block = values[start..<start + format.elementsPerBlock].map {
                $0.isFinite ? $0 : 0
            }
            switch format {
            case .q4_0: encodeQ4_0(block, into: &bytes)
            case .q8_0: encodeQ8_0(block, into: &bytes)
            case .q2_K: encodeQ2_K(block, into: &bytes)
            default: preconditionFailure("\(format.name) cannot be written")
            }
        }
        return bytes
    }

    // The element of largest magnitude becomes -8: on its side there is one integer more.
    private static func encodeQ4_0(_ block: [Float], into bytes: inout [UInt8]) {
        var largest: Float = 0
        for value in block where value.magnitude > largest.magnitude { largest = value }
        let d = largest / -8
        let inverse = d == 0 ? 0 : 1 / d
        append(d, to: &bytes)
        let q = block.map { UInt8(min(15, max(0, ($0 * inverse + 8.5).rounded(.towardZero)))) }
        for i in 0..<16 { bytes.append(q[i] | q[i + 16] << 4) }
    }

    private static func encodeQ8_0(_ block: [Float], into bytes: inout [UInt8]) {
        let d = (block.map(\.magnitude).max() ?? 0) / 127
        let inverse = d == 0 ? 0 : 1 / d
        append(d, to: &bytes)
        for value in block {
            // Ties away from zero, as C's roundf.
            let q = (value * inverse).rounded(.toNearestOrAwayFromZero)
            bytes.append(UInt8(bitPattern: Int8(min(127, max(-127, q)))))
        }
    }

    // Layout: see decodeQ2_K.
    private static func encodeQ2_K(_ block: [Float], into bytes: inout [UInt8]) {
        let fits = (0..<16).map { fit(block[(16 * $0)..<(16 * $0 + 16)]) }
        let d = representable((fits.map(\.scale).max() ?? 0) / 15)
        let dmin = representable((fits.map(\.minimum).max() ?? 0) / 15)
        func level(_ value: Float, _ unit: Float) -> UInt8 {
            unit == 0 ? 0 : UInt8(min(15, max(0, (value / unit).rounded())))
        }
        var q = [UInt8](repeating: 0, count: 256)
        for (j, fit) in fits.enumerated() {
            let (scaleLevel, minimumLevel) = (level(fit.scale, d), level(fit.minimum, dmin))
            bytes.append(scaleLevel | minimumLevel << 4)
            // Chosen anew: the scales have been rounded.
            let (scale, minimum) = (d * Float(scaleLevel), dmin * Float(minimumLevel))
            for i in 0..<16 {
                q[16 * j + i] = quantised(block[16 * j + i], scale, minimum)
            }
        }
        for half in [0, 128] {
            for i in 0..<32 {
                bytes.append(
                    q[half + i] | q[half + 32 + i] << 2 | q[half + 64 + i] << 4
                        | q[half + 96 + i] << 6)
            }
        }
        append(d, to: &bytes)
        append(dmin, to: &bytes)
    }

    /// The scale and the minimum, both at least 0, with which 0 ... 3 come nearest to 16 weights:
    /// scale q - minimum, in the sense of least squares.
    private static func fit(_ values: ArraySlice<Float>) -> (scale: Float, minimum: Float) {
        let low = min(0, values.min() ?? 0)
        let high = values.max() ?? 0
        guard high > low else { return (0, -low) }
        var best = (scale: (high - low) / 3, minimum: -low)
        var bestError = squaredError(values, best.scale, best.minimum)
        // Levels spread over a little more or less than the range, each with the line fitted to them.
        for step in 0...15 {
            let inverse = (2.5 + 0.1 * Float(step)) / (high - low)
            var (sumQ, sumQQ, sumX, sumQX) = (Float(0), Float(0), Float(0), Float(0))
            for value in values {
                let q = min(3, max(0, ((value - low) * inverse).rounded()))
                sumQ += q
                sumQQ += q * q
                sumX += value
                sumQX += q * value
            }
            let determinant = 16 * sumQQ - sumQ * sumQ
            guard determinant > 0 else { continue }
            var scale = (16 * sumQX - sumQ * sumX) / determinant
            var minimum = (sumQ * sumQX - sumQQ * sumX) / determinant
            if minimum < 0 {
                minimum = 0
                scale = sumQX / sumQQ
            }
            guard scale > 0, scale.isFinite, minimum.isFinite else { continue }
            let error = squaredError(values, scale, minimum)
            if error < bestError { (best, bestError) = ((scale, minimum), error) }
        }
        return best
    }

    private static func squaredError(
        _ values: ArraySlice<Float>, _ scale: Float, _ minimum: Float
    ) -> Float {
        values.reduce(0) { sum, value in
            let error = scale * Float(quantised(value, scale, minimum)) - minimum - value
            return sum + error * error
        }
    }

    private static func quantised(_ value: Float, _ scale: Float, _ minimum: Float) -> UInt8 {
        let q = scale == 0 ? 0 : (value + minimum) / scale
        return UInt8(min(3, max(0, q.isFinite ? q.rounded() : 0)))
    }

    /// `value` as half precision can say it.
    private static func representable(_ value: Float) -> Float {
        Float(Float16(min(value, Float(Float16.greatestFiniteMagnitude))))
    }

    private static func append(_ value: Float, to bytes: inout [UInt8]) {
        let largest = Float(Float16.greatestFiniteMagnitude)
        let bits = Float16(min(largest, max(-largest, value))).bitPattern
        bytes.append(UInt8(truncatingIfNeeded: bits))
        bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
    }
}
