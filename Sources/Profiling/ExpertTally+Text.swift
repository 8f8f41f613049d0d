public import ExpertStreaming
public import Inference

extension ExpertTally {
    /// Computes `windows` on `engine`, each from an empty context, and tallies what its experts do.
    ///
    /// - Parameter progress: Called with the share done, 0 ... 1.
    /// - Throws: `StreamingError` for the disk.
    public static func over(
        _ windows: [TextWindow], engine: inout Engine, progress: (Double) -> Void = { _ in }
    ) throws(StreamingError) -> ExpertTally {
        var tally = ExpertTally(ModelFingerprint(engine.model))
        engine.observe { tally.add($0) }
        defer { engine.observe(nil) }
        for (index, window) in windows.enumerated() {
            try engine.prefill(window.ids, from: 0)
            progress(Double(index + 1) / Double(windows.count))
        }
        return tally
    }
}
