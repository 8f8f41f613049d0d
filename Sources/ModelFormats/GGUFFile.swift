/// A model in GGUF, versions 2 and 3: metadata, and tensors with their places in one or several files.
///
/// Only headers are read. Nothing in them is believed: counts, lengths, offsets and types are checked
/// against the file's real size before use, so whatever the bytes are, opening a file ends in a value
/// whose tensors can be read or in an error that names field and offset. Tensor data are not looked at;
/// a file that shrinks later must still be noticed by who reads them.
///
/// A model may be split into files named `NAME-00001-of-00003.gguf`; giving any of them reads them all.
/// Metadata are then those of the first.
public struct GGUFFile: Sendable {
    /// The format's version, 2 or 3.
    public let version: UInt32
    /// The model's files, in order; tensors refer to them by index.
    public let paths: [String]
    /// Bytes of each file when it was opened.
    public let fileSizes: [UInt64]
    /// Keys and values.
    public let metadata: GGUFMetadata
    /// Tensors, in the order of the files; names are unique over all of them.
    public let tensors: [GGUFTensor]

    private let indexes: [String: Int]

    /// Opens the model of which `path` is the file or one of the files.
    public init(path: String) throws(ModelFileError) {
        let given = try GGUFPart(source: try FileSource(path: path), fileIndex: 0)
        guard let place = try GGUFSplit(of: given) else {
            try self.init(parts: [given])
            return
        }
        var parts: [GGUFPart] = []
        for (index, name) in place.paths.enumerated() {
            if index == 0, place.number == 0 {
                parts.append(given)
                continue
            }
            let part = try GGUFPart(source: try FileSource(path: name), fileIndex: index)
            try place.check(part, number: index)
            parts.append(part)
        }
        try place.checkTensorCount(of: parts)
        try self.init(parts: parts)
    }

    /// Reads a model of one file from memory, for tests and fuzzing; errors call it `name`.
    public init(bytes: [UInt8], name: String = "memory") throws(ModelFileError) {
        let part = try GGUFPart(source: MemorySource(path: name, bytes: bytes), fileIndex: 0)
        if try GGUFSplit(of: part) != nil {
            throw part.metadata.error(
                GGUFSplit.countKey, "a model split into files cannot be read from memory")
        }
        try self.init(parts: [part])
    }

    /// A model in Hugging Face's layout, seen as a file of GGUF: what reads one reads the other.
    ///
    /// - Throws: never for a model that was opened, whose tensors have names of their own.
    public init(_ model: HuggingFaceModel) throws(ModelFileError) {
        try self.init(
            version: 3, paths: model.paths, fileSizes: model.fileSizes, metadata: model.metadata,
            tensors: model.tensors)
    }

    private init(parts: [GGUFPart]) throws(ModelFileError) {
        try self.init(
            version: parts[0].version, paths: parts.map(\.path),
            fileSizes: parts.map(\.fileSize), metadata: parts[0].metadata,
            tensors: parts.flatMap(\.tensors))
    }

    private init(
        version: UInt32, paths: [String], fileSizes: [UInt64], metadata: GGUFMetadata,
        tensors: [GGUFTensor]
    ) throws(ModelFileError) {
        self.version = version
        self.paths = paths
        self.fileSizes = fileSizes
        self.metadata = metadata
        self.tensors = tensors
        var indexes: [String: Int] = [:]
        for (index, tensor) in tensors.enumerated() {
            if let other = indexes.updateValue(index, forKey: tensor.name) {
                throw ModelFileError(
                    path: paths[tensor.fileIndex], field: "tensor '\(tensor.name)'",
                    message: "this name appears in \(paths[tensors[other].fileIndex]) too; "
                        + "the files are not parts of one model")
            }
        }
        self.indexes = indexes
    }

    /// The tensor called `name`, nil when there is none.
    public func tensor(named name: String) -> GGUFTensor? {
        indexes[name].map { tensors[$0] }
    }
}
