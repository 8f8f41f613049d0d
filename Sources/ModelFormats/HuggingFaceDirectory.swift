import Glibc

/// The files of a model directory as Hugging Face lays it out, by name: on disk, or in memory for
/// tests and fuzzing.
struct HuggingFaceDirectory: Sendable {
    /// The directory, for errors.
    let path: String
    /// Nil for a directory on disk.
    private let files: [String: [UInt8]]?

    var isOnDisk: Bool { files == nil }

    init(path: String) {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        self.path = path
        files = nil
    }

    init(files: [String: [UInt8]], name: String) {
        path = name
        self.files = files
    }

    func path(of name: String) -> String { path + "/" + name }

    /// The directory's own name, which is what people call the model.
    var modelName: String {
        if files == nil, let resolved = unsafe realpath(path, nil) {
            defer { unsafe free(resolved) }
            return Self.lastComponent(unsafe String(cString: resolved))
        }
        return Self.lastComponent(path)
    }

    private static func lastComponent(_ path: String) -> String {
        path.split(separator: "/").last.map { String($0) } ?? path
    }

    /// Whether there is a file called `name`.
    func has(_ name: String) -> Bool {
        if let files { return files[name] != nil }
        return unsafe access(path(of: name), F_OK) == 0
    }

    /// The file called `name`.
    func source(_ name: String) throws(ModelFileError) -> any ByteSource {
        guard let files else { return try FileSource(path: path(of: name)) }
        guard let bytes = files[name] else {
            throw ModelFileError(path: path(of: name), message: "no such file")
        }
        return MemorySource(path: path(of: name), bytes: bytes)
    }

    /// The bytes of a file of text, of at most `JSONLimits.documentBytes`; nil when there is none.
    func text(_ name: String) throws(ModelFileError) -> [UInt8]? {
        guard has(name) else { return nil }
        let source = try source(name)
        guard source.size <= JSONLimits.documentBytes else {
            throw ModelFileError(
                path: source.path,
                message: "expected at most \(JSONLimits.documentBytes) bytes, found \(source.size)")
        }
        return try source.bytes(at: 0, count: source.size)
    }

    /// A cursor over a JSON document; nil when there is none.
    func document(_ name: String) throws(ModelFileError) -> JSONCursor? {
        guard let bytes = try text(name) else { return nil }
        return JSONCursor(path: path(of: name), bytes: bytes)
    }

    /// The members of a JSON document; nil when there is none.
    func object(_ name: String) throws(ModelFileError) -> JSONObject? {
        guard let cursor = try document(name) else { return nil }
        return try JSONObject(cursor)
    }
}
