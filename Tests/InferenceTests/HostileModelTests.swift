import Glibc
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Inference

/// Damaged model files, from the header to the last token: each works or is refused in one line.
@Suite struct HostileModelTests {
    /// A file in the temporary directory, removed at the end.
    private final class TemporaryModel {
        let path: String

        init(_ bytes: [UInt8]) throws {
            var template = Array("/tmp/sluice-hostile-XXXXXX".utf8CString)
            let descriptor = unsafe mkstemp(&template)
            try #require(descriptor >= 0)
            path = unsafe template.withUnsafeBufferPointer {
                unsafe String(cString: $0.baseAddress!)
            }
            let written = unsafe bytes.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress!, $0.count)
            }
            close(descriptor)
            try #require(written == bytes.count)
        }

        deinit { unsafe unlink(path) }
    }

    private static func bytes(_ name: String) throws -> [UInt8] {
        let file = try unsafe #require(unsafe fopen(Fixture.path(name + ".gguf"), "rb"))
        defer { unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe fread(&bytes, 1, bytes.count, file)
        return Array(bytes[..<count])
    }

    /// What happened to a model: nil if it answered, else the error's text.
    private static func answer(_ bytes: [UInt8]) throws -> String? {
        let file = try TemporaryModel(bytes)
        do {
            let model = try ModelDescription(file: GGUFFile(path: file.path))
            var options = EngineOptions()
            options.memoryBytes = 512 << 20
            options.context = min(16, model.contextLength)
            options.threads = 1
            options.cache = .multiple(1)
            let plan = try MemoryPlan(model: model, options: options)
            var engine = try Engine(model: model, options: options, plan: plan)
            try engine.prefill([0, Int32(model.vocabularyCount - 1)], from: 0)
            if plan.context > 2 { try engine.decode(1, at: 2) }
            return nil
        } catch let error as ModelFileError {
            return error.description
        } catch let error as EngineError {
            return error.description
        } catch let error as StreamingError {
            return error.description
        }
    }

    private struct Random {
        var state: UInt64
        mutating func below(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
    }

    @Test(arguments: Fixture.names)
    func damagedFilesAnswerOrAreRefusedInOneLine(name: String) throws {
        let sound = try HostileModelTests.bytes(name)
        // The header ends where the tensor data begin; most damage goes there.
        let model = try GGUFFile(path: Fixture.path(name + ".gguf"))
        let header = Int(model.tensors.map(\.fileOffset).min()!)
        var random = Random(state: UInt64(name.utf8.reduce(7) { $0 &* 31 &+ Int($1) }))
        var refused = 0
        for round in 0..<60 {
            var bytes = sound
            switch round % 4 {
            case 0:
                for _ in 0...random.below(4) {
                    bytes[random.below(header)] ^= UInt8(1 << random.below(8))
                }
            case 1:
                bytes.removeLast(1 + random.below(bytes.count - 1))
            case 2:
                // A whole word of the header becomes an extreme.
                let place = random.below(header - 8)
                let extreme: [UInt8] = [
                    [0, 0, 0, 0, 0, 0, 0, 0], [255, 255, 255, 255, 255, 255, 255, 255],
                    [255, 255, 255, 127, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 128],
                    [1, 0, 0, 0, 0, 0, 0, 0],
                ][random.below(5)]
                bytes.replaceSubrange(place..<(place + 8), with: extreme)
            default:
                // Weights: anything goes, infinities and NaN included.
                for _ in 0..<2000 {
                    bytes[header + random.below(bytes.count - header)] = UInt8(random.below(256))
                }
            }
            if let message = try HostileModelTests.answer(bytes) {
                refused += 1
                #expect(!message.contains("\n") && !message.isEmpty, "round \(round)")
            }
        }
        #expect(refused >= 15, "every truncation at least is refused")
        #expect(try HostileModelTests.answer(sound) == nil)
    }

    @Test func aFileThatShrinksWhileRunningFailsTheTokenAndNotTheProcess() throws {
        let file = try TemporaryModel(HostileModelTests.bytes("qwen3moe-f32"))
        let model = try ModelDescription(file: GGUFFile(path: file.path))
        var options = EngineOptions()
        options.memoryBytes = 512 << 20
        options.threads = 1
        options.cache = .multiple(0.5)
        let plan = try MemoryPlan(model: model, options: options)
        var engine = try Engine(model: model, options: options, plan: plan)
        try engine.prefill([1, 2, 3], from: 0)
        let header = off_t(model.file.tensors.map(\.fileOffset).min()!)
        #expect(unsafe truncate(file.path, header) == 0)
        #expect(throws: StreamingError.self) {
            try engine.prefill([4, 5, 6, 7, 8, 9, 10], from: 3)
        }
        #expect(throws: StreamingError.self) {
            try engine.prefill([14, 15, 16, 17, 18, 19], from: 3)
        }
    }

    @Test func missingAndSuperfluousTensorsAreNamed() throws {
        // A tensor renamed is both: its role is empty, and nobody asks for the new name.
        var bytes = try HostileModelTests.bytes("olmoe-f16")
        let name = Array("blk.1.attn_q_norm.weight".utf8)
        let place = try #require(
            (0..<(bytes.count - name.count)).first {
                bytes[$0..<($0 + name.count)].elementsEqual(name)
            })
        bytes[place + 4] = UInt8(ascii: "7")
        let message = try #require(try HostileModelTests.answer(bytes))
        #expect(message.contains("blk.1.attn_q_norm.weight"))
    }
}
