import ModelFormats
import Testing

@testable import Profiling

@Suite struct PredictorFileTests {
    private static let shape = Fixture.shape(
        layers: 3, experts: 4, expertsPerToken: 2, embedding: 5, name: "Modell Ä")

    private static let learned: PredictorFile = {
        var random = Random(state: 9)
        return .learned(
            LearnedPredictor(
                layers: 3, experts: 4, embedding: 5, ahead: 1,
                weights: (0..<40).map { _ in random.float() },
                bias: (0..<8).map { _ in random.float() }))
    }()

    private static func path(
        successors: [UInt16]? = nil, firstPair: [UInt32] = [0, 0, 0, 2], pairs: [UInt32] = [1, 14],
        share: Float = 0.5
    ) -> PredictorFile {
        .path(
            PathPredictor(
                layers: 3, experts: 4, width: 2, shares: [Float](repeating: 0.5, count: 12),
                successors: successors ?? (0..<24).map { UInt16($0 % 4) },
                successorShares: [Float](repeating: share, count: 24), firstPair: firstPair,
                pairs: pairs, pairSuccessors: [3, 2, 1, 0], pairShares: [1, 0.5, 0.25, 0]))
    }

    private static func read(_ bytes: [UInt8]) throws -> PredictorFile {
        try PredictorFile(bytes: bytes, path: "p", of: shape)
    }

    @Test func whatIsWrittenIsRead() throws {
        for file in [PredictorFileTests.learned, PredictorFileTests.path()] {
            #expect(
                try PredictorFileTests.read(file.encoded(for: PredictorFileTests.shape)) == file)
        }
    }

    @Test func theHeaderIsTheOneOnPaper() {
        let bytes = PredictorFileTests.learned.encoded(for: PredictorFileTests.shape)
        let start: [UInt8] = Array("SLUICEPR".utf8) + [1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]
        #expect(bytes.starts(with: start))
        #expect(bytes[56] == 9 && bytes[60] == 8)
        #expect(bytes[72..<89].elementsEqual("Modell Äqwen3moe".utf8))
        #expect(bytes.count == 89 + 192, "two maps of 4 x (5 + 1) floats")
    }

    @Test func anotherModelsPredictorIsRefusedByName() {
        let bytes = PredictorFileTests.learned.encoded(for: PredictorFileTests.shape)
        let other = Fixture.shape(
            layers: 3, experts: 4, expertsPerToken: 2, embedding: 5, name: "other")
        let error = #expect(throws: ModelFileError.self) {
            try PredictorFile(bytes: bytes, path: "p", of: other)
        }
        #expect(error?.description.contains("'Modell Ä'") == true)
        #expect(error?.description.contains("'other'") == true)
    }

    /// The checksums cover every byte: any single change is noticed.
    @Test func everyChangedByteAndEveryTruncationIsRefusedInOneLine() {
        for file in [PredictorFileTests.learned, PredictorFileTests.path()] {
            let sound = file.encoded(for: PredictorFileTests.shape)
            for index in sound.indices {
                var bytes = sound
                bytes[index] ^= UInt8(1 << (index % 8))
                let error = #expect(throws: ModelFileError.self, "byte \(index)") {
                    try PredictorFileTests.read(bytes)
                }
                #expect(error?.description.contains("\n") == false)
            }
            for count in sound.indices {
                #expect(throws: ModelFileError.self, "\(count) bytes") {
                    try PredictorFileTests.read(Array(sound[..<count]))
                }
            }
            #expect(throws: ModelFileError.self) { try PredictorFileTests.read(sound + [0]) }
        }
    }

    /// Files whose checksums are right and whose contents would send a lookup astray.
    @Test func contentsThatMisleadAreRefused() {
        let wrong: [(PredictorFile, String)] = [
            (PredictorFileTests.path(successors: [UInt16](repeating: 4, count: 24)), "successors"),
            (PredictorFileTests.path(firstPair: [0, 0, 0, 1]), "first pairs"),
            (PredictorFileTests.path(firstPair: [0, 2, 1, 2]), "first pairs"),
            (PredictorFileTests.path(firstPair: [1, 1, 1, 2]), "first pairs"),
            (PredictorFileTests.path(pairs: [14, 1]), "pairs"),
            (PredictorFileTests.path(share: .nan), "shares"),
            (PredictorFileTests.path(share: 2), "shares"),
            (
                .learned(
                    LearnedPredictor(
                        layers: 3, experts: 4, embedding: 5, ahead: 1,
                        weights: [Float](repeating: .infinity, count: 40),
                        bias: [Float](repeating: 0, count: 8))), "weights"
            ),
            (
                .learned(
                    LearnedPredictor(
                        layers: 3, experts: 4, embedding: 5, ahead: 3, weights: [], bias: [])),
                "layers ahead"
            ),
        ]
        for (file, field) in wrong {
            let error = #expect(throws: ModelFileError.self) {
                try PredictorFileTests.read(file.encoded(for: PredictorFileTests.shape))
            }
            #expect(error?.field == field)
        }
    }
}
