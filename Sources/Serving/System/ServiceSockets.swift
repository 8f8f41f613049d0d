import CHost
import Glibc

/// The sockets of a service: those that systemd passed to it, else its own.
struct ServiceSockets: Sendable {
    let all: [ListeningSocket]
    /// Whether a new connection would start the service again if it ended.
    let areActivated: Bool

    /// Opens them.
    ///
    /// - Parameter hasKeys: Requests need an API key.
    /// - Throws: `ServiceError`, and nothing stays open.
    init(
        _ configuration: ServiceConfiguration, environment: (String) -> String?, hasKeys: Bool
    ) throws(ServiceError) {
        let adopted = try ListeningSocket.adopted(environment: environment)
        areActivated = !adopted.isEmpty
        // What the administrator put into a socket unit was meant.
        guard adopted.isEmpty else {
            all = adopted
            return
        }
        try ServiceSockets.check(configuration, hasKeys: hasKeys)
        var own: [ListeningSocket] = []
        do throws(ServiceError) {
            // A socket that was asked for goes beside TCP; the one by default does not.
            if configuration.socket != nil || configuration.listen == nil {
                let path =
                    if let socket = configuration.socket { socket } else {
                        try ServiceSockets.defaultPath(environment)
                    }
                own.append(
                    try .unix(
                        path, mode: configuration.mode ?? 0o660, group: configuration.group))
            }
            for case .tcp(let host, let port) in configuration.listen ?? [] {
                own.append(try .tcp(host, port: port))
            }
        } catch {
            for socket in own {
                close(socket.descriptor)
                socket.removeFile()
            }
            throw error
        }
        all = own
    }

    func removeFiles() { for socket in all { socket.removeFile() } }

    /// Refuses to let strangers in by accident: an address that others can reach has to be asked for
    /// twice, and to ask for keys.
    static func check(
        _ configuration: ServiceConfiguration, hasKeys: Bool
    ) throws(ServiceError) {
        for address in configuration.listen ?? [] where !address.isLocal {
            guard configuration.listenAnywhere ?? false else {
                throw ServiceError(
                    "--listen \(address) can be reached from other machines; if that is meant, add --listen-anywhere "
                        + "(listen_anywhere = true) and an --api-keys-file, else give 127.0.0.1")
            }
            guard hasKeys else {
                throw ServiceError(
                    "--listen \(address) can be reached from other machines, and no API keys are set; give an "
                        + "--api-keys-file")
            }
        }
    }

    /// Where clients look without being told: the unit's runtime directory, for root /run/sluice,
    /// for anybody else the session's runtime directory.
    static func defaultPath(_ environment: (String) -> String?) throws(ServiceError) -> String {
        if let directory = environment("RUNTIME_DIRECTORY")?.split(separator: ":").first {
            return "\(directory)/sluice.sock"
        }
        let system = "/run/sluice"
        if geteuid() == 0 { unsafe mkdir(system, 0o755) }
        if unsafe access(system, W_OK) == 0 { return "\(system)/sluice.sock" }
        if let session = environment("XDG_RUNTIME_DIR"), !session.isEmpty {
            return "\(session)/sluice.sock"
        }
        throw ServiceError(
            "no place for the socket: /run/sluice is not writable and XDG_RUNTIME_DIR is not set; give --socket"
        )
    }
}
