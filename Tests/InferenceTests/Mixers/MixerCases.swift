import Foundation
import Testing

@testable import Inference

/// The vectors that tools/make_mixer_fixtures.py takes from transformers: sequences in chunks, with
/// the state after each.
enum MixerCases {
    /// Row-major.
    struct Numbers: Decodable {
        let shape: [Int]
        let values: [Float]

        /// The same as (columns, rows).
        var transposed: [Float] {
            (0..<shape[1]).flatMap { column in
                (0..<shape[0]).map { values[$0 * shape[1] + column] }
            }
        }
    }

    private struct File<Case: Decodable>: Decodable { let cases: [Case] }

    static func read<Case: Decodable>(_ name: String) throws -> [Case] {
        let path = Fixture.path("../mixers/\(name).json")
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        return try JSONDecoder().decode(File<Case>.self, from: data).cases
    }

    /// weights (rows, columns) times x (columns).
    static func multiply(_ weights: Numbers, _ x: ArraySlice<Float>) -> [Float] {
        let columns = weights.shape[1]
        return (0..<weights.shape[0]).map { row in
            var sum = 0.0
            for (index, value) in x.enumerated() {
                sum += Double(weights.values[row * columns + index]) * Double(value)
            }
            return Float(sum)
        }
    }

    /// The largest difference, relative to the larger of 1 and the expected number.
    static func difference(_ found: some Sequence<Float>, _ expected: some Sequence<Float>) -> Float
    {
        zip(found, expected).reduce(0) {
            max($0, abs($1.0 - $1.1) / max(1, abs($1.1)))
        }
    }

    /// Rows kept by position modulo their number, oldest first.
    static func ordered(_ rows: [Float], channels: Int, next position: Int) -> [Float] {
        let depth = rows.count / channels
        return (0..<depth).flatMap { row in
            let place = (position + row) % depth * channels
            return rows[place..<(place + channels)]
        }
    }
}

/// Numbers that look random and are the same every time (SplitMix64), in -1 ..< 1.
struct SeededFloats {
    private var state: UInt64

    init(_ seed: Int) { state = UInt64(seed) }

    mutating func next() -> Float {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Float((z ^ (z >> 31)) >> 40) / Float(1 << 23) - 1
    }

    mutating func array(_ count: Int) -> [Float] { (0..<count).map { _ in next() } }
}

/// Floats at a place that stays.
@safe final class Floats {
    let start: UnsafeMutablePointer<Float>
    private let count: Int

    init(_ values: [Float]) {
        count = values.count
        unsafe start = .allocate(capacity: max(1, count))
        unsafe start.initialize(from: values, count: count)
    }

    convenience init(repeating value: Float, count: Int) {
        self.init(Array(repeating: value, count: count))
    }

    deinit { unsafe start.deallocate() }

    var values: [Float] { unsafe Array(UnsafeBufferPointer(start: start, count: count)) }
}
