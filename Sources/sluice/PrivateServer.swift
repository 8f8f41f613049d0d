import ArgumentParser
import CHost
import Glibc
import SluiceClient

/// A server for one conversation: `sluice serve` as a child, on a socket in a folder that only this
/// user can open. It ends with this value, and with the process.
struct PrivateServer: ~Copyable {
    let address: SluiceClient.Address
    private let folder: String
    private let child: Int32
    private var hasEnded = false

    /// Starts the server; it then loads its model.
    ///
    /// - Parameter arguments: more arguments of `sluice serve`.
    init(_ model: String, _ arguments: [String]) throws {
        let folder = try Self.makeFolder()
        let socket = "\(folder)/sluice.sock"
        let log = unsafe open("\(folder)/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard log >= 0 else {
            throw InputError(
                "\(folder): cannot be written to: \(Console.reason())", code: Failure.cannotCreate)
        }
        defer { close(log) }
        let child = Self.start(["serve", model, "--socket", socket] + arguments, output: log)
        guard child > 0 else {
            Self.remove(folder)
            throw InputError(
                "'sluice serve' cannot be started: \(unsafe String(cString: strerror(-child)))",
                code: Failure.software)
        }
        self.init(folder: folder, child: child, socket: socket)
    }

    private init(folder: String, child: Int32, socket: String) {
        self.folder = folder
        self.child = child
        address = .socket(socket)
    }

    deinit {
        var hasEnded = hasEnded
        if !hasEnded { kill(child, SIGTERM) }
        // There is nothing to drain; but it may be hung.
        for _ in 0..<100 where !hasEnded {
            hasEnded = waitpid(child, nil, WNOHANG) == child
            if !hasEnded { usleep(50_000) }
        }
        if !hasEnded {
            kill(child, SIGKILL)
            _ = waitpid(child, nil, 0)
        }
        Self.remove(folder)
    }

    /// Fails with what the server said last, and with its status, if it has ended.
    mutating func requireAlive() throws {
        var status: Int32 = 0
        guard !hasEnded, unsafe waitpid(child, &status, WNOHANG) == child else { return }
        hasEnded = true
        let log = String(decoding: try Console.readFile("\(folder)/log"), as: UTF8.self)
        let lines = log.split(whereSeparator: \.isNewline).map(String.init)
        // Arguments that are refused come with a usage behind the reason.
        let line = lines.first { $0.hasPrefix("Error: ") } ?? lines.last
        // As WIFEXITED and WEXITSTATUS have it, which are macros.
        let exited = status & 0x7F == 0 ? (status >> 8) & 0xFF : nil
        throw InputError(
            line.map(Self.withoutPrefix) ?? "the server ended before it was ready",
            code: exited.flatMap { $0 == 0 ? nil : ExitCode($0) } ?? Failure.unavailable)
    }

    private static func withoutPrefix(_ line: String) -> String {
        for prefix in ["sluice: ", "Error: "] where line.hasPrefix(prefix) {
            return String(line.dropFirst(prefix.count))
        }
        return line
    }

    private static func makeFolder() throws -> String {
        for name in ["XDG_RUNTIME_DIR", "TMPDIR"] {
            guard let parent = unsafe getenv(name) else { continue }
            if let folder = makeFolder(in: unsafe String(cString: parent)) { return folder }
        }
        guard let folder = makeFolder(in: "/tmp") else {
            throw InputError(
                "/tmp: no folder can be made in it: \(Console.reason())",
                code: Failure.cannotCreate)
        }
        return folder
    }

    /// A new folder for this user only.
    private static func makeFolder(in parent: String) -> String? {
        var name = Array("\(parent)/sluice-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&name) != nil else { return nil }
        return String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The server removes its socket, and the lock beside it, when it ends in order.
    private static func remove(_ folder: String) {
        for name in ["log", "sluice.sock", "sluice.sock.lock"] {
            unsafe unlink("\(folder)/\(name)")
        }
        unsafe rmdir(folder)
    }

    /// This program again, with other arguments. Returns its process id, or a negative errno value.
    private static func start(_ arguments: [String], output: Int32) -> Int32 {
        var pointers = unsafe (["sluice"] + arguments).map { unsafe strdup($0) } + [nil]
        defer { unsafe pointers.forEach { unsafe free($0) } }
        return unsafe host_start_child("/proc/self/exe", &pointers, output)
    }
}
