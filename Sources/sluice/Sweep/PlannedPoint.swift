import Benchmarking

/// A point and how to measure it.
struct PlannedPoint {
    var point: BenchmarkPoint
    /// Measures the point alone.
    var command: String
    /// Program and arguments of the process that is measured.
    var process: [String]
    var limits: Limits?
    /// For the time of a run; nil leaves the machine's own.
    var readAheadKilobytes: Int?
    /// The model's files, which are not to be in the page cache.
    var files: [String]
    /// Points with the same one are compared: same model, memory, disk and board.
    var group: String
}
