// What blocks mean, bit for bit.

import ModelFormats
import Quantization
import Testing

@Suite struct BlockDecoderTests {
    @Test(arguments: BlockFormat.allCases)
    func bitsAreThoseOfThePythonPackage(_ format: BlockFormat) throws {
        let fixture = try BlockFixture(format)
        let decoded = BlockDecoder.decode(format, fixture.blocks)
        #expect(decoded.count == fixture.expected.count)
        #expect(!decoded.isEmpty)
        for (index, (found, expected)) in zip(decoded, fixture.expected).enumerated()
        where !sameBits(found, expected) {
            let block = index / format.elementsPerBlock
            Issue.record(
                """
                \(format.name) block \(block) element \(index % format.elementsPerBlock): \
                \(found), expected \(expected)
                """)
            return
        }
    }

    @Test(arguments: BlockFormat.allCases)
    func decodingNeedsNoAlignmentAndKeepsToItsElements(_ format: BlockFormat) throws {
        let fixture = try BlockFixture(format)
        // One byte off any alignment, one block less than there is, and a float on either side.
        let blocks = fixture.blocks.count / format.bytesPerBlock - 1
        let elements = blocks * format.elementsPerBlock
        let shifted = [0xFF] + fixture.blocks
        let untouched = Float(-12345.5)
        var output = [Float](repeating: untouched, count: elements + 2)
        unsafe shifted.withUnsafeBytes { source in
            unsafe output.withUnsafeMutableBufferPointer { output in
                unsafe BlockDecoder.decode(
                    format, from: source.baseAddress! + 1, elements: elements,
                    into: output.baseAddress! + 1)
            }
        }
        #expect(output.first == untouched)
        #expect(output.last == untouched)
        let same = zip(output.dropFirst(), fixture.expected.prefix(elements)).allSatisfy(sameBits)
        #expect(same)
    }

    @Test func everyHalfWidensAsTheLanguageWidensIt() {
        #if !(os(macOS) && arch(x86_64))
            let wrong = (UInt16.min...UInt16.max).first {
                !sameBits(Float(halfBits: $0), Float(Float16(bitPattern: $0)))
            }
            #expect(wrong == nil)
        #endif
    }

    @Test func everyBrainFloatIsTheUpperHalfOfAFloat() {
        let wrong = (UInt16.min...UInt16.max).first {
            Float(bfloat16Bits: $0).bitPattern != UInt32($0) << 16
        }
        #expect(wrong == nil)
    }

    @Test func noBlocksDecodeToNothing() {
        for format in BlockFormat.allCases {
            #expect(BlockDecoder.decode(format, []).isEmpty)
        }
    }
}

/// Whether two floats are the same to the bit, or both not a number: which NaN is the hardware's choice.
private func sameBits(_ a: Float, _ b: Float) -> Bool {
    a.bitPattern == b.bitPattern || a.isNaN && b.isNaN
}
