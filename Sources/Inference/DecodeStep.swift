/// One token to compute for one of an engine's sequences.
public struct DecodeStep: Sendable, BitwiseCopyable {
    /// Below the engine's `sequenceCapacity`.
    public var sequence: Int
    /// Below the vocabulary's size.
    public var id: Int32
    /// Where in its sequence the token stands; those before it have been computed.
    public var position: Int

    public init(sequence: Int, id: Int32, position: Int) {
        self.sequence = sequence
        self.id = id
        self.position = position
    }
}
