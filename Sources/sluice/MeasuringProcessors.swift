import Inference

/// Which processors the threads of a measurement are tied to: those of an engine.
enum MeasuringProcessors {
    /// - Parameter threads: How many; nil for as many as an engine takes.
    /// - Throws: `InputError` where there are not so many.
    static func chosen(_ threads: Int?) throws -> [Int32] {
        let processors = Processors.ofThisProcess()
        let threads = threads ?? processors.recommended
        guard (1...processors.ordered.count).contains(threads) else {
            throw InputError(
                "--threads \(threads): measuring ties each thread to a processor, and this process "
                    + "may use \(processors.ordered.count)")
        }
        return Array(processors.ordered.prefix(threads))
    }
}
