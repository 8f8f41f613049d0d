import Glibc

extension SluiceClient {
    /// Where a server listens.
    public enum Address: Sendable, Hashable, CustomStringConvertible {
        /// The path of a Unix socket.
        case socket(String)
        /// A host's name or address, and a port. What travels is not encrypted.
        case tcp(host: String, port: Int)

        /// The socket of the user's own service, `$XDG_RUNTIME_DIR/sluice.sock`, where there is one;
        /// else that of the system's.
        public static var standard: Address {
            if let folder = unsafe getenv("XDG_RUNTIME_DIR") {
                let path = unsafe String(cString: folder) + "/sluice.sock"
                if unsafe access(path, F_OK) == 0 { return .socket(path) }
            }
            return .socket(systemSocket)
        }

        /// Where the installed unit `sluice.socket` listens.
        public static let systemSocket = "/run/sluice/sluice.sock"

        /// Reads `HOST:PORT`; an IPv6 address stands in brackets, as in `[::1]:8080`. Nil for anything
        /// else.
        public init?(tcp text: String) {
            guard let colon = text.lastIndex(of: ":"),
                let port = UInt16(text[text.index(after: colon)...]), port > 0
            else { return nil }
            var host = text[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = host.dropFirst().dropLast()
            } else if host.contains(":") {
                return nil
            }
            if host.isEmpty || host.contains("/") { return nil }
            self = .tcp(host: String(host), port: Int(port))
        }

        public var description: String {
            switch self {
            case .socket(let path): path
            case .tcp(let host, let port):
                host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            }
        }
    }
}
