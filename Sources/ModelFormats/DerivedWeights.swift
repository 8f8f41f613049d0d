import Synchronization

/// The tensors of a model directory that do not lie as GGUF would have them, written anew: into a
/// file without a name, or into memory for a directory that is in memory.
///
/// Their places are known from the start. Their bytes are there only when `write` was called.
final class DerivedWeights: Sendable {
    /// Where they can be read, by the means by which the other files are read.
    let path: String
    let size: Int

    private let directory: HuggingFaceDirectory
    private let fileNames: [String]
    private let conversions: [TensorConversion]
    /// Nil for a directory in memory.
    private let file: DerivedFile?
    private let state = Mutex(State())

    private struct State {
        var isWritten = false
        /// What there is instead of a file.
        var bytes: [UInt8] = []
    }

    /// Bytes to which each tensor is aligned: those of a direct read.
    static let alignment = 4096
    /// Bytes from which on it is worth a line that they are written.
    private static let reportedBytes = 64 << 20
    /// Bytes after which those written may leave memory.
    private static let settledBytes = 256 << 20

    /// - Parameters:
    ///   - fileNames: The files in `directory` that conversions refer to by index.
    ///   - folder: Where the file is made; nil for TMPDIR, or /var/tmp.
    init(
        _ conversions: [TensorConversion], size: Int, from fileNames: [String],
        of directory: HuggingFaceDirectory, folder: String?
    ) throws(ModelFileError) {
        self.conversions = conversions
        self.size = size
        self.fileNames = fileNames
        self.directory = directory
        file = directory.isOnDisk ? try DerivedFile(size: size, folder: folder) : nil
        path = file?.path ?? directory.path(of: "(derived)")
    }

    /// Writes them, unless it was done.
    ///
    /// - Parameter report: Called with one line before much is written.
    /// - Throws: `ModelFileError` where there is no room, or a source cannot be read.
    func write(report: ((String) -> Void)?) throws(ModelFileError) {
        try state.withLock { state throws(ModelFileError) in
            guard !state.isWritten else { return }
            if let file, size >= Self.reportedBytes {
                report?(
                    "rewriting \(byteText(size)) of weights into \(file.folder), which keeps them "
                        + "until the end (TMPDIR chooses the folder)")
            }
            try file?.reserve()
            var sources: [any ByteSource] = []
            for name in fileNames { sources.append(try directory.source(name)) }
            var output = Output(file: file, size: size)
            for conversion in conversions { try conversion.run(from: sources, into: &output) }
            file?.settle()
            state.bytes = output.bytes
            state.isWritten = true
        }
    }

    /// The bytes of a range, for a directory in memory.
    func bytes(at offset: Int, count: Int) -> [UInt8] {
        state.withLock { Array($0.bytes[offset..<offset + count]) }
    }

    private struct Output: ConversionOutput {
        let file: DerivedFile?
        var bytes: [UInt8]
        private var unsettled = 0

        init(file: DerivedFile?, size: Int) {
            self.file = file
            bytes = file == nil ? [UInt8](repeating: 0, count: size) : []
        }

        mutating func write(_ chunk: [UInt8], at offset: Int) throws(ModelFileError) {
            guard let file else {
                bytes.replaceSubrange(offset..<offset + chunk.count, with: chunk)
                return
            }
            try file.write(chunk, at: offset)
            unsettled += chunk.count
            if unsettled >= DerivedWeights.settledBytes {
                file.settle()
                unsettled = 0
            }
        }
    }
}
