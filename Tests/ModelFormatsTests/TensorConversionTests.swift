// Conversions one by one, against the same written as plainly as can be; in blocks of any size.

import Testing

@testable import ModelFormats

@Suite struct TensorConversionTests {
    private struct Memory: ConversionOutput {
        var bytes: [UInt8]
        var chunks = 0

        mutating func write(_ chunk: [UInt8], at offset: Int) {
            bytes.replaceSubrange(offset..<offset + chunk.count, with: chunk)
            chunks += 1
        }
    }

    private func run(
        _ kind: TensorConversion.Kind, _ sources: [[UInt8]], outputs: [Int], blockBytes: Int
    ) throws -> (outputs: [[UInt8]], chunks: Int) {
        // One after the other in a file, with something in front.
        var file: [UInt8] = [1, 2, 3]
        var places: [TensorSource] = []
        for source in sources {
            places.append(
                TensorSource(fileIndex: 0, offset: file.count, byteCount: source.count))
            file += source
        }
        var start = 5
        var outputPlaces: [(offset: Int, byteCount: Int)] = []
        for count in outputs {
            outputPlaces.append((start, count))
            start += count + 7
        }
        var memory = Memory(bytes: [UInt8](repeating: 0xEE, count: start))
        try TensorConversion(kind: kind, sources: places, outputs: outputPlaces).run(
            from: [MemorySource(path: "file", bytes: file)], into: &memory, blockBytes: blockBytes)
        let results = outputPlaces.map { Array(memory.bytes[$0.offset..<$0.offset + $0.byteCount]) }
        // Nothing but the outputs was touched.
        var rest = memory.bytes
        for place in outputPlaces.reversed() {
            rest.removeSubrange(place.offset..<place.offset + place.byteCount)
        }
        #expect(rest.allSatisfy { $0 == 0xEE })
        return (results, memory.chunks)
    }

    private func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    static let blocks = [1, 24, 100, 8 << 20]

    @Test(arguments: blocks)
    func rowsComeInAnyOrder(blockBytes: Int) throws {
        let source = bytes(30 * 6, seed: 1)
        let orders: [(count: Int, row: @Sendable (Int) -> Int)] = [
            (30, { 29 - $0 }), (30, { $0 % 2 * 15 + $0 / 2 }), (7, { $0 * 4 + 1 }),
        ]
        for order in orders {
            let count = order.count
            let (outputs, chunks) = try run(
                .rows(rowBytes: 6, sourceRow: order.row), [source], outputs: [count * 6],
                blockBytes: blockBytes)
            #expect(outputs[0] == (0..<count).flatMap { source[(order.row($0) * 6)...].prefix(6) })
            if blockBytes < 6 { #expect(chunks == count) }
        }
    }

    @Test(arguments: blocks, [2, 4])
    func matricesAreTransposed(blockBytes: Int, elementBytes: Int) throws {
        let (matrices, rows, columns) = (3, 5, 8)
        let source = bytes(matrices * rows * columns * elementBytes, seed: 2)
        for parts in [1, 2] {
            let (outputs, _) = try run(
                .transposed(rows: rows, columns: columns, elementBytes: elementBytes), [source],
                outputs: [Int](repeating: source.count / parts, count: parts),
                blockBytes: blockBytes)
            for part in 0..<parts {
                var expected: [UInt8] = []
                for matrix in 0..<matrices {
                    for column in stride(from: part, to: columns, by: parts) {
                        for row in 0..<rows {
                            let element = (matrix * rows + row) * columns + column
                            expected += source[(element * elementBytes)...].prefix(elementBytes)
                        }
                    }
                }
                #expect(outputs[part] == expected)
            }
        }
    }

    /// Element by element, as transformers unpacks them and as ggml does.
    @Test(arguments: blocks)
    func microscalingKeepsEveryElement(blockBytes: Int) throws {
        let (rows, blocksPerRow) = (6, 2)
        let elements = bytes(rows * blocksPerRow * 16, seed: 3)
        let scales = bytes(rows * blocksPerRow, seed: 4)
        for parts in [1, 2] {
            let (outputs, _) = try run(
                .microscaling(rows: rows, blocksPerRow: blocksPerRow), [elements, scales],
                outputs: [Int](repeating: rows / parts * blocksPerRow * 17, count: parts),
                blockBytes: blockBytes)
            for row in 0..<rows {
                for column in 0..<blocksPerRow * 32 {
                    // Two neighbours in a byte, the first in its low half.
                    let byte = elements[row * blocksPerRow * 16 + column / 2]
                    let expected = column % 2 == 0 ? byte & 15 : byte >> 4
                    let block = (row / parts * blocksPerRow + column / 32) * 17
                    let place = column % 32
                    let found = outputs[row % parts][block + 1 + place % 16]
                    #expect((place < 16 ? found & 15 : found >> 4) == expected)
                    #expect(
                        outputs[row % parts][block] == scales[row * blocksPerRow + column / 32])
                }
            }
        }
    }

    @Test(arguments: blocks)
    func numbersAreWidenedAndChanged(blockBytes: Int) throws {
        // 1, -2.5 and a subnormal, as each format has them.
        let stored: [(BlockFormat, [UInt8], [Float])] = [
            (.f32, [0, 0, 0x80, 0x3F, 0, 0, 0x20, 0xC0, 1, 0, 0, 0], [1, -2.5, 0x1p-149]),
            (.f16, [0, 0x3C, 0, 0xC1, 1, 0], [1, -2.5, 0x1p-24]),
            (.bf16, [0x80, 0x3F, 0x20, 0xC0, 1, 0], [1, -2.5, 0x1p-133]),
        ]
        for (format, source, values) in stored {
            for (change, expected) in [
                (.none, values), (.plusOne, values.map { $0 + 1 }),
                (.negativeExponential, [-2.7182817, -0.082085, -1]),
            ] as [(TensorConversion.ElementChange, [Float])] {
                let (outputs, _) = try run(
                    .numbers(format, change), [source], outputs: [12],
                    blockBytes: max(4, blockBytes))
                let found = (0..<3).map { index in
                    Float(
                        bitPattern: (0..<4).reduce(0) {
                            $0 | UInt32(outputs[0][index * 4 + $1]) << UInt32(8 * $1)
                        })
                }
                for (number, wanted) in zip(found, expected) {
                    #expect(abs(number - wanted) <= 1e-6 * abs(wanted), "\(format) \(change)")
                }
            }
        }
    }

    @Test func valuesAreWrittenAsTheyAre() throws {
        let (outputs, _) = try run(.values([1, -2.5]), [], outputs: [8], blockBytes: 1)
        #expect(outputs[0] == [0, 0, 0x80, 0x3F, 0, 0, 0x20, 0xC0])
    }

    @Test func sizesAreWordsForPeople() {
        #expect(byteText(999) == "999 bytes")
        #expect(byteText(1_950_000) == "2.0 MB")
        #expect(byteText(12_340_000_000) == "12.3 GB")
    }
}
