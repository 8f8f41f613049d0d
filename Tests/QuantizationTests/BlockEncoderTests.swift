// What is encoded is what the `gguf` Python package encodes, or near what was given.

import ModelFormats
import Quantization
import Testing

@Suite struct BlockEncoderTests {
    /// Numbers from -1 to 1 that every language makes alike: 16 bits of a multiplicative hash.
    private func hashed(_ index: Int) -> Float {
        let bits = UInt32(truncatingIfNeeded: UInt64(index) &* 2_654_435_761) >> 16
        return (Float(bits) - 32768) / 32768
    }

    private func bytes(_ hexadecimal: String) -> [UInt8] {
        let digits = hexadecimal.compactMap(\.hexDigitValue)
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(digits[$0] * 16 + digits[$0 + 1])
        }
    }

    /// gguf.quants.quantize of two blocks, the second a quarter as large.
    @Test(arguments: [
        (
            BlockFormat.q4_0,
            "0030e08a24ce68f1ab35df7913bd57f19a34dfa753ca1f86ec42a80e64cb2197fd53b91f"
        ),
        (
            BlockFormat.q8_0,
            "0820811ebd5af99835d47110af4ceb8a27c66302a13edd7a19b855f4922fce6b0aa9ef1748e58222bf5f"
                + "fc9a39d77613b150ee8b2bc86805a242df7f1cba59f79434d171"
        ),
    ]) func blocksAreThoseOfThePythonPackage(format: BlockFormat, expected: String) {
        let values = (0..<64).map { hashed($0) * ($0 < 32 ? 1 : 0.25) }
        #expect(BlockEncoder.encode(format, values) == bytes(expected))
    }

    /// Root of the mean squared error over the values' own.
    private func error(_ format: BlockFormat, _ values: [Float]) -> Double {
        let decoded = BlockDecoder.decode(format, BlockEncoder.encode(format, values))
        #expect(decoded.count == values.count)
        let squares = zip(values, decoded).map { Double($0 - $1) * Double($0 - $1) }
        let weights = values.map { Double($0) * Double($0) }
        return (squares.reduce(0, +) / weights.reduce(0, +)).squareRoot()
    }

    /// Limits a little above what each format's step allows evenly spread weights: step / sqrt(12) over
    /// 1 / sqrt(3), with steps of 2/3, 1/8 and 1/127.
    @Test(arguments: [(BlockFormat.q2_K, 0.36), (.q4_0, 0.075), (.q8_0, 0.0045)])
    func errorsAreThoseOfTheStep(format: BlockFormat, limit: Double) {
        let found = error(format, (0..<4096).map(hashed))
        #expect(found < limit && found > limit / 3, "\(found)")
    }

    /// Four levels, an offset and a sub-block's scale are what Q2_K can say.
    @Test func q2_KKeepsWhatItCanSay() {
        let values = (0..<512).map { index -> Float in
            let (level, block) = (Float(index * 7 % 4), index / 16)
            let scale = Float(1 + block % 15) / 64
            return level * scale - Float(block % 3) / 32
        }
        #expect(error(.q2_K, values) < 0.04)
    }

    @Test(arguments: BlockEncoder.formats)
    func unusualNumbersGiveSoundBlocks(format: BlockFormat) {
        let unusual: [Float] = [
            0, -0.0, .nan, .infinity, -.infinity, .greatestFiniteMagnitude,
            -.greatestFiniteMagnitude, .leastNonzeroMagnitude, 1e-30, 1, -1, 65504, 1e6,
        ]
        for first in unusual {
            for second in unusual {
                let values = (0..<256).map { $0 % 5 == 0 ? first : second }
                let decoded = BlockDecoder.decode(format, BlockEncoder.encode(format, values))
                #expect(decoded.allSatisfy { $0.isFinite }, "\(first) and \(second)")
            }
        }
        #expect(
            BlockDecoder.decode(
                format,
                BlockEncoder.encode(format, [Float](repeating: 0, count: 256))
            ).allSatisfy { $0 == 0 })
    }
}
