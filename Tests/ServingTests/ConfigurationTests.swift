import ExpertStreaming
import Testing

@testable import Serving

struct ConfigurationTests {
    @Test func everyKeyIsRead() throws {
        let configuration = try ServiceConfiguration(
            toml: """
                model = "/srv/m.gguf"
                alias = "m"
                chat_template = "t.jinja"
                socket = "/run/sluice/sluice.sock"
                mode = "0600"
                group = "sluice"
                listen = ["127.0.0.1:8080", "[::1]:8080"]
                listen_anywhere = false
                api_keys_file = "/etc/sluice/api-keys"
                keys_on_socket = false
                allowed_users = ["root", 1000]
                allowed_groups = ["sluice"]
                slots = 2
                queue = 8
                idle_release = "10min"
                idle_exit = 90
                drain_timeout = 1.5
                body_limit = "2M"
                connections = 16
                log_level = "debug"
                memory = "3G"
                cache = "2x"
                ctx = 8192
                kv = "q8_0"
                plane_shares = "1,0.7"

                [prefix_cache]
                directory = "/var/lib/sluice"
                size = "1G"

                [sampling]
                temperature = 1
                top_k = 0
                max_tokens = 512
                """, path: "c.toml")
        #expect(configuration.model == "/srv/m.gguf")
        #expect(configuration.mode == 0o600)
        #expect(
            configuration.listen == [
                .tcp(host: "127.0.0.1", port: 8080), .tcp(host: "::1", port: 8080),
            ])
        #expect(configuration.allowedUsers == ["root", "1000"])
        #expect(configuration.idleRelease == 600)
        #expect(configuration.idleExit == 90)
        #expect(configuration.drainTimeout == 1.5)
        #expect(configuration.bodyLimit?.bytes == 2 << 20)
        #expect(configuration.prefixCache.size?.bytes == 1 << 30)
        #expect(configuration.sampling.temperature == 1)
        #expect(configuration.sampling.maxTokens == 512)
        #expect(
            configuration.engine == [
                .init(name: "memory", value: "3G"), .init(name: "cache", value: "2x"),
                .init(name: "ctx", value: "8192"), .init(name: "kv", value: "q8_0"),
                .init(name: "plane-shares", value: "1,0.7"),
            ])
    }

    /// Text, and what the message has to name.
    @Test(arguments: [
        ("slotz = 3", "no key is called 'slotz'"),
        ("[sampling]\ntemp = 1", "no key is called 'sampling.temp'"),
        ("[prefix_cache]\nbytes = 1", "no key is called 'prefix_cache.bytes'"),
        ("slots = \"a\"", "slots: expected an integer from 1 to 256, found \"a\""),
        ("slots = 0", "slots: expected an integer from 1 to 256, found 0"),
        ("model = \"\"", "model: expected text in quotes, found \"\""),
        ("mode = 660", "mode: expected permissions in octal digits in quotes"),
        ("mode = \"0990\"", "mode: expected permissions"),
        ("mode = \"07777\"", "mode: expected permissions"),
        ("listen = \"example.org:80\"", "listen: expected HOST:PORT"),
        ("listen = \"127.0.0.1:99999\"", "listen: expected HOST:PORT"),
        ("listen = \"::1:80\"", "listen: expected HOST:PORT"),
        ("allowed_users = \"root\"", "allowed_users: expected names"),
        ("allowed_users = [[]]", "allowed_users: expected names"),
        ("idle_release = \"soon\"", "idle_release: expected seconds"),
        ("idle_release = -1", "idle_release: expected seconds"),
        ("idle_exit = nan", "idle_exit: expected seconds"),
        ("log_level = \"loud\"", "log_level: expected one of trace"),
        ("body_limit = \"1\"", "body_limit: expected a size between"),
        ("sampling = 3", "sampling: expected a table"),
        ("memory = true", "memory: expected text in quotes, or a number, found true"),
        ("slots = ", "line 1, column"),
        ("slots = 1\nslots = 2", "line 2, column"),
        ("a = 1\u{0}", "a byte of 0"),
    ])
    func whatIsWrongIsNamed(text: String, message: String) throws {
        let error = try #require(throws: ServiceError.self) {
            try ServiceConfiguration(toml: text, path: "/etc/c.toml")
        }
        #expect(error.description.hasPrefix("/etc/c.toml: "))
        #expect(error.description.contains(message), "\(error)")
        #expect(!error.description.contains("\n"))
    }

    @Test func flagsWin() throws {
        let file = try ServiceConfiguration(
            toml: "slots = 2\nqueue = 7\nmodel = \"a\"", path: "c.toml")
        var flags = ServiceConfiguration()
        flags.slots = 3
        flags.model = "b"
        let merged = file.overridden(by: flags)
        #expect(merged.slots == 3)
        #expect(merged.queue == 7)
        #expect(merged.model == "b")
    }

    @Test func whatNeedsARestartIsNamed() throws {
        let old = try ServiceConfiguration(
            toml: "slots = 2\ncache = \"2x\"\nmemory = \"1G\"", path: "c.toml")
        let new = try ServiceConfiguration(
            toml: "slots = 3\ncache = \"3x\"\nmemory = \"2G\"\ndrain_timeout = 3\nplane_shares = \"1\"",
            path: "c.toml")
        #expect(new.needingRestart(since: old) == ["slots", "cache", "plane_shares"])
        #expect(new.needingRestart(since: new).isEmpty)
    }

    @Test(arguments: [
        ("90", 90), ("90s", 90), ("10min", 600), ("10 min", 600), ("2h", 7200), ("1.5h", 5400),
        ("3m", 180), ("250ms", 0.25),
    ])
    func timesAreRead(text: String, seconds: Double) {
        #expect(TimeSpan(text)?.seconds == seconds)
    }

    @Test(arguments: ["", "s", "-1", "1e3", "1d", ".5", "1..2", "nan"])
    func whatIsNoTimeIsRefused(text: String) {
        #expect(TimeSpan(text) == nil)
    }
}
