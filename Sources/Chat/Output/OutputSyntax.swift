/// How a family of models writes what it thinks and what it wants called.
struct OutputSyntax: Sendable {
    struct Brackets: Sendable, Equatable {
        var open: String
        var close: String
    }

    /// Around thoughts; nil where a family has none.
    var reasoning: Brackets?
    /// Where calls begin, and how they go on.
    var openings: [CallOpening] = []
    /// An answer that is a JSON object naming a function is a call, without any marker.
    var bareCalls: JSONCallSyntax?
    /// Markers around the answer that are not part of it.
    var dropped: [String] = []
    /// Messages with headers and channels (gpt-oss) in place of all the above.
    var isHarmony = false

    /// All markers, for whoever must know which tokens stand for themselves.
    var markers: [String] {
        if isHarmony { return HarmonyReader.markers }
        return [reasoning?.open, reasoning?.close].compactMap { $0 } + dropped
            + openings.flatMap { [$0.marker] + $0.syntax.markers }
    }
}

/// A marker, and what follows it.
struct CallOpening: Sendable {
    var marker: String
    var syntax: CallSyntax
}

/// What may follow a marker. Where several are given, the first character that is no white space
/// decides: a bracket or a brace begins JSON.
struct CallSyntax: Sendable {
    var json: JSONCallSyntax?
    var headed: HeadedCallSyntax?
    var tagged: TaggedCallSyntax?
    var pythonic: PythonicCallSyntax?

    var markers: [String] {
        [json?.close, pythonic?.close].compactMap { $0 } + (headed?.markers ?? [])
            + (tagged?.markers ?? [])
    }
}

/// Calls as JSON objects, one or a list: `{"name": ..., "arguments": {...}}`.
struct JSONCallSyntax: Sendable {
    var close: String?
    /// Objects may stand one after the other with a semicolon between.
    var allowsSemicolons = false
    /// Only these functions count, and no other members: where nothing marks a call, an answer that
    /// is JSON must not be taken for one.
    var onlyNames: Set<String>?
}

/// Calls with the function's name before the arguments: `NAME<separator>{...}`.
struct HeadedCallSyntax: Sendable {
    enum Header: Sendable {
        case name
        /// `functions.NAME:INDEX`, which is also the call's id (Kimi K2).
        case numbered
        /// `NAME[CALL_ID]ID`, the id being optional (Mistral).
        case identified
    }

    /// Where every call begins; where the section has its own marker, that one comes before.
    var callOpen: String
    /// The marker that led here was the first call's own.
    var isOpen = false
    var headerEnd: String
    var header = Header.name
    var callClose: String?
    var sectionClose: String?

    var markers: [String] {
        [callOpen, headerEnd] + [callClose, sectionClose].compactMap { $0 }
            + (header == .identified ? [HeadedCallReader.callIDMarker] : [])
    }
}

/// Calls with every argument between tags of its own.
struct TaggedCallSyntax: Sendable {
    /// Before the name; empty where it follows the section's marker.
    var callOpen: String
    var nameEnd: String
    var keyOpen: String
    /// Between an argument's name and its value.
    var valueOpen: String
    var valueClose: String
    var callClose: String
    var sectionClose: String?
    /// One line break at each end of a value is not part of it.
    var trimsLineBreaks = false

    var markers: [String] { [callOpen, keyOpen, valueClose, callClose].filter { !$0.isEmpty } }
}

/// Calls as Python would write them: `[f(a=1), g()]`.
struct PythonicCallSyntax: Sendable {
    var close: String?
    /// `f.call(a=1)` and nothing else.
    var wantsCallMethod = false
}
