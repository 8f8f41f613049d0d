import Generation
import OpenAIAPI

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

    /// How a request's tokens are drawn: as it says, else as the configuration says, else as `run`
    /// does.
    func sampler(_ fields: SamplingFields) -> SamplerSettings {
        var settings = SamplerSettings()
        func set(_ key: WritableKeyPath<SamplerSettings, Float>, _ values: Double?...) {
            if let value = values.compactMap({ $0 }).first { settings[keyPath: key] = Float(value) }
        }
        set(\.temperature, fields.temperature, sampling.temperature)
        set(\.topP, fields.topP, sampling.topP)
        set(\.minP, fields.minP, sampling.minP)
        set(\.typicalP, fields.typicalP, sampling.typicalP)
        set(\.repetitionPenalty, fields.repetitionPenalty, sampling.repeatPenalty)
        set(\.presencePenalty, fields.presencePenalty, sampling.presencePenalty)
        set(\.frequencyPenalty, fields.frequencyPenalty, sampling.frequencyPenalty)
        settings.topK = fields.topK ?? sampling.topK ?? settings.topK
        settings.penaltyWindow = fields.penaltyWindow ?? settings.penaltyWindow
        settings.seed =
            fields.seed.map { UInt64(bitPattern: Int64($0)) }
            ?? .random(in: 0...UInt64(UInt32.max))
        settings.logitBias = fields.logitBias.mapValues { Float($0) }
        return settings
    }
}
