import ArgumentParser
import Benchmarking
import FoundationEssentials

/// Measures points, each in a fresh process in control groups of its own, from a cold page cache.
struct SweepRunner {
    let guardian: Guardian
    let timeoutSeconds: Double

    /// - Throws: `InputError` with what the process said, `BenchmarkingError` for the limits.
    func run(_ planned: PlannedPoint, round: Int, heat: Int) throws -> BenchmarkRun {
        let cached = try PageCache.evict(planned.files)
        guard cached == 0 else {
            throw InputError(
                "\(planned.files[0]): \(cached) bytes stay in the page cache; somebody else has the file "
                    + "open or locked in memory, so a run would not be cold",
                code: Failure.unavailable)
        }
        if let kilobytes = planned.readAheadKilobytes {
            guard let device = BlockDevice(holding: planned.files[0]) else {
                throw InputError(
                    "\(planned.files[0]): is on no block device, so nothing can be read ahead",
                    code: Failure.configuration)
            }
            try guardian.setting(device.readAheadPath, to: "\(kilobytes)")
        }
        defer { guardian.restoreSettings() }
        var process = planned.process
        if heat > 0, planned.point.engine == .sluice { process += ["--heat", "\(heat)"] }
        let outcome = try MeasuredProcess.run(
            process, limits: planned.limits, guardian: guardian,
            timeoutSeconds: timeoutSeconds)
        guard outcome.status == 0 else {
            throw InputError(
                "\(planned.point.engine.rawValue), \(planned.point.setting): \(Self.reason(outcome))",
                code: Failure.unavailable)
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        var run: BenchmarkRun
        do {
            run = try decoder.decode(BenchmarkRun.self, from: Data(outcome.output))
        } catch {
            throw InputError(
                "\(planned.point.engine.rawValue), \(planned.point.setting): printed no figures (\(error))",
                code: Failure.software)
        }
        run.groupPeakBytes = outcome.groupPeakBytes
        run.cachedBytesBefore = cached
        run.round = round
        if run.majorFaults == nil { run.majorFaults = outcome.majorFaults }
        return run
    }

    private static func reason(_ outcome: MeasuredProcess.Outcome) -> String {
        if outcome.wasKilledForMemory { return "killed, because it took more than its memory" }
        let lines = String(decoding: outcome.errors, as: UTF8.self)
            .split(whereSeparator: \.isNewline)
        return lines.last.map(String.init) ?? "ended with status \(outcome.status)"
    }
}
