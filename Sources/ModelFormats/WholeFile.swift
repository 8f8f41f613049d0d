/// Reads small files in one piece.
public enum WholeFile {
    /// The bytes of the regular file at `path`.
    ///
    /// - Throws: `ModelFileError` where it cannot be read or is larger than `limit` bytes.
    public static func read(_ path: String, limit: Int) throws(ModelFileError) -> [UInt8] {
        let source = try FileSource(path: path)
        guard source.size <= limit else {
            throw ModelFileError(
                path: path,
                message: "\(source.size) bytes are more than the \(limit) such a file may have")
        }
        return try source.bytes(at: 0, count: source.size)
    }
}
