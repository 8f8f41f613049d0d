internal import FoundationEssentials

extension BenchmarkReport {
    /// The form that this program reads and writes.
    static let currentVersion = 1

    /// The largest file that is read: a sweep of a big model is some megabytes.
    static let largestBytes = 256 << 20

    /// Names of figures that are not finite: JSON has no numbers for them.
    private static let notFinite = ("infinity", "-infinity", "nan")

    /// As JSON, keys sorted and in snake case, which `init(json:)` reads.
    public func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: Self.notFinite.0, negativeInfinity: Self.notFinite.1,
            nan: Self.notFinite.2)
        return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
    }

    /// Reads a report.
    ///
    /// - Throws: `BenchmarkingError` that says which field is missing or wrong, where it is no
    ///   report, one of another version, or one whose heat maps do not have the cells that they
    ///   claim.
    public init(json: [UInt8]) throws(BenchmarkingError) {
        guard json.count <= Self.largestBytes else {
            throw BenchmarkingError(
                "\(json.count) bytes are more than the \(Self.largestBytes) that a report may have")
        }
        struct Form: Decodable { var version: Int }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: Self.notFinite.0, negativeInfinity: Self.notFinite.1,
            nan: Self.notFinite.2)
        do {
            let data = Data(json)
            let version = try decoder.decode(Form.self, from: data).version
            guard version == Self.currentVersion else {
                throw BenchmarkingError(
                    "version \(version) of a benchmark report is not supported, only "
                        + "\(Self.currentVersion); measure again with this sluice")
            }
            self = try decoder.decode(BenchmarkReport.self, from: data)
        } catch let error as BenchmarkingError {
            throw error
        } catch let error as DecodingError {
            throw Self.explain(error)
        } catch {
            throw BenchmarkingError("not a benchmark report: the JSON cannot be read")
        }
        for row in rows {
            for heat in row.runs.compactMap(\.heat) where HeatMap(heat) == nil {
                throw BenchmarkingError(
                    "not a benchmark report: heat of '\(row.point.setting)' is not "
                        + "\(heat.layers) layers by \(heat.experts) experts")
            }
        }
    }

    private static func explain(_ error: DecodingError) -> BenchmarkingError {
        func place(_ path: [any CodingKey], _ last: String? = nil) -> String {
            let keys = path.map { $0.intValue.map { "[\($0)]" } ?? snakeCase($0.stringValue) }
            return (keys + (last.map { [snakeCase($0)] } ?? [])).joined(separator: ".")
        }
        let reason =
            switch error {
            case .keyNotFound(let key, let context):
                "\(place(context.codingPath, key.stringValue)) is missing"
            case .valueNotFound(_, let context): "\(place(context.codingPath)) is null"
            case .typeMismatch(let type, let context):
                "\(place(context.codingPath).isEmpty ? "the whole" : place(context.codingPath)) "
                    + "is not \(expected(type))"
            case .dataCorrupted(let context) where !context.codingPath.isEmpty:
                "\(place(context.codingPath)) has a value that is not one of its kind"
            default: "this is not JSON"
            }
        return BenchmarkingError("not a benchmark report: \(reason)")
    }

    private static func expected(_ type: Any.Type) -> String {
        switch type {
        case is String.Type: "text"
        case is Int.Type: "a whole number"
        case is Double.Type: "a number"
        case is [Any].Type: "a list"
        default: "an object"
        }
    }

    /// As keys stand in the file.
    private static func snakeCase(_ key: String) -> String {
        var result = ""
        for character in key {
            if character.isUppercase { result += "_" }
            result += character.lowercased()
        }
        return result
    }
}
