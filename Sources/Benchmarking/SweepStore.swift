private import FoundationEssentials
private import Glibc

/// The folder of a sweep: what was asked for, and every run that has finished, one line each, so
/// that whatever ends the sweep loses no more than the run it interrupts.
///
/// Files: `sweep.json`, the report's head without rows; `runs.jsonl`. One process at a time writes.
public struct SweepStore {
    /// One line of `runs.jsonl`.
    public struct Entry: Codable, Sendable {
        public var point: BenchmarkPoint
        /// That measures the point alone.
        public var command: String
        public var run: BenchmarkRun

        public init(point: BenchmarkPoint, command: String, run: BenchmarkRun) {
            self.point = point
            self.command = command
            self.run = run
        }
    }

    public let folder: String
    /// Finished runs, in the order of their end.
    public private(set) var entries: [Entry] = []
    public private(set) var head: BenchmarkReport

    private static let headName = "sweep.json"
    private static let runsName = "runs.jsonl"
    /// Begins a sweep in a folder, which is made if it is not there, or goes on with it.
    ///
    /// - Parameter resumes: whether runs that are there already count; without it a folder that has some is
    ///   refused, so that nothing is measured over.
    public init(
        folder: String, head: BenchmarkReport, resumes: Bool
    ) throws(BenchmarkingError) {
        if unsafe mkdir(folder, 0o777) != 0, errno != EEXIST {
            throw BenchmarkingError("\(folder): cannot be made (\(Self.reason()))")
        }
        self.folder = folder
        self.head = head
        let (kept, isCut) = try Self.entries(folder)
        entries = kept
        guard resumes || entries.isEmpty else {
            throw BenchmarkingError(
                "\(folder): holds \(entries.count) finished runs; give --resume to go on with them, "
                    + "or another folder")
        }
        if isCut { try rewriteRuns() }
        try writeHead()
    }

    /// Reads a sweep, finished or not.
    public init(folder: String) throws(BenchmarkingError) {
        self.folder = folder
        let path = "\(folder)/\(Self.headName)"
        guard let bytes = try Self.bytes(path) else {
            throw BenchmarkingError("\(path): there is none, so this is no folder of a sweep")
        }
        head = try BenchmarkReport(json: bytes)
        entries = try Self.entries(folder).entries
    }

    /// Rounds of a point that have finished.
    public func rounds(of point: BenchmarkPoint) -> Int {
        entries.count { $0.point == point }
    }

    /// Adds a finished run; when this returns, it is on the disk.
    public mutating func append(_ entry: Entry) throws(BenchmarkingError) {
        let path = "\(folder)/\(Self.runsName)"
        let line = try Self.line(entry)
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw BenchmarkingError("\(path): cannot be written (\(Self.reason()))")
        }
        defer { close(descriptor) }
        // One call: a line is there whole or, at the end of a full disk, cut, which reading forgives.
        let written = unsafe line.withUnsafeBytes {
            unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
        }
        guard written == line.count, fsync(descriptor) == 0 else {
            throw BenchmarkingError("\(path): cannot be written (\(Self.reason()))")
        }
        entries.append(entry)
    }

    /// The report of what has finished: rows in the order in which their first run did.
    public var report: BenchmarkReport {
        var report = head
        var places: [BenchmarkPoint: Int] = [:]
        for entry in entries {
            if let place = places[entry.point] {
                report.rows[place].runs.append(entry.run)
            } else {
                places[entry.point] = report.rows.count
                report.rows.append(
                    BenchmarkReport.Row(
                        point: entry.point, command: entry.command, runs: [entry.run]))
            }
        }
        report.remarks += Self.remarks(report.rows)
        return report
    }

    /// Writes `report.html`, `report.json` and `report.csv`.
    public func writeReport() throws(BenchmarkingError) {
        let report = report
        try Self.write(Array(report.html().utf8), to: "\(folder)/report.html")
        try Self.write(Array(report.csv().utf8), to: "\(folder)/report.csv")
        try Self.write(Self.json(report), to: "\(folder)/report.json")
    }

    private func writeHead() throws(BenchmarkingError) {
        try Self.write(Self.json(head), to: "\(folder)/\(Self.headName)")
    }

    private static func json(_ report: BenchmarkReport) throws(BenchmarkingError) -> [UInt8] {
        do { return Array(try report.json().utf8) } catch {
            throw BenchmarkingError("figures that are no numbers cannot be kept (\(error))")
        }
    }

    /// Adds what settings cost in quality, and writes the head anew.
    public mutating func add(_ quality: [BenchmarkReport.Quality]) throws(BenchmarkingError) {
        head.quality += quality
        try writeHead()
    }

    /// Adds what a reader must know, once.
    public mutating func remark(_ text: String) throws(BenchmarkingError) {
        guard !head.remarks.contains(text) else { return }
        head.remarks.append(text)
        try writeHead()
    }

    /// What the runs themselves show: disks that were slower than their limit.
    private static func remarks(_ rows: [BenchmarkReport.Row]) -> [String] {
        var slow: [Double: Double] = [:]
        for row in rows {
            guard let limit = row.point.diskLimitBytesPerSecond,
                let rate = row.spread(\.diskBytesPerSecond)?.median, rate < 0.9 * limit
            else { continue }
            slow[limit] = min(slow[limit] ?? .infinity, rate)
        }
        return slow.sorted { $0.key < $1.key }.map { limit, rate in
            "With the disk held to \(gigabytes(limit)) GB/s it gave as little as \(gigabytes(rate)) at times: there "
                + "the disk itself was the limit."
        }
    }

    private static func gigabytes(_ bytes: Double) -> String {
        let hundredths = Int((bytes / 1e7).rounded())
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }

    /// Without a last line that something cut, so that the next one does not continue it.
    private func rewriteRuns() throws(BenchmarkingError) {
        var text: [UInt8] = []
        for entry in entries {
            text += try Self.line(entry)
        }
        try Self.write(text, to: "\(folder)/\(Self.runsName)")
    }

    private static func entries(
        _ folder: String
    ) throws(BenchmarkingError) -> (entries: [Entry], isCut: Bool) {
        let path = "\(folder)/\(runsName)"
        guard let bytes = try bytes(path) else { return ([], false) }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        var entries: [Entry] = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"))
        for (index, line) in lines.enumerated() {
            guard let entry = try? decoder.decode(Entry.self, from: Data(line)) else {
                // The last one may have been cut by what ended the sweep.
                if index == lines.count - 1, bytes.last != UInt8(ascii: "\n") {
                    return (entries, true)
                }
                throw BenchmarkingError("\(path): line \(index + 1) is no run; remove it")
            }
            entries.append(entry)
        }
        return (entries, bytes.last.map { $0 != UInt8(ascii: "\n") } ?? false)
    }

    private static func line(_ entry: Entry) throws(BenchmarkingError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do { return Array(try encoder.encode(entry)) + [UInt8(ascii: "\n")] } catch {
            throw BenchmarkingError("figures that are no numbers cannot be kept (\(error))")
        }
    }

    /// Replaces a file whole.
    private static func write(_ bytes: [UInt8], to path: String) throws(BenchmarkingError) {
        do { try Data(bytes).write(to: URL(filePath: path), options: .atomic) } catch {
            throw BenchmarkingError("\(path): cannot be written (\(reason()))")
        }
    }

    /// A file's content; nil where there is none.
    private static func bytes(_ path: String) throws(BenchmarkingError) -> [UInt8]? {
        guard unsafe access(path, F_OK) == 0 else { return nil }
        do { return Array(try Data(contentsOf: URL(filePath: path))) } catch {
            throw BenchmarkingError("\(path): cannot be read (\(reason()))")
        }
    }

    private static func reason() -> String { unsafe String(cString: strerror(errno)) }
}
