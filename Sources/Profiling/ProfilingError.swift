/// Something that cannot be measured or trained as asked: what, and what would do.
public struct ProfilingError: Error, CustomStringConvertible, Sendable {
    public let description: String

    init(_ description: String) { self.description = description }
}
