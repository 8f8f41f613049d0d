import Benchmarking
import Glibc

/// The made-up report of Tests/Fixtures/benchmarks, and reports made here.
enum ReportFixture {
    static var bytes: [UInt8] {
        get throws {
            let tests = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
            let path = "/\(tests)/Fixtures/benchmarks/report.json"
            let file = unsafe fopen(path, "r")
            guard let file = unsafe file else { throw BenchmarkingError("\(path): no fixture") }
            defer { unsafe fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            let count = unsafe fread(&bytes, 1, bytes.count, file)
            return Array(bytes.prefix(count))
        }
    }

    static var report: BenchmarkReport {
        get throws { try BenchmarkReport(json: bytes) }
    }

    static func report(_ rows: [BenchmarkReport.Row]) -> BenchmarkReport {
        BenchmarkReport(
            date: "2026-11-21", command: "sluice bench sweep m.gguf", sluice: "0.0.0",
            machine: .init(
                processor: "example", processors: 2, memoryBytes: 8 << 30, kernel: "6.18",
                drive: "none", instructionSet: "AVX2"),
            rows: rows)
    }

    static func row(
        _ setting: String, cache: String? = nil, runs: [BenchmarkRun]
    ) -> BenchmarkReport.Row {
        var point = BenchmarkPoint(
            engine: .sluice, model: "m.gguf", setting: setting, threads: 2, promptTokens: 0,
            warmUpTokens: 0, tokens: 1)
        point.cache = cache
        return .init(point: point, command: "sluice bench sweep m.gguf", runs: runs)
    }

    static func run(_ speed: Double, multiple: Double? = nil) -> BenchmarkRun {
        var run = BenchmarkRun(
            engine: "sluice 0", decodeTokensPerSecond: speed, tokenSeconds: [1 / speed])
        run.cacheMultiple = multiple
        return run
    }
}
