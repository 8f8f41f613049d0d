import CHost
import Glibc
import Testing

@testable import Benchmarking

/// This test program in another part: as the guard, or as a harness that will be killed.
///
/// Not tests: a test starts them, as `sluice bench` starts `sluice bench guard`.
enum Stand {
    static let key = "SLUICE_BENCHMARKING_PART"

    static var part: String? { unsafe getenv(key).map { unsafe String(cString: $0) } }

    static func value(_ name: String) -> String {
        unsafe getenv(name).map { unsafe String(cString: $0) } ?? ""
    }

    static let program: String = {
        guard let path = unsafe realpath("/proc/self/exe", nil) else { return "" }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }()

    /// Arguments of `env` that make this program play a part.
    static func arguments(_ part: String, _ variables: [String] = []) -> [String] {
        // The library runs the one test of that name, which plays the part and never ends.
        ["\(key)=\(part)"] + variables
            + [
                program, "--testing-library", "swift-testing", "--quiet", "--filter",
                "Parts/\(part)",
            ]
    }

    static func guardian() throws -> Guardian {
        try Guardian(executable: "/usr/bin/env", arguments: arguments("guardsAHarness"))
    }

    /// Waits, up to ten seconds, for something that will happen.
    static func waits(for condition: () -> Bool) -> Bool {
        for _ in 0..<1000 {
            if condition() { return true }
            usleep(10_000)
        }
        return condition()
    }

    static func isAlive(_ process: Int32) -> Bool {
        // One that has ended and was not waited for is dead, too.
        let text = (try? SystemFile.read("/proc/\(process)/stat")) ?? ""
        guard let end = text.lastIndex(of: ")") else { return false }
        return !text[end...].hasPrefix(") Z")
    }

    static func numbers(in path: String) -> [Int32] {
        ((try? SystemFile.read(path)) ?? "").words.compactMap { Int32($0) }
    }

    /// Writes its own id and that of a child that leaves the process group, and stays.
    static func twoProcesses(_ file: String) -> [String] {
        ["/bin/sh", "-c", "setsid sleep 1000 & echo $$ $! > \(file); wait"]
    }

    /// A file on a disk that may be throttled.
    static let limits = Limits(
        memoryBytes: 64 << 20, diskBytesPerSecond: 50_000_000, diskPath: "/var/tmp")
    static let obstacle = part == nil ? Confinement.obstacle(limits) : nil
}

@Suite(.enabled(if: Stand.part != nil, "a part that other tests start, no test"))
struct Parts {
    @Test func guardsAHarness() { Guardian.serve(descriptor: 0) }

    /// Changes a setting, starts two processes, and waits to be killed.
    @Test func isAHarness() throws {
        let guardian = try Stand.guardian()
        try guardian.setting(Stand.value("SETTING"), to: "4096")
        _ = try MeasuredProcess.run(
            Stand.twoProcesses(Stand.value("PROCESSES")),
            limits: Stand.value("LIMITED") == "yes" ? Stand.limits : nil, guardian: guardian,
            timeoutSeconds: 1000)
    }
}
