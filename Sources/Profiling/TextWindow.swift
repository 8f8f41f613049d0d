/// One sequence of tokens to be computed from an empty context.
public struct TextWindow: Sendable, Equatable {
    /// Which of the texts it is of.
    public let text: Int
    public let ids: [Int32]

    /// Cuts a text into windows of `length` tokens, the last one as long as what is left; a window
    /// of a single token, which predicts nothing, is left out.
    ///
    /// - Parameter beginning: A token that starts every window, as models with a
    ///   beginning-of-sequence token want it; it is one of the `length`.
    public static func split(
        _ ids: [Int32], text: Int = 0, length: Int, beginning: Int32? = nil
    ) -> [TextWindow] {
        let start = beginning.map { [$0] } ?? []
        let step = length - start.count
        precondition(length >= 2 && step >= 1, "a window of \(length) tokens predicts nothing")
        return stride(from: 0, to: ids.count, by: step).compactMap { first in
            let window = start + ids[first..<min(ids.count, first + step)]
            return window.count < 2 ? nil : TextWindow(text: text, ids: window)
        }
    }
}
