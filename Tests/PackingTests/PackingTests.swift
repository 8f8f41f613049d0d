// Packing loses nothing: logits, weights and metadata are those of the source.

import ExpertStreaming
import Quantization
import Testing

@testable import Inference
@testable import ModelFormats
@testable import Packing

@Suite struct PackingTests {
    @Test(arguments: Fixture.names, [nil, 3] as [Int?])
    func packagesAnswerAsTheirSources(name: String, zstd: Int?) throws {
        let package = try TemporaryFile()
        let source = Fixture.path(name)
        try PackingJob(model: Fixture.model(source), options: Fixture.options(zstd: zstd))
            .run(to: package.path)
        #expect(try Fixture.logits(package.path) == Fixture.logits(source))
        var verifier = try PackageVerifier(path: package.path)
        try verifier.run()
        #expect(verifier.damages.isEmpty)
        let ours = try ModelFile(path: package.path)
        let theirs = try ModelFile(path: source)
        #expect(ours.metadata.encoded == theirs.metadata.encoded)
    }

    /// A package has records for layers with experts only, and a dense model's layers are such; what
    /// every token uses is resident: dense layers, shared experts, biases of experts.
    @Test(arguments: [
        ("qwen3-deep", [0, 1, 2, 3, 4]), ("qwen2moe-mixed", [0, 2]), ("glm4moe", [1]),
        ("gpt-oss", [0, 1, 2]), ("smallthinker-window", [0, 1, 2, 3, 4]),
    ])
    func layersOfEveryKindArePacked(name: String, blocks: [Int]) throws {
        let source = Fixture.path("../families/\(name)/\(name)")
        let package = try TemporaryFile()
        try PackingJob(model: Fixture.model(source), options: Fixture.options(planes: "2+2"))
            .run(to: package.path)
        let (packed, plain) = (try Fixture.model(package.path), try Fixture.model(source))
        #expect(packed.file.package?.manifest.layers.map(\.block) == blocks)
        #expect(packed.expertLayers == blocks && plain.expertLayers == blocks)
        #expect(packed.isDense == plain.isDense)
        #expect(packed.residentTensors.map(\.name) == plain.residentTensors.map(\.name))
        #expect(try Fixture.logits(package.path) == Fixture.logits(source))
    }

    private static let nestingFormats: [BlockFormat] = [
        .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q4_K, .q5_K, .q6_K,
    ]

    @Test(arguments: nestingFormats, ["2+2", "2+1+1", "4+4", "1+1+2"])
    func planesPutTogetherAreTheSourcesBytes(format: BlockFormat, widths: String) throws {
        let noisy = try NoisyModel(format, seed: 7)
        let source = try TemporaryFile(noisy.bytes)
        let package = try TemporaryFile()
        try PackingJob(
            model: Fixture.model(source.path), options: Fixture.options(planes: widths)
        ).run(to: package.path)

        let model = try Fixture.model(package.path)
        let bytes = try readFile(package.path)
        let nested = NestedFormat(format: format, widths: try #require(PlaneWidths(widths)))
        #expect(model.planesPerExpert == nested?.bits.count ?? 1)
        #expect(model.expertCount == 3)
        for part in 0..<3 {
            let matrix = model.expertParts(layer: 0)[part]
            #expect(matrix.nested == nested)
            #expect(matrix.format == format)
            for expert in 0..<model.expertCount {
                let pieces = (0..<model.planesPerExpert).map { plane in
                    let extent = model.extent(layer: 0, expert: expert, plane: plane, part: part)
                    let start = Int(extent.offset)
                    return Array(bytes[start..<start + extent.byteCount])
                }
                let merged =
                    nested?.merge(pieces, rows: matrix.rows, columns: matrix.columns) ?? pieces[0]
                let all = noisy.experts[part]
                let start = expert * matrix.byteCount
                #expect(merged == Array(all[start..<start + matrix.byteCount]))
            }
        }
    }

    @Test(arguments: ["2+2", "2+1+1", "4+4"])
    func formatsThatMixInAnExpertKeepTheirOwnPlanes(widths: String) throws {
        let package = try TemporaryFile()
        let source = Fixture.path("qwen3moe-k-quants")
        try PackingJob(model: Fixture.model(source), options: Fixture.options(planes: widths))
            .run(to: package.path)
        let model = try Fixture.model(package.path)
        let original = try Fixture.model(source)
        let (ours, theirs) = (try readFile(package.path), try readFile(source))
        for part in 0..<3 {
            let matrix = model.expertParts(layer: 0)[part]
            for expert in 0..<model.expertCount {
                var pieces: [[UInt8]] = []
                for plane in 0..<model.planesPerExpert {
                    let extent = model.extent(layer: 0, expert: expert, plane: plane, part: part)
                    let start = Int(extent.offset)
                    if extent.byteCount > 0 {
                        pieces.append(Array(ours[start..<start + extent.byteCount]))
                    }
                }
                let place = original.extent(layer: 0, expert: expert, plane: 0, part: part)
                let whole = Array(theirs[Int(place.offset)..<Int(place.offset) + place.byteCount])
                #expect(
                    matrix.nested == nil
                        ? pieces == [whole]
                        : matrix.nested?.merge(
                            pieces, rows: matrix.rows, columns: matrix.columns) == whole)
            }
        }
    }

    /// An engine that is told to computes every expert with so many planes, whether the text comes as
    /// a prompt or token by token, reads no others, and uses no others that are in memory.
    @Test func prefixesAloneCanBeComputed() throws {
        let package = try TemporaryFile()
        try PackingJob(
            model: Fixture.model(Fixture.path("qwen3moe-q8_0")),
            options: Fixture.options(planes: "2+2")
        ).run(to: package.path)
        let model = try Fixture.model(package.path)
        func engine(_ planes: Int?) throws -> Engine {
            var options = EngineOptions()
            options.memoryBytes = 512 << 20
            options.context = 32
            options.threads = 1
            options.arithmetic = .f32
            options.expertPlanes = planes
            return try Engine(
                model: model, options: options, plan: MemoryPlan(model: model, options: options))
        }
        let ids = (0..<16).map { Int32($0 * 37 % model.vocabularyCount) }
        #expect(model.planesPerExpert == 3)
        var rows: [[Float]] = []
        var bytesRead: [UInt64] = []
        for planes in 1...3 {
            var together = try engine(planes)
            var alone = try engine(planes)
            try together.prefill(ids, from: 0)
            for (position, id) in ids.enumerated() { try alone.decode(id, at: position) }
            let row = unsafe Array(together.logits)
            let difference = unsafe zip(row, alone.logits).map { ($0 - $1).magnitude }.max()!
            #expect(difference < 1e-3)
            for engine in [alone.statistics, together.statistics] {
                #expect(engine.experts[planes] == engine.experts.total)
            }
            rows.append(row)
            bytesRead.append(alone.statistics.streaming.bytesRead)
            var filled = try engine(planes)
            try filled.preload { _ in }
            try filled.prefill(ids, from: 0)
            #expect(unsafe row == Array(filled.logits))
            #expect(filled.statistics.experts[planes] == filled.statistics.experts.total)
        }
        #expect(bytesRead[0] < bytesRead[1] && bytesRead[1] < bytesRead[2])
        #expect(rows[0] != rows[2] && rows[1] != rows[2])
        var full = try engine(nil)
        try full.prefill(ids, from: 0)
        #expect(unsafe rows[2] == Array(full.logits))
        #expect(throws: EngineError.self) { _ = try engine(4) }
    }

    @Test func prefixErrorsFallWithEveryPlane() throws {
        let package = try TemporaryFile()
        let report = try PackingJob(
            model: Fixture.model(Fixture.path("qwen3moe-k-quants")),
            options: Fixture.options(planes: "2+1+1")
        ).run(to: package.path)
        let rows = report.quality.overall
        #expect(rows.map(\.format) == [.q4_K, .q4_K, .q6_K, .q6_K, .q6_K])
        #expect(rows.map(\.bits) == [2, 3, 2, 3, 4])
        for (before, after) in zip(rows, rows.dropFirst()) where before.format == after.format {
            // One bit more halves the interval, and so the error.
            let ratio = after.relativeRMS / before.relativeRMS
            #expect(ratio > 0.35 && ratio < 0.6, "\(before.bits) bits of \(before.format.name)")
        }
        #expect(rows[0].relativeRMS > 0.1 && rows[0].relativeRMS < 0.5)
        #expect(report.quality.rows.allSatisfy { $0.layer == 0 })
    }

    @Test func modelsWithoutNestingFormatsHaveOnePlane() throws {
        let package = try TemporaryFile()
        let source = Fixture.path("qwen3moe-bf16")
        let report = try PackingJob(
            model: Fixture.model(source), options: Fixture.options(planes: "2+2", zstd: 3)
        ).run(to: package.path)
        #expect(report.quality.rows.isEmpty)
        #expect(try Fixture.model(package.path).planesPerExpert == 1)
        #expect(try Fixture.logits(package.path) == Fixture.logits(source))
        // BF16 weights are said to be worth compressing, and are not compressed.
        let sizes = try #require(report.compression.formats[.bf16])
        #expect(sizes.compressed < sizes.bytes)
    }

    /// A coarser version of every expert, whole, before the full one.
    @Test(arguments: [("qwen3moe-k-quants", BlockFormat.q2_K), ("qwen3moe-bf16", .q4_0)])
    func lowRecordsStandBesideTheFullOnes(name: String, low: BlockFormat) throws {
        let package = try TemporaryFile()
        let source = Fixture.path(name)
        var options = Fixture.options()
        options.lowRecord = low
        let report = try PackingJob(model: Fixture.model(source), options: options)
            .run(to: package.path)
        let model = try Fixture.model(package.path)
        let original = try Fixture.model(source)
        let (ours, theirs) = (try readFile(package.path), try readFile(source))
        #expect(model.planesPerExpert == 2)
        #expect(!model.planesNest)
        for layer in 0..<model.layerCount {
            for part in 0..<3 {
                let matrix = model.expertParts(layer: layer)[part]
                #expect(matrix.lowFormat == low)
                #expect(matrix.nested == nil)
                for expert in 0..<model.expertCount {
                    func bytes(_ plane: Int) -> [UInt8] {
                        let extent = model.extent(
                            layer: layer, expert: expert, plane: plane, part: part)
                        let start = Int(extent.offset)
                        return Array(ours[start..<start + extent.byteCount])
                    }
                    let place = original.extent(layer: layer, expert: expert, plane: 0, part: part)
                    let start = Int(place.offset)
                    let whole = Array(theirs[start..<start + place.byteCount])
                    #expect(bytes(1) == whole)
                    let values = BlockDecoder.decode(matrix.format, whole)
                    #expect(bytes(0) == BlockEncoder.encode(low, values))
                }
            }
        }
        let worst = report.quality.rows.map(\.relativeRMS).max() ?? 1
        #expect(worst > 0.02 && worst < 0.5)
        var verifier = try PackageVerifier(path: package.path)
        try verifier.run()
        #expect(verifier.damages.isEmpty)
    }

    @Test func lowRecordsThatDoNotFitTheRowsAreRefused() throws {
        let package = try TemporaryFile()
        var options = Fixture.options()
        options.lowRecord = .q2_K
        let error = #expect(throws: ModelFileError.self) {
            try PackingJob(model: Fixture.model(Fixture.path("qwen3moe-f32")), options: options)
                .run(to: package.path)
        }
        #expect(error?.description.contains("no whole blocks of Q2_K") == true)
    }

    @Test func packagesAreNotPackedAgain() throws {
        let package = try TemporaryFile()
        try PackingJob(
            model: Fixture.model(Fixture.path("qwen3moe-q8_0")), options: Fixture.options()
        ).run(to: package.path)
        let again = try TemporaryFile()
        let error = #expect(throws: ModelFileError.self) {
            try PackingJob(model: Fixture.model(package.path), options: Fixture.options())
                .run(to: again.path)
        }
        #expect(error?.description.contains("is a package already") == true)
    }

    @Test(arguments: [nil, 3] as [Int?])
    func damagedResidentWeightsAreNamedWhenTheyAreLoaded(zstd: Int?) throws {
        let package = try TemporaryFile()
        try PackingJob(
            model: Fixture.model(Fixture.path("qwen3moe-q8_0")),
            options: Fixture.options(zstd: zstd)
        ).run(to: package.path)
        let sound = try readFile(package.path)
        for tensor in try ModelFile(path: package.path).tensors {
            var damaged = sound
            damaged[Int(tensor.fileOffset) + 3] ^= 0x10
            try package.write(damaged)
            let error = #expect(throws: ModelFileError.self) { try Fixture.logits(package.path) }
            #expect(error?.field == "tensor \(tensor.name)")
        }
    }

    @Test func shapesThatAreNotTheModelsAreRefused() throws {
        let path = Fixture.path("qwen3moe-k-quants")
        let model = try Fixture.model(path)
        let package = try TemporaryFile()
        try PackingJob(model: model, options: Fixture.options(planes: "2+2")).run(to: package.path)
        let sound = try Package(path: package.path).manifest

        /// What is said about a package of noise whose manifest is changed so.
        func refusal(_ change: (inout PackageManifest) -> Void) throws -> String {
            var contents = PackageContents(
                architecture: "", name: "", packedBy: "", planes: sound.planes,
                expertCount: sound.expertCount, layers: sound.layers,
                metadata: model.file.metadata, tensors: [], sources: [])
            change(&contents.manifest)
            let file = try TemporaryFile()
            let writer = try PackageWriter(path: file.path, contents: contents)
            try writer.note(digests: [])
            for layer in contents.manifest.layers {
                for _ in 0..<contents.manifest.expertCount {
                    try writer.writeExpert { part in
                        layer.planes.map { [UInt8](repeating: 1, count: $0.parts[part].bytes) }
                    }
                }
            }
            try writer.finish()
            let error = #expect(throws: ModelFileError.self) {
                var reader = DescriptionReader(
                    file: ModelFile(try Package(path: file.path)), prefix: "qwen3moe")
                _ = try reader.experts(
                    layer: 0, block: 0, embeddingLength: model.embeddingLength,
                    expertCount: model.expertCount, expertWidth: nil)
            }
            return error?.description ?? ""
        }
        #expect(try refusal { $0.layers[0].parts[2].rows += 1 }.contains("down has 257 rows"))
        #expect(
            try refusal {
                let pieces = $0.layers[0].planes[1].parts.map(\.bytes)
                $0.layers[0].planes[1] = .init(partBytes: [pieces[0] + 64] + pieces[1...])
            }.contains("bytes in plane 1, expected"))
        #expect(try refusal { $0.planes = "4+4" }.contains("which '4+4' does not make"))
        #expect(try refusal { $0.planes = "?" }.contains("which '?' does not make"))
        #expect(try refusal { $0.layers[0].block = 1 }.contains("not of block 0"))
        #expect(try refusal { $0.expertCount = 2 }.contains("2 experts, but 3"))
    }
}
