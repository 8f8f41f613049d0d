import Inference
import ModelFormats
import Testing

@testable import ExpertStreaming
@testable import Measuring

@Suite struct StreamingSuitabilityTests {
    private func model(_ name: String) throws -> ModelDescription {
        let tests = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
        let path = tests.joined(separator: "/") + "/Fixtures/models/\(name).gguf"
        return try ModelDescription(file: GGUFFile(path: path))
    }

    /// Sums of the file's tensors, and 3 of 8 experts.
    @Test func figuresAreThoseOfTheFile() throws {
        let model = try model("olmoe-f16")
        let found = StreamingSuitability(model)
        let isExpert = { (tensor: GGUFTensor) in tensor.name.contains("_exps") }
        let experts = model.file.tensors.filter(isExpert).reduce(0) { $0 + $1.byteCount }
        let all = model.file.tensors.reduce(0) { $0 + $1.byteCount }
        #expect(found.residentBytes == all - experts)
        #expect(abs(found.expertShare - Double(experts) / Double(all)) < 1e-12)
        #expect(found.activeShare == 3.0 / 8)
        #expect(found.expertBytes == 3 * 24 * 64 * 2)
        #expect(found.sharedBytes == 0 && found.srp == nil && found.knee == nil)
    }

    /// A trace whose every token uses the same experts, and one whose tokens never do.
    @Test func aTraceDecidesWhatTheFileCannot() throws {
        let model = try model("olmoe-f16")
        func statistics(_ choose: (Int) -> [Int]) throws -> RoutingStatistics {
            var trace = try RoutingTrace(
                shape: TraceShape(layerCount: 2, expertsPerLayer: 8, expertsPerToken: 3))
            for token in 0..<64 {
                let experts = (choose(token) + choose(token)).map { UInt16($0) }
                let problem = trace.append(
                    sequence: 0, phase: .decode, tokenID: -1, experts: experts[...], weights: [])
                #expect(problem == nil)
            }
            try model.check(trace.shape, name: "trace")
            return try RoutingStatistics(trace, segment: 16, rhos: [1, 2])
        }
        let same = StreamingSuitability(model, routing: try statistics { _ in [1, 4, 7] })
        #expect(same.srp == 1)
        let other = StreamingSuitability(
            model, routing: try statistics { token in (0..<3).map { (token * 3 + $0) % 8 } })
        let (most, least) = (try #require(same.srp), try #require(other.srp))
        #expect(least < most)
        #expect(same.reasons.contains { $0.hasPrefix("SRP 1.0") })
    }
}
