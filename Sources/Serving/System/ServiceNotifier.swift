import CHost
import Glibc
import Synchronization

/// Tells systemd how the service is (sd_notify(3)); does nothing where NOTIFY_SOCKET is not set.
final class ServiceNotifier: Sendable {
    private let path: String?
    private let descriptor: Int32
    private let status = Mutex("")

    init(environment: (String) -> String?) {
        path = environment("NOTIFY_SOCKET").flatMap { $0.isEmpty ? nil : $0 }
        descriptor = path == nil ? -1 : host_datagram_socket()
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Whether somebody listens.
    var isActive: Bool { descriptor >= 0 }

    func ready() { send("READY=1") }

    /// A configuration is being read again; `ready` ends it. systemd wants to know when that began
    /// in microseconds of the monotonic clock.
    func reloading() { send("RELOADING=1\nMONOTONIC_USEC=\(host_nanoseconds() / 1000)") }

    func stopping() { send("STOPPING=1") }

    /// The watchdog's food.
    func alive() { send("WATCHDOG=1") }

    /// Start or stop may take so much longer from now on.
    func extendTimeout(seconds: Int) { send("EXTEND_TIMEOUT_USEC=\(seconds * 1_000_000)") }

    /// The line that `systemctl status` shows; sent if it is another one than before.
    func show(_ line: String) {
        let isNew = status.withLock { last in
            defer { last = line }
            return last != line
        }
        if isNew { send("STATUS=\(line)") }
    }

    private func send(_ text: String) {
        guard let path, descriptor >= 0 else { return }
        // A datagram that is lost is a manager that is gone; there is nobody to tell.
        _ = unsafe Array(text.utf8).withUnsafeBytes {
            unsafe host_send_datagram(descriptor, path, $0.baseAddress, $0.count)
        }
    }
}

/// Decides when the watchdog is fed: while the engine has nothing to do, or has done something
/// since it was fed last. A timer alone would keep a service alive whose decode loop is stuck.
struct Watchdog: Sendable {
    /// How often to look: half of what systemd waits for, as sd_watchdog_enabled(3) advises.
    let intervalSeconds: Double
    private var lastHeartbeat: UInt64?
    /// Looks in a row at which it was not fed.
    private(set) var missedFeeds = 0

    /// Nil where no watchdog waits for this process.
    init?(environment: (String) -> String?) {
        guard let microseconds = environment("WATCHDOG_USEC").flatMap({ UInt64($0) }),
            microseconds > 0, environment("WATCHDOG_PID").map({ $0 == "\(getpid())" }) ?? true
        else { return nil }
        intervalSeconds = Double(microseconds) / 2e6
    }

    /// Whether to feed it now.
    ///
    /// - Parameters:
    ///   - heartbeat: Rises with every step of the engine.
    ///   - isIdle: The engine has nothing to do.
    mutating func isFed(heartbeat: UInt64, isIdle: Bool) -> Bool {
        defer { lastHeartbeat = heartbeat }
        guard isIdle || heartbeat != lastHeartbeat else {
            missedFeeds += 1
            return false
        }
        missedFeeds = 0
        return true
    }
}
