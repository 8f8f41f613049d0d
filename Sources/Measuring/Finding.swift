/// Something about a machine that keeps a model from running, or makes it slower than it need be.
public struct Finding: Sendable, Equatable, Encodable {
    public enum Weight: String, Sendable, Encodable {
        /// The model does not run.
        case blocking
        /// It runs, but slower, or with more memory, than this machine could.
        case costly
        /// Worth knowing.
        case note
    }

    public var weight: Weight
    public var problem: String
    public var cost: String
    /// What to do, as a command where one does it.
    public var remedy: String

    public init(_ weight: Weight, _ problem: String, cost: String, remedy: String) {
        self.weight = weight
        self.problem = problem
        self.cost = cost
        self.remedy = remedy
    }
}
