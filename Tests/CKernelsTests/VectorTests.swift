import CKernels
import Testing

/// The operations on vectors of floats give the bits of the scalar table, whatever the length.
@Suite struct VectorTests {
    private static let tablesAndKinds = Kernels.vectorNames.flatMap { table in
        ActivationKind.allCases.map { (table, $0) }
    }

    /// Runs `operation` with the scalar table and with `table` for every length from 1 to 100.
    /// It gets two inputs and an output of the length in guarded memory.
    private func compare(
        _ table: String, _ kind: ActivationKind,
        _ operation: (
            sluice_kernels, _ n: UInt32, _ a: Region<Float>, _ b: Region<Float>,
            _ out: Region<Float>
        ) -> Void
    ) {
        let buffers = (0..<4).map { _ in GuardedBuffer(capacity: 512) }
        for n in 1...100 {
            var random = Seeded(n)
            let a = buffers[0].last(n, of: Float.self)
            let b = buffers[1].last(n, of: Float.self)
            fillActivations(a, kind, &random)
            fillActivations(b, kind == .mixed ? .mixed : .usual, &random)
            // 16 floats before the output must stay as they are.
            let expected = buffers[2].last(n + 16, of: Float.self)
            let got = buffers[3].last(n + 16, of: Float.self)
            for (kernels, out) in [(Kernels("scalar"), expected), (Kernels(table), got)] {
                out.fill(with: 0.5)
                unsafe operation(kernels.table, UInt32(n), a, b, out.dropFirst(16))
            }
            let found = difference(got, expected)
            #expect(found == nil, "\(table), \(n) elements, \(kind)")
            if found != nil { return }
        }
        withExtendedLifetime(buffers) {}
    }

    @Test(arguments: tablesAndKinds)
    func rmsNormAgrees(table: String, kind: ActivationKind) {
        unsafe compare(table, kind) { kernels, n, x, weight, out in
            unsafe kernels.rms_norm(x.start, weight.start, n, 1e-6, out.start)
        }
        unsafe compare(table, kind) { kernels, n, x, weight, out in
            out.copy(from: x)
            unsafe kernels.rms_norm(out.start, weight.start, n, 1e-6, out.start)
        }
    }

    @Test(arguments: tablesAndKinds)
    func swigluAgrees(table: String, kind: ActivationKind) {
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            unsafe kernels.swiglu(gate.start, up.start, n, out.start)
        }
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            out.copy(from: gate)
            unsafe kernels.swiglu(out.start, up.start, n, out.start)
        }
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            out.copy(from: up)
            unsafe kernels.swiglu(gate.start, out.start, n, out.start)
        }
    }

    @Test(arguments: tablesAndKinds)
    func regluAgrees(table: String, kind: ActivationKind) {
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            unsafe kernels.reglu(gate.start, up.start, n, out.start)
        }
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            out.copy(from: up)
            unsafe kernels.reglu(gate.start, out.start, n, out.start)
        }
    }

    /// A limit of 1 cuts some elements off; 7 is the one of real models.
    @Test(arguments: tablesAndKinds, [1, 7] as [Float])
    func clampedSwigluAgrees(tableAndKind: (String, ActivationKind), limit: Float) {
        let (table, kind) = tableAndKind
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            unsafe kernels.clamped_swiglu(gate.start, up.start, n, 1.702, limit, out.start)
        }
        unsafe compare(table, kind) { kernels, n, gate, up, out in
            out.copy(from: up)
            unsafe kernels.clamped_swiglu(gate.start, out.start, n, 1.702, limit, out.start)
        }
    }

    @Test(arguments: tablesAndKinds)
    func softmaxExpAgrees(table: String, kind: ActivationKind) {
        unsafe compare(table, kind) { kernels, n, x, _, out in
            out.copy(from: x)
            unsafe _ = kernels.softmax_exp(out.start, n)
        }
        // And its sum.
        unsafe compare(table, kind) { kernels, n, x, _, out in
            out.copy(from: x)
            let sum = unsafe kernels.softmax_exp(out.start, n)
            out.fill(with: sum)
        }
    }

    @Test(arguments: tablesAndKinds)
    func addScaledAgrees(table: String, kind: ActivationKind) {
        unsafe compare(table, kind) { kernels, n, x, y, out in
            out.copy(from: y)
            unsafe kernels.add_scaled(x.start, 0.3, n, out.start)
        }
    }

    @Test(arguments: tablesAndKinds)
    func halfPrecisionAgrees(table: String, kind: ActivationKind) {
        let halves = GuardedBuffer(capacity: 200)
        unsafe compare(table, kind) { kernels, n, x, _, out in
            let half = halves.last(Int(n), of: UInt16.self)
            unsafe kernels.to_f16(x.start, n, half.start)
            unsafe kernels.from_f16(half.start, n, out.start)
        }
    }

    @Test(arguments: Kernels.vectorNames, ActivationKind.allCases)
    func quantizersAgreeByteForByte(table: String, kind: ActivationKind) {
        let buffers = (0..<3).map { _ in GuardedBuffer(capacity: 9 * 256 * 4) }
        for (block, format) in [(32, WeightFormat.q8_0), (256, .q4_K)] {
            for blocks in 1...9 {
                var random = Seeded(blocks)
                let n = block * blocks
                let x = buffers[0].last(n, of: Float.self)
                fillActivations(x, kind, &random)
                let expected = buffers[1].last(format.recordBytes(n), of: UInt8.self)
                let got = buffers[2].last(format.recordBytes(n), of: UInt8.self)
                for (kernels, out) in [(Kernels("scalar"), expected), (Kernels(table), got)] {
                    out.fill(with: 0x5a)
                    kernels.quantize(x, format, into: out)
                }
                // A NaN scale is written as one bit pattern, so even those compare as bytes.
                let firstWrong = (0..<got.count).first { got[$0] != expected[$0] }
                #expect(firstWrong == nil, "\(table), \(n) elements, \(kind)")
            }
        }
        withExtendedLifetime(buffers) {}
    }
}
