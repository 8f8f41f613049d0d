import Logging
import Synchronization

/// What all requests of a service share.
final class ServiceContext: Sendable {
    let logger: Logger
    let metrics = RequestMetrics()
    private let settings: Mutex<LiveSettings>

    init(logger: Logger, live: LiveSettings) {
        self.logger = logger
        settings = Mutex(live)
    }

    /// What a reload may change; a request sees one state of it.
    var live: LiveSettings {
        get { settings.withLock { $0 } }
        set { settings.withLock { $0 = newValue } }
    }
}

/// The part of a configuration that takes effect without a new start.
struct LiveSettings: Sendable {
    var keys: APIKeys
    var keysOnSocket: Bool
    var peers: PeerPolicy
    var sampling: SamplingDefaults
    var drainSeconds: Double

    /// - Throws: `ServiceError` for a file of keys that cannot be used, or a user that does not
    ///   exist.
    init(
        _ configuration: ServiceConfiguration, environment: (String) -> String?
    ) throws(ServiceError) {
        // LoadCredential=api-keys:... of the unit; a file that is named wins.
        let credential = environment("CREDENTIALS_DIRECTORY").map { "\($0)/api-keys" }
        if let file = configuration.apiKeysFile {
            keys = try APIKeys(path: file)
        } else if let credential, APIKeys.exists(credential) {
            keys = try APIKeys(path: credential)
        } else {
            keys = .none
        }
        keysOnSocket = configuration.keysOnSocket ?? true
        peers = try PeerPolicy(
            users: configuration.allowedUsers, groups: configuration.allowedGroups)
        sampling = configuration.sampling
        drainSeconds = configuration.drainTimeout ?? 30
    }
}
