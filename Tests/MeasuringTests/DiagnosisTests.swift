import ExpertStreaming
import Glibc
import Inference
import ModelFormats
import Testing

@testable import Measuring

@Suite struct DiagnosisTests {
    private static let fixture = {
        let tests = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
        return "/\(tests)/Fixtures/models/qwen3moe-q8_0.gguf"
    }()

    private func diagnosis(_ options: EngineOptions = EngineOptions()) throws -> Diagnosis {
        let model = try ModelDescription(file: ModelFile(path: Self.fixture))
        return try Diagnosis(file: Self.fixture, model: model, options: options, seconds: 0.1)
    }

    @Test func aModelIsExamined() throws {
        let diagnosis = try diagnosis()
        #expect(diagnosis.canRun && diagnosis.file == Self.fixture)
        #expect(diagnosis.reads.map(\.depth).first == 1 && diagnosis.reads.count == 3)
        #expect(diagnosis.reads.map(\.isAsExpertsAreRead) == [false, false, true])
        #expect(diagnosis.diskBytesPerSecond > 0 && diagnosis.memoryBytesPerSecond > 0)
        #expect(diagnosis.memoryBytesPerSecondOneThread > 0 && diagnosis.ioMode != nil)
        let model = try ModelDescription(file: ModelFile(path: Self.fixture))
        let prediction = try #require(diagnosis.prediction)
        #expect(prediction.activeSetBytes == model.activeSetBytes)
        #expect(prediction.memoryBytesPerSecond == diagnosis.memoryBytesPerSecond)
        #expect(prediction.diskBytesPerSecond == diagnosis.diskBytesPerSecond)
        // The file has a head of its own, so of the embedding a token takes one row.
        let resident = model.residentTensors.reduce(0) { $0 + $1.byteCount }
        let embedding = model.tokenEmbedding.byteCount
        let row = embedding / model.vocabularyCount
        #expect(
            prediction.residentBytesPerToken
                == resident - (model.tiesEmbeddings ? 0 : embedding - row))
    }

    @Test func tooLittleMemoryBlocks() throws {
        var options = EngineOptions()
        options.memoryBytes = 8 << 20
        let diagnosis = try diagnosis(options)
        #expect(!diagnosis.canRun && diagnosis.prediction == nil)
        #expect(diagnosis.findings[0].weight == .blocking)
        #expect(diagnosis.findings[0].problem.contains("needs at least"))
    }

    @Test func aFileThatCannotBeReadBlocks() throws {
        let diagnosis = try Diagnosis(
            file: "/proc/self/status", model: nil, options: EngineOptions(), seconds: 0.1)
        #expect(!diagnosis.canRun && diagnosis.reads.isEmpty && diagnosis.ioMode == nil)
        #expect(diagnosis.findings[0].problem.hasPrefix("/proc/self/status"))
    }

    @Test func anAskedWayOfReadingIsTaken() throws {
        var options = EngineOptions()
        options.io = .pread
        let diagnosis = try diagnosis(options)
        #expect(diagnosis.ioMode?.contains("reader threads") ?? false)
        // It was asked for, so it is no fault.
        #expect(!diagnosis.findings.contains { $0.problem.contains("not read directly") })
    }
}
