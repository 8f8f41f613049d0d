import Glibc
import Logging
import Testing

@testable import Serving

@Suite(.serialized, .timeLimit(.minutes(5)))
struct SystemTests {
    /// Permissions of a file; nil if there is none.
    private func mode(of path: String) -> mode_t? {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? status.st_mode & 0o777 : nil
    }

    // MARK: Sockets

    @Test func aSocketHasItsModeAndGoesWithItsService() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s.sock"
        let socket = try ListeningSocket.unix(path, mode: 0o620, group: "\(getgid())")
        #expect(mode(of: path) == 0o620)
        close(socket.descriptor)
        socket.removeFile()
        #expect(mode(of: path) == nil)
    }

    @Test func aSecondServiceIsRefused() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s.sock"
        let first = try ListeningSocket.unix(path, mode: 0o600, group: nil)
        let error = try #require(throws: ServiceError.self) {
            try ListeningSocket.unix(path, mode: 0o600, group: nil)
        }
        #expect(error.description.contains("another service listens there"))
        #expect(mode(of: path) != nil)
        close(first.descriptor)
        first.removeFile()
    }

    @Test func aFileLeftBehindIsReplacedAndAnothersIsKept() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s.sock"
        // Nobody listens at it any more, as after a crash.
        var left: DatagramSocket? = try DatagramSocket(path)
        #expect(left != nil)
        left = nil
        #expect(mode(of: path) != nil)
        let socket = try ListeningSocket.unix(path, mode: 0o600, group: nil)
        // Somebody else has taken the place since.
        let removed = unsafe unlink(path)
        try #require(removed == 0)
        let other = try DatagramSocket(path)
        close(socket.descriptor)
        socket.removeFile()
        #expect(mode(of: path) != nil)
        #expect(other.path == path)
    }

    @Test func aFileThatIsNoSocketIsKept() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write("s.sock", "precious")
        let error = try #require(throws: ServiceError.self) {
            try ListeningSocket.unix(path, mode: 0o600, group: nil)
        }
        #expect(error.description.contains("no socket lies there"))
        #expect(try SmallTextFile.read(path, limitBytes: 100) == "precious")
    }

    @Test func aPathTooLongAndAnUnknownGroupAreNamed() throws {
        let directory = try TemporaryDirectory()
        let long = directory.path + "/" + String(repeating: "s", count: 120)
        let error = try #require(throws: ServiceError.self) {
            try ListeningSocket.unix(long, mode: 0o600, group: nil)
        }
        #expect(error.description.contains("107 bytes"))
        let group = try #require(throws: ServiceError.self) {
            try ListeningSocket.unix(
                directory.path + "/s", mode: 0o600, group: "no-such-group")
        }
        #expect(group.description.contains("'no-such-group'"))
    }

    @Test(arguments: [
        ("127.0.0.1:80", true), ("localhost:80", true), ("[::1]:80", true),
        ("127.8.9.1:80", true), ("0.0.0.0:80", false), ("[::]:80", false),
        ("192.168.1.2:80", false), ("[::ffff:127.0.0.1]:80", false),
    ])
    func loopbackIsToldFromTheRest(text: String, isLocal: Bool) throws {
        #expect(try #require(ListeningSocket.Address(hostAndPort: text)).isLocal == isLocal)
    }

    @Test func strangersAreLetInOnlyWhenAskedTwiceAndWithKeys() throws {
        var configuration = ServiceConfiguration()
        configuration.listen = [.tcp(host: "0.0.0.0", port: 0)]
        func problem(_ hasKeys: Bool) throws -> String {
            try #require(throws: ServiceError.self) {
                try ServiceSockets(configuration, environment: { _ in nil }, hasKeys: hasKeys)
            }.description
        }
        #expect(try problem(true).contains("--listen-anywhere"))
        configuration.listenAnywhere = true
        #expect(try problem(false).contains("no API keys"))
        let sockets = try ServiceSockets(configuration, environment: { _ in nil }, hasKeys: true)
        #expect(sockets.all.count == 1)
        for socket in sockets.all { close(socket.descriptor) }
    }

    @Test func socketsOfSystemdAreTaken() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/s.sock"
        let unix = try ListeningSocket.unix(path, mode: 0o600, group: nil)
        let tcp = try ListeningSocket.tcp("127.0.0.1", port: 0)
        // Side by side, far from any other descriptor.
        let first: Int32 = 700
        #expect(dup2(unix.descriptor, first) == first)
        #expect(dup2(tcp.descriptor, first + 1) == first + 1)
        func adopted(_ values: [String: String]) throws -> [ListeningSocket] {
            try ListeningSocket.adopted(environment: { values[$0] }, first: first)
        }
        let sockets = try adopted([
            "LISTEN_PID": "\(getpid())", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:tcp",
        ])
        #expect(sockets.map(\.address) == [.unix(path), tcp.address])
        #expect(try adopted(["LISTEN_PID": "1", "LISTEN_FDS": "2"]).isEmpty)
        #expect(try adopted(["LISTEN_FDS": "2"]).isEmpty)
        #expect(throws: ServiceError.self) {
            try adopted(["LISTEN_PID": "\(getpid())", "LISTEN_FDS": "many"])
        }
        // One that does not listen.
        let other = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #expect(dup2(other, first + 2) == first + 2)
        let error = try #require(throws: ServiceError.self) {
            try adopted([
                "LISTEN_PID": "\(getpid())", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "api:tcp:odd",
            ])
        }
        #expect(error.description.contains("descriptor 702 (odd)"))
        // A socket that came from systemd is not ours to remove.
        for socket in sockets { socket.removeFile() }
        #expect(mode(of: path) != nil)
        for descriptor in [first, first + 1, first + 2, other, unix.descriptor, tcp.descriptor] {
            close(descriptor)
        }
        unix.removeFile()
    }

    // MARK: Who may

    @Test func usersAndGroupsAreLetIn() throws {
        #expect(PeerPolicy.open.allows(user: 5, group: 5))
        let users = try PeerPolicy(users: ["root", "4242"], groups: nil)
        #expect(users.allows(user: 0, group: 77))
        #expect(users.allows(user: 4242, group: 77))
        #expect(!users.allows(user: 4243, group: 77))
        let groups = try PeerPolicy(users: nil, groups: ["4242"])
        #expect(groups.allows(user: 77, group: 4242))
        #expect(!groups.allows(user: 77, group: 77))
        // root is in the group root by the database, whatever group it runs under.
        let database = try PeerPolicy(users: [], groups: ["root"])
        #expect(database.allows(user: 0, group: 4242))
        let nobody = try PeerPolicy(users: [], groups: nil)
        #expect(!nobody.allows(user: 0, group: 0))
        #expect(throws: ServiceError.self) {
            try PeerPolicy(users: ["no-such-user"], groups: nil)
        }
    }

    @Test func keysAreAcceptedAsWholes() throws {
        let directory = try TemporaryDirectory()
        let keys = try APIKeys(
            path: directory.write("keys", "# first\nalpha\n\n  beta  \n#gamma\n", mode: 0o640))
        #expect(keys.accept("alpha"))
        #expect(keys.accept("beta"))
        for other in ["", "alph", "alphaa", "gamma", "#gamma", "alpha\nbeta", "# first", "  beta"] {
            #expect(!keys.accept(other), "\(other)")
        }
        #expect(!APIKeys.none.accept(""))
    }

    @Test(arguments: [
        ("alpha\n", mode_t(0o644), "chmod o-rwx"), ("# nothing\n\n", 0o600, "no API key"),
        ("alpha\n", 0o602, "chmod o-rwx"),
    ])
    func aFileOfKeysThatProtectsNothingIsRefused(
        text: String, mode: mode_t, words: String
    ) throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write("keys", text, mode: mode)
        let error = try #require(throws: ServiceError.self) { try APIKeys(path: path) }
        #expect(error.description.contains(words))
        #expect(!error.description.contains("alpha"))
    }

    @Test func keysComeFromSystemdsCredentials() throws {
        let directory = try TemporaryDirectory()
        _ = try directory.write("api-keys", "alpha\n")
        let environment = ["CREDENTIALS_DIRECTORY": directory.path]
        let live = try LiveSettings(ServiceConfiguration(), environment: { environment[$0] })
        #expect(live.keys.accept("alpha"))
        var configuration = ServiceConfiguration()
        configuration.apiKeysFile = try directory.write("others", "beta\n")
        let named = try LiveSettings(configuration, environment: { environment[$0] })
        #expect(named.keys.accept("beta"))
        #expect(!named.keys.accept("alpha"))
    }

    // MARK: systemd

    @Test(arguments: [true, false])
    func aManagerIsTold(isAbstract: Bool) async throws {
        let directory = try TemporaryDirectory()
        let manager = try DatagramSocket(
            isAbstract ? "@sluice-test-\(getpid())" : directory.path + "/notify")
        let notifier = ServiceNotifier(environment: { $0 == "NOTIFY_SOCKET" ? manager.path : nil })
        #expect(notifier.isActive)
        notifier.show("idle")
        notifier.show("idle")
        notifier.ready()
        #expect(try await manager.receive() == "STATUS=idle")
        #expect(try await manager.receive() == "READY=1")
        notifier.reloading()
        #expect(try await manager.receive().hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
        notifier.extendTimeout(seconds: 30)
        #expect(try await manager.receive() == "EXTEND_TIMEOUT_USEC=30000000")
    }

    @Test func withoutAManagerNothingIsTold() {
        let notifier = ServiceNotifier(environment: { _ in nil })
        #expect(!notifier.isActive)
        notifier.ready()
    }

    @Test func theWatchdogIsFedByProgressAndByIdleness() throws {
        let own = ["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "\(getpid())"]
        var watchdog = try #require(Watchdog(environment: { own[$0] }))
        #expect(watchdog.intervalSeconds == 1.5)
        let looks: [(heartbeat: UInt64, isIdle: Bool)] = [
            (0, true), (0, true), (5, false), (5, false), (5, false), (6, false), (6, true),
        ]
        var fed: [Bool] = []
        var missed: [Int] = []
        for look in looks {
            fed.append(watchdog.isFed(heartbeat: look.heartbeat, isIdle: look.isIdle))
            missed.append(watchdog.missedFeeds)
        }
        #expect(fed == [true, true, true, false, false, true, true])
        #expect(missed == [0, 0, 0, 1, 2, 0, 0])
        let other = ["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"]
        #expect(Watchdog(environment: { other[$0] }) == nil)
        #expect(Watchdog(environment: { _ in nil }) == nil)
    }

    // MARK: The log

    @Test func anEntryOfTheJournalHasItsFields() async throws {
        let directory = try TemporaryDirectory()
        let journal = try DatagramSocket(directory.path + "/journal")
        let output = LogOutput(form: .journal(journal.path), level: .info)
        var logger = Logger(label: "x") { _ in ServiceLogHandler(output) }
        logger[metadataKey: "request-id"] = "req_1"
        logger.info("two\nlines", metadata: ["prompt-tokens": "7"])
        logger.debug("not this one")
        output.level = .debug
        logger.debug("but this one")
        let entry = try await journal.receiveBytes()
        let text = String(decoding: entry, as: UTF8.self)
        let length: [UInt8] = [9, 0, 0, 0, 0, 0, 0, 0]
        #expect(
            entry.starts(with: Array("MESSAGE\n".utf8) + length + Array("two\nlines\n".utf8)))
        #expect(text.contains("\nPRIORITY=6\n"))
        #expect(text.contains("\nSLUICE_REQUEST_ID=req_1\n"))
        #expect(text.contains("\nSLUICE_PROMPT_TOKENS=7\n"))
        #expect(text.contains("\nSYSLOG_IDENTIFIER=sluice\n"))
        #expect(try await journal.receive().hasPrefix("MESSAGE=but this one\n"))
    }

    @Test func aLineIsOneLine() throws {
        var ends: [Int32] = [0, 0]
        let status = unsafe pipe(&ends)
        try #require(status == 0)
        let output = LogOutput(form: .numbered, level: .info, descriptor: ends[1])
        let logger = Logger(label: "x") { _ in ServiceLogHandler(output) }
        logger.warning("GET /a\n<2>forged", metadata: ["b": "c\nd"])
        close(ends[1])
        var buffer = [UInt8](repeating: 0, count: 1000)
        let count = unsafe read(ends[0], &buffer, buffer.count)
        #expect(String(decoding: buffer[..<count], as: UTF8.self) == "<4>GET /a <2>forged b=c d\n")
        close(ends[0])
    }
}
