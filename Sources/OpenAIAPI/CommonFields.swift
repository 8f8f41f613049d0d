import JSONTree

/// What chat and text completions have in common.
struct CommonFields {
    var model: String?
    var sampling: SamplingFields
    var stops: [String]
    var choices: Int
    var streams: Bool
    var includesUsage: Bool
    var user: String?
    var responseFormat: ResponseFormat
    var ignoresEndOfText: Bool
    var usesPrefixCache: Bool

    init(_ fields: inout Fields, limits: RequestLimits) throws(APIError) {
        model = try fields.string("model")
        sampling = try SamplingFields(&fields, limits: limits)
        stops = try Self.stops(&fields, limits)
        choices = try fields.integer("n", 1...limits.choices) ?? 1
        streams = try fields.bool("stream") ?? false
        includesUsage = false
        user = try fields.string("user")
        responseFormat = try ResponseFormat(&fields)
        ignoresEndOfText = try fields.bool("ignore_eos") ?? false
        usesPrefixCache = try fields.bool("cache_prompt") ?? true
        // Of OpenAI's own service: where it bills, stores and schedules. The answer is the same.
        fields.ignore(
            "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
            "prompt_cache_retention", "prediction")
        guard let options = fields.value("stream_options") else { return }
        guard streams else {
            throw .invalid(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param: "stream_options", code: "invalid_value")
        }
        var stream = try Fields(options, path: "stream_options")
        includesUsage = try stream.bool("include_usage") ?? false
        stream.ignore("include_obfuscation")
        try stream.finish()
    }

    private static func stops(_ fields: inout Fields, _ limits: RequestLimits) throws(APIError)
        -> [String]
    {
        guard let value = fields.value("stop") else { return [] }
        let path = fields.path(of: "stop")
        guard value.string != nil || value.array != nil else {
            throw .wrongType(path, expected: "a string or an array of strings", value)
        }
        let elements = value.array ?? [value]
        try fields.checkCount(elements.count, atMost: limits.stops, "stop")
        var stops: [String] = []
        for (index, element) in elements.enumerated() {
            let place = value.array == nil ? path : "\(path)[\(index)]"
            guard let stop = element.string else {
                throw .wrongType(place, expected: "a string", element)
            }
            guard (1...limits.stopBytes).contains(stop.utf8.count) else {
                throw .invalid(
                    "Invalid '\(place)': expected a string of 1 to \(limits.stopBytes) bytes, but "
                        + "got \(stop.utf8.count) instead.", param: place,
                    code: stop.isEmpty ? "empty_string" : "string_above_max_length")
            }
            stops.append(stop)
        }
        return stops
    }
}

extension JSONObject {
    /// Writes what is given, so that the server's own defaults hold for the rest.
    mutating func writeCommon(
        stops: [String], choices: Int, streams: Bool, includesUsage: Bool, user: String?,
        ignoresEndOfText: Bool, usesPrefixCache: Bool
    ) {
        if !stops.isEmpty { self["stop"] = .array(stops.map { .string($0) }) }
        if choices != 1 { self["n"] = .integer(choices) }
        if streams { self["stream"] = true }
        if streams, includesUsage { self["stream_options"] = ["include_usage": true] }
        self["user"] = user.map { .string($0) }
        if ignoresEndOfText { self["ignore_eos"] = true }
        if !usesPrefixCache { self["cache_prompt"] = false }
    }
}
