import ArgumentParser
import Glibc
import SluiceClient

/// Which server, for commands that ask one.
struct ServiceArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp("Ask the server that listens on this Unix socket.", valueName: "path"))
    var socket: String?

    @Option(
        help: ArgumentHelp(
            "Ask the server that listens on this TCP port; what travels is not encrypted.",
            valueName: "host:port"))
    var connect: String?

    func validate() throws {
        if socket != nil, connect != nil {
            throw ValidationError("Give --socket or --connect, not both.")
        }
        if let connect, SluiceClient.Address(tcp: connect) == nil {
            throw ValidationError("--connect \(connect) is not HOST:PORT.")
        }
    }

    /// The server named; nil where none is.
    var address: SluiceClient.Address? {
        socket.map { .socket($0) } ?? connect.flatMap { SluiceClient.Address(tcp: $0) }
    }

    /// A client of a server; the API key, where one is needed, is in $SLUICE_API_KEY: arguments can be
    /// read by every user of the machine.
    static func client(_ address: SluiceClient.Address) -> SluiceClient {
        SluiceClient(
            address, apiKey: unsafe getenv("SLUICE_API_KEY").map { unsafe String(cString: $0) })
    }
}
