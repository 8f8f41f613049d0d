import Benchmarking
import ExpertStreaming
import Glibc
import Inference
import Measuring
import ModelFormats

/// What memory and disk give to this process, here and now.
enum MachineRates {
    /// Plain reads of so many threads, in bytes per second: the median of five passes over memory
    /// that no cache holds.
    ///
    /// - Parameter plan: What will be taken when this has been given back; no more is taken here.
    static func memory(threads: Int, plan: MemoryPlan) throws -> Double {
        let processors = try MeasuringProcessors.chosen(threads)
        let bench = try KernelBench(
            processors: processors,
            arenaBytes: max(
                processors.count << 22, min(processors.count << 26, plan.budgetBytes / 4)))
        return Spread((0..<5).map { _ in bench.readRate(threads: bench.threads) }).median
    }

    /// Reads at random places of a model's largest file, as experts are read, in bytes per second.
    static func disk(_ model: ModelDescription, mode: IOMode?) throws -> Double {
        let path = try model.largestFile()
        let planes = (0..<model.planesPerExpert).map {
            model.extent(layer: 0, expert: 0, plane: $0, part: 0).byteCount
        }
        let piece = DiskProbe.pieceBytes(range: max(1, planes.max() ?? 1))
        let depth = min(max(8, DiskProbe.windowBytes / piece), DiskProbe.deepest)
        var probe = try DiskProbe(path: path, pieceBytes: piece, depth: depth, mode: mode)
        // What a limit has saved up is spent first.
        _ = try probe.measure(seconds: 0.3)
        return try probe.measure(seconds: 0.7, seed: 2).bytesPerSecond
    }
}

extension ModelDescription {
    /// Of a split model, the file with the most experts: the largest.
    func largestFile() throws -> String {
        try file.paths.max { try fileSize($0) < fileSize($1) } ?? ""
    }
}

/// Bytes of a file.
func fileSize(_ path: String) throws -> Int {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else {
        throw InputError("\(path): cannot be opened: \(Console.reason())", code: Failure.noInput)
    }
    return Int(status.st_size)
}
