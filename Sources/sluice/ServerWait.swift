import SluiceClient

/// Waiting for a server that loads its model: a socket that systemd watches over starts one when
/// somebody connects.
enum ServerWait {
    /// Returns when the server can answer, or with the signal that came before.
    ///
    /// - Parameter check: called again and again; what it throws ends the waiting.
    static func untilReady(
        _ client: SluiceClient, _ signals: Signals? = nil, isStarting: Bool = false,
        check: () throws -> Void = {}
    ) throws -> Int32? {
        var said = ""
        while true {
            try check()
            do {
                let health = try Waiting.forTask { try await client.health() }
                if health.isReady { return nil }
                if health.status != said { Console.progress("sluice: \(health.status)") }
                said = health.status
            } catch let error as ClientError where isStarting && error.kind == .unreachable {
                // It does not listen yet.
            }
            if let signals {
                if let number = signals.next(withinMilliseconds: 200) { return number }
            } else {
                try Waiting.forTask { try await Task.sleep(for: .milliseconds(200)) }
            }
        }
    }
}
