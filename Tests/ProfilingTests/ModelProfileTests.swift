import ModelFormats
import Testing

@testable import Inference
@testable import Profiling

@Suite struct ModelProfileTests {
    private static let shape = Fixture.shape(
        layers: 3, experts: 4, expertsPerToken: 2, embedding: 2)

    /// A pattern of random figures in which the experts below `favourites` are chosen most.
    private static func pattern(_ name: String, seed: UInt64, favourites: Int = 2) -> TaskPattern {
        var random = Random(state: seed)
        var tally = ExpertTally(shape)
        for layer in 0..<3 {
            for token in 0..<10 {
                let one = (random.below(4) + token) % favourites
                let other = (one + 1 + random.below(3)) % 4
                HandMadeLayer(
                    layer: layer, ids: [Int32(token)],
                    routerLogits: (0..<4).map { _ in random.float() + 1.5 },
                    residual: [random.float(), random.float()],
                    chosen: [Int32(one), Int32(other)], gateWeights: [0.75, 0.25],
                    outputRow: [0, 1], expertOutput: (0..<4).map { _ in random.float() * 3 }
                ).observe { tally.add($0) }
            }
        }
        return try! TaskPattern(name: name, tally: tally)
    }

    private static func profile() -> ModelProfile {
        var profile = ModelProfile(model: shape)
        try! profile.set(pattern("prose", seed: 1))
        try! profile.set(pattern("code", seed: 2))
        return profile
    }

    @Test func whatIsWrittenIsRead() throws {
        let profile = ModelProfileTests.profile()
        let bytes = try profile.encoded()
        let read = try ModelProfile(bytes: bytes, path: "p.json", of: ModelProfileTests.shape)
        #expect(read == profile)
        #expect(read.tasks.map(\.name) == ["prose", "code"])
        #expect(!read.superExperts.isEmpty)
    }

    @Test func calibratedSettingsAreKeptAndChecked() throws {
        var profile = ModelProfileTests.profile()
        profile.fallback = CalibratedFallback(
            full: 0.5, prefix: 0.75, planes: 1, planesPerExpert: 2, perplexityIncrease: 0.004,
            bytesReadPerToken: 100, exactBytesReadPerToken: 200, tokens: 9)
        let bytes = try profile.encoded()
        let read = try ModelProfile(bytes: bytes, path: "p.json", of: ModelProfileTests.shape)
        #expect(read == profile)
        #expect(read.fallback?.policy == .fallback(full: 0.5, prefix: 0.75, planes: 1))
        // Another text says nothing against them.
        try profile.set(ModelProfileTests.pattern("code", seed: 9))
        #expect(profile.fallback == read.fallback)
        let text = String(decoding: bytes, as: UTF8.self)
        for (sound, wrong) in [
            ("\"t1\":0.5", "\"t1\":0.8"), ("\"t2\":0.75", "\"t2\":1.5"),
            ("\"planes\":1", "\"planes\":0"),
        ] {
            let error = #expect(throws: ModelFileError.self) {
                try ModelProfile(
                    bytes: Array(text.replacing(sound, with: wrong).utf8), path: "p.json",
                    of: ModelProfileTests.shape)
            }
            #expect(error?.field == "fallback")
        }
    }

    @Test func aTaskIsAddedOrReplaced() throws {
        var profile = ModelProfileTests.profile()
        let other = ModelProfileTests.pattern("prose", seed: 5)
        try profile.set(other)
        #expect(profile.tasks.map(\.name) == ["prose", "code"])
        #expect(profile.task(named: "prose") == other)
        #expect(profile.task(named: "poems") == nil)
        for name in ["", "auto", "two\nlines", String(repeating: "x", count: 101)] {
            #expect(throws: ProfilingError.self) {
                try profile.set(ModelProfileTests.pattern(name, seed: 5))
            }
        }
    }

    @Test func anotherModelsProfileIsRefusedByName() throws {
        let bytes = try ModelProfileTests.profile().encoded()
        let others = [
            Fixture.shape(layers: 3, experts: 4, expertsPerToken: 2, embedding: 2, name: "other"),
            Fixture.shape(layers: 4, experts: 4, expertsPerToken: 2, embedding: 2),
        ]
        for other in others {
            let error = #expect(throws: ModelFileError.self) {
                try ModelProfile(bytes: bytes, path: "p.json", of: other)
            }
            let text = error?.description ?? ""
            #expect(text.contains("'shape'") && text.contains("'\(other.name)'"))
        }
    }

    @Test func damagedFilesAreRefusedInOneLineOrStillConsistent() throws {
        let sound = try ModelProfileTests.profile().encoded()
        let pieces = [
            "-1", "1e999", "null", "[]", "{}", "\"x\"", "NaN", "99999999999999999999", "[[[[",
            "0.5",
        ].map { Array($0.utf8) }
        var random = Random(state: 77)
        var refused = 0
        for round in 0..<600 {
            var bytes = sound
            switch round % 4 {
            case 0: bytes[random.below(bytes.count)] = UInt8(random.below(256))
            case 1: bytes.removeLast(1 + random.below(bytes.count - 1))
            case 2:
                let start = random.below(bytes.count)
                bytes.removeSubrange(start..<min(bytes.count, start + 1 + random.below(40)))
            default:
                // A number becomes something else.
                var start = random.below(bytes.count)
                while start < bytes.count, !(48...57).contains(bytes[start]) { start += 1 }
                var end = start
                while end < bytes.count, (46...57).contains(bytes[end]) { end += 1 }
                bytes.replaceSubrange(start..<end, with: pieces[random.below(pieces.count)])
            }
            do {
                let read = try ModelProfile(
                    bytes: bytes, path: "p.json", of: ModelProfileTests.shape)
                for task in read.tasks { #expect(task.ranking().count == 12) }
            } catch {
                refused += 1
                #expect(
                    error.description.hasPrefix("p.json") && !error.description.contains("\n"),
                    "round \(round)")
            }
        }
        #expect(refused > 400)
        let deep = [UInt8](repeating: UInt8(ascii: "["), count: 1 << 20)
        #expect(throws: ModelFileError.self) {
            try ModelProfile(bytes: deep, path: "p.json", of: ModelProfileTests.shape)
        }
        #expect(throws: ModelFileError.self) {
            try ModelProfile(bytes: [], path: "p.json", of: ModelProfileTests.shape)
        }
    }

    @Test func rankingWeighsLayersAlike() throws {
        var tally = ExpertTally(
            Fixture.shape(layers: 2, experts: 3, expertsPerToken: 1, embedding: 1))
        // Layer 0 uses expert 2 thrice and expert 0 once; layer 1 each of 0 and 1 twice.
        for (layer, experts) in [[2, 2, 0, 2], [1, 0, 1, 0]].enumerated() {
            for expert in experts {
                HandMadeLayer(
                    layer: layer, ids: [0], routerLogits: [1, 1, 1], residual: [1],
                    chosen: [Int32(expert)], gateWeights: [1], outputRow: [0], expertOutput: [1]
                ).observe { tally.add($0) }
            }
        }
        let pattern = try TaskPattern(name: "x", tally: tally)
        // Shares: 0/2 has 3/4, 1/0 and 1/1 have 1/2 each, 0/0 has 1/4, the unused ones nothing.
        let expected = [(0, 2), (1, 0), (1, 1), (0, 0), (0, 1), (1, 2)]
        for score in [TaskPattern.Score.activations, .gateMass, .tcess] {
            let ranking = pattern.ranking(by: score)
            #expect(ranking.elementsEqual(expected) { $0.layer == $1.0 && $0.expert == $1.1 })
        }
    }

    @Test func thePromptFindsThePatternItWasMadeFrom() throws {
        var profile = ModelProfile(model: ModelProfileTests.shape)
        var vectors: [PromptVector] = []
        for (task, favourite) in [0, 1, 3].enumerated() {
            var tally = ExpertTally(ModelProfileTests.shape)
            var vector = PromptVector(ModelProfileTests.shape)
            for layer in 0..<3 {
                let layer = HandMadeLayer(
                    layer: layer, ids: [0], routerLogits: [1, 2, 3, 4], residual: [1, 1],
                    chosen: [Int32(favourite), 2], gateWeights: [0.5, 0.5], outputRow: [0, 1],
                    expertOutput: [1, 1, 1, 1])
                layer.observe {
                    tally.add($0)
                    vector.add($0)
                }
            }
            try profile.set(TaskPattern(name: "task \(task)", tally: tally))
            vectors.append(vector)
        }
        for (task, vector) in vectors.enumerated() {
            let nearest = try #require(profile.nearest(to: vector))
            #expect(nearest.task.name == "task \(task)" && abs(nearest.cosine - 1) < 1e-6)
        }
        #expect(profile.nearest(to: PromptVector(ModelProfileTests.shape)) == nil)
        let empty = ModelProfile(model: ModelProfileTests.shape)
        #expect(empty.nearest(to: vectors[0]) == nil)
    }

    @Test func windowsCoverTheTextOnce() {
        let ids = (0..<10).map { Int32($0) }
        #expect(
            TextWindow.split(ids, length: 4).map(\.ids) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]])
        #expect(
            TextWindow.split(ids, length: 3).map(\.ids.count) == [3, 3, 3], "9 alone says nothing")
        #expect(
            TextWindow.split(ids, text: 2, length: 6, beginning: 77)
                == [
                    TextWindow(text: 2, ids: [77, 0, 1, 2, 3, 4]),
                    TextWindow(text: 2, ids: [77, 5, 6, 7, 8, 9]),
                ])
    }
}
