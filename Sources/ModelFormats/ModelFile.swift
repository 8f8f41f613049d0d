import Glibc

/// A model on disk, whatever the format: metadata, and tensors with their places in its files.
///
/// Metadata and tensors have the keys and names of GGUF in every format. In a package the experts are
/// not among the tensors: `package` tells where their planes lie.
public struct ModelFile: Sendable {
    /// The formats.
    public enum Kind: Sendable {
        /// GGUF, in one or several files.
        case gguf(version: UInt32)
        /// A package of ours, as `PACKAGE.md` describes it.
        case package(version: UInt32)
        /// A directory with config.json and safetensors.
        case checkpoint
    }

    public let kind: Kind
    /// The model's files, in order; tensors refer to them by index.
    public let paths: [String]
    /// Bytes of each file when it was opened.
    public let fileSizes: [UInt64]
    /// Keys and values.
    public let metadata: GGUFMetadata
    /// Tensors, in the order of the files; names are unique.
    public let tensors: [GGUFTensor]
    /// What only a package has; nil for the other formats.
    public let package: Package?

    private let indexes: [String: Int]
    /// Weights of a checkpoint that are kept rewritten as long as this value or a copy is there.
    private let derived: DerivedWeights?

    /// Opens the model of which `path` is the directory, the file, or one of the files. Which format a
    /// file has, its first bytes tell.
    ///
    /// - Parameters:
    ///   - writesDerived: Whether weights of a checkpoint that do not lie as they are read are
    ///     rewritten at once; otherwise their bytes are zeros until `writeDerived` is called, which
    ///     is enough for whoever only wants to know what the model is.
    ///   - report: Called with one line before much is rewritten.
    public init(
        path: String, writesDerived: Bool = true, report: ((String) -> Void)? = nil
    ) throws(ModelFileError) {
        var status = stat()
        if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
            self.init(
                try HuggingFaceModel(
                    directory: path, writesDerived: writesDerived, report: report))
        } else if Package.begins(try FileSource(path: path)) {
            self.init(try Package(path: path))
        } else {
            self.init(try GGUFFile(path: path))
        }
    }

    public init(_ file: GGUFFile) {
        self.init(
            kind: .gguf(version: file.version), paths: file.paths, fileSizes: file.fileSizes,
            metadata: file.metadata, tensors: file.tensors, package: nil, derived: nil)
    }

    public init(_ model: HuggingFaceModel) {
        self.init(
            kind: .checkpoint, paths: model.paths, fileSizes: model.fileSizes,
            metadata: model.metadata, tensors: model.tensors, package: nil,
            derived: model.derived)
    }

    public init(_ package: Package) {
        self.init(
            kind: .package(version: package.version), paths: [package.path],
            fileSizes: [package.fileSize], metadata: package.metadata, tensors: package.tensors,
            package: package, derived: nil)
    }

    private init(
        kind: Kind, paths: [String], fileSizes: [UInt64], metadata: GGUFMetadata,
        tensors: [GGUFTensor], package: Package?, derived: DerivedWeights?
    ) {
        self.kind = kind
        self.paths = paths
        self.fileSizes = fileSizes
        self.metadata = metadata
        self.tensors = tensors
        self.package = package
        self.derived = derived
        indexes = Dictionary(
            zip(tensors.map(\.name), tensors.indices), uniquingKeysWith: { first, _ in first })
    }

    /// Rewrites what has to be of a checkpoint opened without it; nothing where it was done, or there
    /// is nothing to do.
    ///
    /// - Parameter report: Called with one line before much is rewritten.
    public func writeDerived(report: ((String) -> Void)? = nil) throws(ModelFileError) {
        try derived?.write(report: report)
    }

    /// The tensor called `name`, nil when there is none.
    public func tensor(named name: String) -> GGUFTensor? {
        indexes[name].map { tensors[$0] }
    }

    /// The format and its version, for people.
    public var formatName: String {
        switch kind {
        case .gguf(let version): "GGUF version \(version)"
        case .package(let version): "package version \(version)"
        case .checkpoint: "checkpoint with config.json and safetensors"
        }
    }
}
