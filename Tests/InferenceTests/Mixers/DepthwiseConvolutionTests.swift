import Testing

@testable import Inference

@Suite struct DepthwiseConvolutionTests {
    struct Case: Decodable {
        struct Chunk: Decodable {
            let inputs, outputs, state: MixerCases.Numbers
        }
        let name: String
        let channels: Int
        let taps: Int
        let weights: [String: MixerCases.Numbers]
        let chunks: [Chunk]
    }

    @Test func theGatedConvolutionIsTransformers() throws {
        let cases: [Case] = try MixerCases.read("short-convolution")
        #expect(cases.count == 4)
        for one in cases {
            let channels = one.channels
            let input = try #require(one.weights["shortconv.in_proj"])
            let output = try #require(one.weights["shortconv.out_proj"])
            let kernel = Floats(try #require(one.weights["shortconv.conv"]).transposed)
            // Whatever was there before position 0 does not matter.
            let state = Floats(
                repeating: .nan,
                count: unsafe DepthwiseConvolution.stateLength(taps: one.taps, channels: channels))
            let convolution = unsafe DepthwiseConvolution(
                taps: one.taps, channels: channels, kernel: kernel.start)
            var position = 0
            for chunk in one.chunks {
                for token in 0..<chunk.inputs.shape[0] {
                    let row = token * channels..<(token + 1) * channels
                    let gates = Floats(MixerCases.multiply(input, chunk.inputs.values[row]))
                    let mixed = Floats(repeating: .nan, count: channels)
                    // In two parts, as two workers would.
                    for part in [channels / 2..<channels, 0..<channels / 2] {
                        unsafe convolution.convolveGated(
                            gates.start, channels: part, position: position, state: state.start,
                            into: mixed.start)
                    }
                    let found = MixerCases.multiply(output, mixed.values[...])
                    #expect(
                        MixerCases.difference(found, chunk.outputs.values[row]) < 1e-6,
                        "\(one.name), position \(position)")
                    position += 1
                }
                let kept = MixerCases.ordered(state.values, channels: channels, next: position)
                #expect(kept.count == chunk.state.values.count)
                #expect(MixerCases.difference(kept, chunk.state.values) < 1e-6, "\(one.name)")
            }
        }
    }

    /// The sum as it is written in the definition, over all inputs at once.
    @Test(arguments: 1...5)
    func theSumIsTakenFromTheOldestInput(taps: Int) {
        let (channels, positions) = (19, 12)
        var random = SeededFloats(taps)
        let kernel = Floats(random.array(taps * channels))
        let inputs = random.array(positions * channels)
        let state = Floats(
            repeating: .infinity,
            count: unsafe DepthwiseConvolution.stateLength(taps: taps, channels: channels))
        let convolution = unsafe DepthwiseConvolution(
            taps: taps, channels: channels, kernel: kernel.start)
        for position in 0..<positions {
            let row = Floats(Array(inputs[(position * channels)..<((position + 1) * channels)]))
            unsafe convolution.convolve(
                row.start, channels: 0..<channels, position: position, state: state.start)
            let x = row.values
            for channel in 0..<channels {
                var sum: Float?
                for tap in 0..<taps {
                    let place = position - taps + 1 + tap
                    let input = place < 0 ? 0 : inputs[place * channels + channel]
                    let product = kernel.values[tap * channels + channel] * input
                    sum = sum.map { $0 + product } ?? product
                }
                #expect(x[channel] == sum, "position \(position), channel \(channel)")
            }
        }
    }
}
