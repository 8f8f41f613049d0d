import CKernels
import Testing

@testable import Inference

@Suite struct GatedDeltaNetTests {
    struct RuleCase: Decodable {
        struct Chunk: Decodable {
            let query, key, value, decay, beta, outputs, outputsChunked, state: MixerCases.Numbers
        }
        let name: String
        let keyHeads, valueHeads, keySize, valueSize: Int
        let initialState: MixerCases.Numbers?
        let chunks: [Chunk]
    }

    struct LayerCase: Decodable {
        struct Chunk: Decodable {
            let inputs, outputs, convolutionState, state: MixerCases.Numbers
        }
        let name: String
        let embedding, keyHeads, valueHeads, headSize, taps: Int
        let normEpsilon: Float
        let weights: [String: MixerCases.Numbers]
        let huggingface: [String: MixerCases.Numbers]
        let chunks: [Chunk]
    }

    static func kernels(_ name: String) throws -> Kernels {
        unsafe Kernels(try unsafe #require(unsafe sluice_kernels_named(name)))
    }

    @Test(arguments: InstructionSet.available)
    func theRuleIsTransformers(instructionSet: String) throws {
        let kernels = unsafe try Self.kernels(instructionSet)
        let cases: [RuleCase] = try MixerCases.read("gated-delta-rule")
        #expect(cases.count == 4)
        for one in cases {
            let rule = DeltaRule(keySize: one.keySize, valueSize: one.valueSize)
            let size = one.keySize * one.valueSize
            let state = Floats(
                one.initialState?.values ?? Array(repeating: 0, count: one.valueHeads * size))
            let pair = Floats(repeating: .nan, count: 2 * one.keySize)
            let buffer = Floats(repeating: .nan, count: rule.bufferLength)
            for chunk in one.chunks {
                let outputs = Floats(repeating: .nan, count: chunk.outputs.values.count)
                let (queries, keys) = (Floats(chunk.query.values), Floats(chunk.key.values))
                let values = Floats(chunk.value.values)
                for token in 0..<chunk.query.shape[0] {
                    for head in 0..<one.valueHeads {
                        let keyHead = head / (one.valueHeads / one.keyHeads)
                        let place = (token * one.keyHeads + keyHead) * one.keySize
                        let gate = token * one.valueHeads + head
                        let match = unsafe rule.normalise(
                            query: queries.start + place, key: keys.start + place,
                            into: pair.start, kernels)
                        unsafe rule.step(
                            state.start + head * size, pair: pair.start, match: match,
                            value: values.start + gate * one.valueSize,
                            decay: Float(GateFunctions.exp(Double(chunk.decay.values[gate]))),
                            beta: chunk.beta.values[gate],
                            into: outputs.start + gate * one.valueSize, kernels,
                            buffer: buffer.start)
                    }
                }
                for expected in [chunk.outputs, chunk.outputsChunked] {
                    let difference = MixerCases.difference(outputs.values, expected.values)
                    #expect(difference < 2e-6, "\(one.name)")
                }
                let difference = MixerCases.difference(state.values, chunk.state.values)
                #expect(difference < 2e-6, "\(one.name)")
            }
        }
    }

    /// A layer's weights and the memory of some sequences.
    @safe final class Layer {
        let net: GatedDeltaNet
        private let memory: [Floats]
        private let buffer: Floats
        private let states: [Floats]

        init(
            _ shape: DeltaNetShape, _ columns: DeltaNetColumns, epsilon: Float, kernel: [Float],
            rate: [Float], timeBias: [Float], norm: [Float], sequences: Int = 1
        ) {
            memory =
                [kernel, rate, timeBias, norm].map(Floats.init)
                + [Floats(repeating: 1, count: shape.onesLength)]
            unsafe net = GatedDeltaNet(
                shape: shape, columns: columns,
                convolution: DepthwiseConvolution(
                    taps: shape.taps, channels: shape.channels, kernel: memory[0].start),
                rate: memory[1].start, timeBias: memory[2].start, norm: memory[3].start,
                normEpsilon: epsilon, ones: memory[4].start)
            buffer = Floats(repeating: .nan, count: shape.bufferLength)
            // Whatever was there before position 0 does not matter.
            states = (0..<sequences).map { _ in
                Floats(repeating: .nan, count: shape.stateLength)
            }
        }

        func state(_ sequence: Int = 0) -> [Float] { states[sequence].values }

        /// One token, its groups in the order given.
        func compute(
            _ projected: [Float], gates: [Float], position: Int, sequence: Int = 0,
            groups: [Int]? = nil, _ kernels: Kernels
        ) -> [Float] {
            let shape = unsafe net.shape
            let (row, gates) = (Floats(projected), Floats(gates))
            let output = Floats(repeating: .nan, count: shape.valueWidth)
            let token = unsafe GatedDeltaNet.Token(
                projected: row.start, gates: gates.start, output: output.start,
                position: position, state: states[sequence].start)
            for group in groups ?? Array(0..<shape.keyHeads) {
                unsafe net.compute(group: group, of: token, kernels, buffer: buffer.start)
            }
            return output.values
        }
    }

    /// The whole layer, with its projections in both orders of rows.
    @Test(arguments: InstructionSet.available, [false, true])
    func theLayerIsTransformers(instructionSet: String, byGroup: Bool) throws {
        let kernels = unsafe try Self.kernels(instructionSet)
        let cases: [LayerCase] = try MixerCases.read("gated-delta-net")
        #expect(cases.count == 2)
        for one in cases {
            let shape = DeltaNetShape(
                keyHeads: one.keyHeads, valueHeads: one.valueHeads, keySize: one.headSize,
                valueSize: one.headSize, taps: one.taps)
            func weights(_ name: String) throws -> MixerCases.Numbers {
                try #require(one.weights[name] ?? one.huggingface[name], "\(name)")
            }
            let layer = Layer(
                shape, byGroup ? .byGroup(shape) : .separate(shape), epsilon: one.normEpsilon,
                kernel: try weights("ssm_conv1d").transposed, rate: try weights("ssm_a").values,
                timeBias: try weights("ssm_dt").values, norm: try weights("ssm_norm").values)
            let projections = try (byGroup ? ["in_proj_qkvz"] : ["attn_qkv", "attn_gate"]).map(
                weights)
            var position = 0
            for chunk in one.chunks {
                for token in 0..<chunk.inputs.shape[0] {
                    let row = token * one.embedding..<(token + 1) * one.embedding
                    let input = chunk.inputs.values[row]
                    let mixed = unsafe layer.compute(
                        projections.flatMap { MixerCases.multiply($0, input) },
                        gates: MixerCases.multiply(try weights("ssm_ba"), input),
                        position: position, kernels)
                    let found = MixerCases.multiply(try weights("ssm_out"), mixed[...])
                    // A head's result may be small beside what it is the difference of, and its norm
                    // makes it large again: the reference is 1.9e-5 off in one place itself.
                    #expect(
                        MixerCases.difference(found, chunk.outputs.values[row]) < 2e-5,
                        "\(one.name), position \(position)")
                    position += 1
                }
                let state = layer.state()
                let inputs = MixerCases.ordered(
                    Array(state[..<shape.matrixOffset]), channels: shape.channels, next: position)
                #expect(inputs.count == chunk.convolutionState.values.count)
                #expect(MixerCases.difference(inputs, chunk.convolutionState.values) < 1e-5)
                let matrices = state[shape.matrixOffset...]
                #expect(matrices.count == chunk.state.values.count)
                #expect(MixerCases.difference(matrices, chunk.state.values) < 1e-5)
            }
        }
    }

    /// Sizes that no vector fits, and those of Qwen3-Next.
    @Test(arguments: [
        DeltaNetShape(keyHeads: 3, valueHeads: 6, keySize: 19, valueSize: 21, taps: 4),
        DeltaNetShape(keyHeads: 1, valueHeads: 2, keySize: 128, valueSize: 128, taps: 4),
        DeltaNetShape(keyHeads: 2, valueHeads: 2, keySize: 1, valueSize: 1, taps: 1),
    ])
    func everyInstructionSetAndOrderOfGroupsGivesTheSameBits(shape: DeltaNetShape) throws {
        var random = SeededFloats(shape.channels)
        let kernel = random.array(shape.taps * shape.channels)
        let rate = random.array(shape.valueHeads).map { -abs($0) * 8 }
        let timeBias = random.array(shape.valueHeads)
        let norm = random.array(shape.valueSize)
        let width = shape.channels + shape.valueWidth
        let rows = (0..<9).map { _ in random.array(width).map { $0 * 4 } }
        let gates = (0..<9).map { _ in random.array(2 * shape.valueHeads).map { $0 * 6 } }
        /// The bits of all outputs, then those of the state, with another text beside this one.
        func bits(_ name: String, backwards: Bool, beside: Bool) throws -> [UInt32] {
            let kernels = unsafe try Self.kernels(name)
            let layer = Layer(
                shape, .separate(shape), epsilon: 1e-6, kernel: kernel, rate: rate,
                timeBias: timeBias, norm: norm, sequences: 2)
            let groups = backwards ? Array((0..<shape.keyHeads).reversed()) : nil
            var bits: [UInt32] = []
            for position in rows.indices {
                if beside {
                    _ = unsafe layer.compute(
                        rows[8 - position], gates: gates[position], position: position,
                        sequence: 0, kernels)
                }
                let output = unsafe layer.compute(
                    rows[position], gates: gates[position], position: position, sequence: 1,
                    groups: groups, kernels)
                bits += output.map(\.bitPattern)
            }
            return bits + layer.state(1).map(\.bitPattern)
        }
        let expected = try bits("scalar", backwards: false, beside: false)
        #expect(!expected.contains { Float(bitPattern: $0).isNaN })
        for name in InstructionSet.available {
            #expect(try bits(name, backwards: true, beside: true) == expected, "\(name)")
        }
    }
}
