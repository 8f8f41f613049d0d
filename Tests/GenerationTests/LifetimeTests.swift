import CAllocationCounter
import Glibc
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Generation
@testable import Inference
@testable import Tokenization

@Suite struct LifetimeTests {
    /// Runs in a process of its own, so that what it measures is its own.
    @Test func tenThousandTokensGrowNeitherMemoryNorDescriptors() async {
        await #expect(processExitsWith: .success) {
            // Reading a directory's entries and a status line is all this asks of /proc.
            func descriptors() -> Int {
                guard let folder = unsafe opendir("/proc/self/fd") else { return -1 }
                defer { unsafe closedir(folder) }
                var count = 0
                while unsafe readdir(folder) != nil { count += 1 }
                return count
            }
            func residentBytes() -> Int {
                guard let status = SmallFile.read("/proc/self/status") else { return -1 }
                return MemoryLimit.kibibytes("VmRSS", in: status) ?? -1
            }
            let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false)
            let path =
                tests.dropLast(2).joined(separator: "/") + "/Fixtures/models/qwen3moe-k-quants.gguf"
            let model = try ModelDescription(file: GGUFFile(path: path))
            let tokenizer = try Tokenizer(metadata: model.file.metadata)
            var options = EngineOptions()
            options.memoryBytes = 512 << 20
            options.context = 256
            options.threads = 2
            options.cache = .multiple(1)
            let plan = try MemoryPlan(model: model, options: options)
            var engine = try Engine(model: model, options: options, plan: plan)
            var generated = 0
            var settings = SamplerSettings()
            settings.repetitionPenalty = 1.1
            func generate(_ seed: UInt64) throws {
                settings.seed = seed
                var generator = Generator(
                    sampler: settings, stops: ["never to be seen"], maximumTokens: 250)
                generator.ignoresEndOfText = true
                let result = try generator.run(
                    engine: &engine, tokenizer: tokenizer, prompt: [1, 2, 3], receive: { _ in true }
                )
                generated += result.tokens.count
            }
            // The allocator and the language runtime settle first.
            for seed in 0..<4 { try generate(UInt64(seed)) }
            let before = (residentBytes(), descriptors())
            precondition(before.0 > 0 && before.1 > 0, "cannot measure this process")
            for seed in 0..<40 { try generate(UInt64(seed)) }
            let after = (residentBytes(), descriptors())
            precondition(generated >= 11_000, "only \(generated) tokens")
            // Under a sanitizer most of the resident memory is its own, and that grows as it pleases.
            precondition(
                allocation_counter_works() == 0 || after.0 - before.0 < 512 << 10,
                "10,000 tokens grew memory from \(before.0) to \(after.0) bytes")
            precondition(
                after.1 == before.1, "10,000 tokens left \(after.1 - before.1) descriptors open")
        }
    }
}
