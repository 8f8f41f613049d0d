import Glibc

/// The process's three streams, unbuffered, and whole files. Every write is completed or reported.
enum Console {
    /// Writes text to stdout at once. A closed pipe ends the process, as it does for any filter.
    static func out(_ text: String) { write(1, Array(text.utf8)) }

    /// Writes bytes to stdout at once.
    static func outBytes(_ bytes: [UInt8]) { write(1, bytes) }

    /// Writes one line to stderr.
    static func error(_ line: String) { write(2, Array((line + "\n").utf8)) }

    /// Writes part of a line to stderr.
    static func errorPart(_ text: String) { write(2, Array(text.utf8)) }

    /// Whether stderr is a terminal.
    static var errorIsTerminal: Bool { isatty(2) == 1 }

    /// Says what goes on, to somebody who is watching.
    static func progress(_ line: @autoclosure () -> String) {
        if errorIsTerminal { error(line()) }
    }

    /// Everything on stdin.
    static func readInput() throws -> [UInt8] {
        if isatty(0) == 1 { error("sluice: reading from the terminal; end with Ctrl-D") }
        return try readAll(descriptor: 0, name: "standard input")
    }

    /// The whole of a file.
    static func readFile(_ path: String) throws -> [UInt8] {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw InputError("\(path): cannot be opened: \(reason())", code: Failure.noInput)
        }
        defer { close(descriptor) }
        return try readAll(descriptor: descriptor, name: path)
    }

    /// Refuses a file that cannot be read, before somebody else does in other words.
    static func requireReadable(_ path: String) throws {
        guard unsafe access(path, R_OK) == 0 else {
            throw InputError("\(path): cannot be opened: \(reason())", code: Failure.noInput)
        }
    }

    /// Makes `path` hold `bytes`; an existing file is replaced.
    static func writeFile(_ path: String, _ bytes: [UInt8]) throws {
        let file = try OutputFile(path)
        try file.write(bytes)
        try file.close()
    }

    static func reason() -> String { unsafe String(cString: strerror(errno)) }

    fileprivate static func write(_ descriptor: Int32, _ bytes: [UInt8]) {
        guard !complete(descriptor, bytes), errno == EPIPE, descriptor == 1 else { return }
        // A networking library has the signal ignored, which would have ended the process here.
        signal(SIGPIPE, SIG_DFL)
        kill(getpid(), SIGPIPE)
    }

    /// False with `errno` set if not everything could be written.
    fileprivate static func complete(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
        unsafe bytes.withUnsafeBytes { buffer in
            var done = 0
            while done < buffer.count {
                let written = unsafe Glibc.write(
                    descriptor, buffer.baseAddress! + done, buffer.count - done)
                if written < 0 {
                    if errno == EINTR { continue }
                    return false
                }
                done += written
            }
            return true
        }
    }

    /// Longest text taken from a file or a stream: far beyond any context, and little memory.
    private static let longestInputBytes = 64 << 20

    private static func readAll(descriptor: Int32, name: String) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { buffer in
                unsafe read(descriptor, buffer.baseAddress!, buffer.count)
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw InputError("\(name): cannot be read: \(reason())", code: Failure.noInput)
            }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
            guard bytes.count <= longestInputBytes else {
                throw InputError(
                    "\(name): longer than \(longestInputBytes >> 20) MiB; give less text",
                    code: Failure.badData)
            }
        }
    }
}

/// A file being written. It appears under its name only when it is complete.
struct OutputFile: ~Copyable {
    private let path: String
    private let temporary: String
    private let descriptor: Int32

    init(_ path: String) throws {
        self.path = path
        temporary = "\(path).partial-\(getpid())"
        descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw InputError(
                "\(path): cannot be created: \(Console.reason())", code: Failure.cannotCreate)
        }
    }

    borrowing func write(_ bytes: [UInt8]) throws {
        guard Console.complete(descriptor, bytes) else {
            let why = Console.reason()
            unsafe unlink(temporary)
            throw InputError("\(path): cannot be written: \(why)", code: Failure.disk)
        }
    }

    consuming func close() throws {
        guard Glibc.close(descriptor) == 0, unsafe rename(temporary, path) == 0 else {
            let why = Console.reason()
            unsafe unlink(temporary)
            throw InputError("\(path): cannot be written: \(why)", code: Failure.disk)
        }
    }
}
