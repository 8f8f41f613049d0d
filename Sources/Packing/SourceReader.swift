internal import ExpertStreaming

/// Reads any range of a model's files; leaves nothing in the page cache.
struct SourceReader: ~Copyable {
    private let paths: [String]
    /// The file that was read last stays open: a split model's tensors come file by file.
    private var reader: FileReader
    private var index = 0

    init(paths: [String]) throws(StreamingError) {
        self.init(paths: paths, reader: try FileReader(path: paths[0]))
    }

    private init(paths: [String], reader: consuming FileReader) {
        self.paths = paths
        self.reader = reader
    }

    mutating func read(
        into buffer: UnsafeMutableRawBufferPointer, file: Int, at offset: UInt64
    ) throws(StreamingError) {
        guard let start = buffer.baseAddress else { return }
        if file != index {
            reader = try FileReader(path: paths[file])
            index = file
        }
        try unsafe reader.read(into: start, offset: offset, byteCount: buffer.count)
    }

    mutating func bytes(file: Int, at offset: UInt64, byteCount: Int) throws -> [UInt8] {
        try unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            try unsafe read(into: UnsafeMutableRawBufferPointer(buffer), file: file, at: offset)
            count = byteCount
        }
    }
}
