import CHost
import Glibc

/// A socket that listens: one of our own, or one that systemd opened for us.
///
/// One of our own has a lock beside it (`PATH.lock`), which ends with the process: a second service
/// on the same path is refused, and a file that an earlier one left behind is replaced.
public struct ListeningSocket: Sendable {
    /// Where it listens.
    public enum Address: Sendable, Equatable, CustomStringConvertible {
        /// A path; '@' begins a name of the abstract namespace.
        case unix(String)
        /// A numeric address of IPv4 or IPv6.
        case tcp(host: String, port: Int)

        public var description: String {
            switch self {
            case .unix(let path): path
            case .tcp(let host, let port):
                host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            }
        }

        /// `HOST:PORT` with a numeric address or the word localhost; nil for anything else. Names
        /// are not looked up: what one means may change, and with it who can reach the service.
        public init?(hostAndPort text: String) {
            guard let colon = text.lastIndex(of: ":") else { return nil }
            var host = String(text[..<colon])
            let digits = text[text.index(after: colon)...]
            guard let port = UInt16(digits), digits.utf8.allSatisfy({ (48...57).contains($0) })
            else { return nil }
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = String(host.dropFirst().dropLast())
            } else if host.contains(":") {
                return nil
            }
            if host == "localhost" { host = "127.0.0.1" }
            guard unsafe host_is_loopback(host) >= 0 else { return nil }
            self = .tcp(host: host, port: Int(port))
        }

        /// Whether nobody outside this machine can reach it.
        public var isLocal: Bool {
            switch self {
            case .unix: true
            case .tcp(let host, _): unsafe host_is_loopback(host) == 1
            }
        }
    }

    public let address: Address
    let descriptor: Int32
    /// Of a socket file that is ours to remove: device and inode; and the descriptor that holds its
    /// lock.
    private let file: (device: UInt64, inode: UInt64, lock: Int32)?

    /// Listens at `path`.
    ///
    /// - Parameters:
    ///   - mode: Of the socket file; who may not write it cannot connect.
    ///   - group: Of the socket file; nil leaves the process's.
    /// - Throws: `ServiceError` in one line with the remedy.
    static func unix(
        _ path: String, mode: UInt32, group: String?
    ) throws(ServiceError) -> ListeningSocket {
        var groupID: Int64 = -1
        if let group {
            groupID = unsafe UInt32(group).map(Int64.init) ?? host_group_id(group)
            guard groupID >= 0 else {
                throw ServiceError(
                    "group '\(group)' of the socket does not exist; create it (groupadd --system \(group)), or "
                        + "name another")
            }
        }
        let lock = unsafe host_lock_file(path + ".lock")
        guard lock >= 0 else {
            if -lock == EWOULDBLOCK {
                throw ServiceError(
                    "\(path): another service listens there; stop it, or name another --socket")
            }
            throw ServiceError(
                "\(path).lock: cannot be made: \(reason(-lock)); make the directory writable for this "
                    + "user, or name another --socket")
        }
        var identity: (UInt64, UInt64) = (0, 0)
        let descriptor = unsafe withUnsafeMutablePointer(to: &identity) { pair in
            unsafe pair.withMemoryRebound(to: UInt64.self, capacity: 2) {
                unsafe host_listen_unix(path, mode, groupID, $0)
            }
        }
        guard descriptor >= 0 else {
            close(lock)
            switch -descriptor {
            case EEXIST:
                throw ServiceError(
                    "\(path): a file that is no socket lies there; remove it, or name another --socket"
                )
            case ENAMETOOLONG:
                throw ServiceError(
                    "\(path): longer than the 107 bytes a socket's path may have; name a shorter --socket"
                )
            default:
                throw ServiceError(
                    "\(path): cannot listen there: \(reason(-descriptor)); name another --socket")
            }
        }
        return ListeningSocket(
            address: .unix(path), descriptor: descriptor, file: (identity.0, identity.1, lock))
    }

    /// Listens at a numeric address.
    static func tcp(_ host: String, port: Int) throws(ServiceError) -> ListeningSocket {
        var bound: UInt16 = 0
        let descriptor = unsafe host_listen_tcp(host, UInt16(port), &bound)
        let address = Address.tcp(host: host, port: descriptor < 0 ? port : Int(bound))
        guard descriptor >= 0 else {
            throw ServiceError(
                "\(address): cannot listen there: \(reason(-descriptor)); give another --listen")
        }
        return ListeningSocket(address: address, descriptor: descriptor, file: nil)
    }

    /// The sockets that systemd passed to this process (sd_listen_fds(3)); empty if none.
    ///
    /// - Parameters:
    ///   - environment: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; values for another process are
    ///     not ours.
    ///   - first: Number of the first descriptor; 3 by protocol.
    static func adopted(
        environment: (String) -> String?, first: Int32 = 3
    ) throws(ServiceError) -> [ListeningSocket] {
        guard let count = environment("LISTEN_FDS"),
            environment("LISTEN_PID").map({ $0 == "\(getpid())" }) ?? false
        else { return [] }
        guard let count = Int32(count), (0...64).contains(count) else {
            throw ServiceError("LISTEN_FDS=\(count) is no number of sockets")
        }
        let names = (environment("LISTEN_FDNAMES") ?? "").split(
            separator: ":", omittingEmptySubsequences: false)
        var sockets: [ListeningSocket] = []
        for index in 0..<count {
            let name = names.indices.contains(Int(index)) ? " (\(names[Int(index)]))" : ""
            sockets.append(try adopted(first + index, name: name))
        }
        return sockets
    }

    private static func adopted(
        _ descriptor: Int32, name: String
    ) throws(ServiceError) -> ListeningSocket {
        var text = [CChar](repeating: 0, count: 256)
        var port: UInt16 = 0
        let kind = unsafe host_adopt_listener(descriptor, &text, text.count, &port)
        guard kind >= 0 else {
            throw ServiceError(
                "descriptor \(descriptor)\(name) that was passed to the service is no listening stream "
                    + "socket (\(reason(-kind))); give the socket unit ListenStream= and Accept=no")
        }
        let path = String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return ListeningSocket(
            address: kind == 0 ? .unix(path) : .tcp(host: path, port: Int(port)),
            descriptor: descriptor, file: nil)
    }

    /// Removes the socket's file if it is ours. The descriptor is its channel's to close.
    func removeFile() {
        guard let file, case .unix(let path) = address else { return }
        let identity = [file.device, file.inode]
        unsafe host_remove_socket(path, identity)
        close(file.lock)
    }

    private static func reason(_ error: Int32) -> String { unsafe String(cString: strerror(error)) }
}

/// Something about a service that somebody has to put right: one line with the thing, the place and
/// the remedy.
public struct ServiceError: Error, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}
