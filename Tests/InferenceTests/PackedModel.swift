import Glibc
import ModelFormats
import Packing
import Quantization
import Testing

@testable import Inference

/// How a fixture's experts are stored.
enum Packaging: String, CaseIterable {
    case gguf = "GGUF"
    case none, twoTwo = "2+2", twoOneOne = "2+1+1", fourFour = "4+4"
    case lowRecord = "low record"

    /// Packages alone.
    static let packages = allCases.filter { $0 != .gguf }

    var options: PackingOptions {
        var options = PackingOptions(packedBy: "a test")
        options.planes = PlaneWidths(rawValue)
        options.lowRecord = self == .lowRecord ? .q4_0 : nil
        return options
    }
}

/// A fixture, packed into the temporary directory; the package is removed in the end.
final class PackedModel {
    let path: String
    private let isTemporary: Bool

    init(_ name: String, _ packaging: Packaging) throws {
        let source = Fixture.path(name + ".gguf")
        isTemporary = packaging != .gguf
        guard isTemporary else {
            path = source
            return
        }
        var template = Array("/tmp/sluice-packed-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&template)
        try #require(descriptor >= 0)
        close(descriptor)
        path = unsafe template.withUnsafeBufferPointer {
            unsafe String(cString: $0.baseAddress!)
        }
        try PackingJob(model: Fixture.model(name), options: packaging.options).run(to: path)
    }

    deinit { if isTemporary { _ = unsafe unlink(path) } }

    func description() throws -> ModelDescription {
        try ModelDescription(file: ModelFile(path: path))
    }

    /// Inverts some bits of one byte of the package; a second time undoes it.
    func flip(bits: UInt8 = 0x10, at offset: UInt64) throws {
        try #require(isTemporary)
        let descriptor = unsafe open(path, O_RDWR)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var byte: UInt8 = 0
        try #require(unsafe pread(descriptor, &byte, 1, off_t(offset)) == 1)
        byte ^= bits
        try #require(unsafe pwrite(descriptor, &byte, 1, off_t(offset)) == 1)
        // Direct reads go past the page cache.
        fsync(descriptor)
    }

    /// An engine of one thread and a context of 64 positions, unless `change` says otherwise.
    func engine(_ change: (inout EngineOptions) throws -> Void = { _ in }) throws -> Engine {
        let model = try description()
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.context = 64
        options.threads = 1
        try change(&options)
        return try Engine(
            model: model, options: options, plan: MemoryPlan(model: model, options: options))
    }
}

extension Predictor {
    /// A table in which every pair of experts is followed by the same few: guesses that are
    /// sometimes right.
    static func somePaths(_ model: ModelDescription) throws -> Predictor {
        let (layers, experts) = (model.layerCount, model.expertCount)
        let rows = layers * experts * (experts + 1)
        return .path(
            try ExpertPaths(
                layerCount: layers, expertCount: experts,
                firstEntry: (0...rows).map { UInt32(2 * $0) },
                entryExperts: (0..<2 * rows).map { UInt16($0 * 5 / 2 % experts) },
                entryWeights: (0..<2 * rows).map { Float(1 + $0 % 3) }))
    }

    /// Maps of arbitrary weights.
    static func someGates(_ model: ModelDescription) throws -> Predictor {
        let count = model.layerCount * model.expertCount * model.embeddingLength
        return .learned(
            try LearnedGates(
                layerCount: model.layerCount, expertCount: model.expertCount,
                embeddingLength: model.embeddingLength,
                weights: (0..<count).map { Float($0 * 7919 % 1013) / 500 - 1 }, bias: []))
    }
}
