/// What keeps a benchmark from being made, in one line that names the thing and the remedy.
public struct BenchmarkingError: Error, CustomStringConvertible, Sendable, Equatable {
    public let description: String

    public init(_ description: String) { self.description = description }
}
