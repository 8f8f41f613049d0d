public import Inference
public import ModelFormats
public import Quantization
internal import ExpertStreaming

/// Makes a package of a model: reads it once for its digest and once for its weights, expert by expert,
/// and cuts experts into planes on the way.
///
/// Memory is a few times that of one expert's matrix, whatever the model's size. The source is read past
/// the page cache.
public struct PackingJob {
    /// What is packed, and how.
    public let model: ModelDescription
    public let options: PackingOptions

    /// What is being done, for a progress bar.
    public enum Phase: Sendable {
        case hashing
        case packing
    }

    public init(model: ModelDescription, options: PackingOptions) {
        self.model = model
        self.options = options
    }

    /// Writes the package `path`, or goes on with it where an earlier call was interrupted.
    ///
    /// - Parameter progress: Called with the phase and the share of its bytes, 0 ... 1.
    /// - Throws: `ModelFileError` for the source, `OutputError` for the package, `StreamingError` for
    ///   reading.
    @discardableResult
    public func run(
        to path: String, progress: (Phase, Double) -> Void = { _, _ in }
    ) throws -> PackingReport {
        guard model.file.package == nil else {
            throw ModelFileError(
                path: model.file.paths[0],
                message: "is a package already; pack the model that it was made from")
        }
        let sources = try model.file.paths.map { path throws(ModelFileError) in
            try PackageSource(path: path)
        }
        try refuseLowRecord()
        let layers = model.expertLayers.indices.map { shape(layer: $0) }
        var contents = PackageContents(
            architecture: model.architecture.name, name: model.name, packedBy: options.packedBy,
            planes: options.planes?.description ?? "none", expertCount: model.expertCount,
            layers: layers, metadata: model.file.metadata, tensors: model.residentTensors,
            sources: sources, nested: options.lowRecord == nil)
        contents.compressionLevel = options.compressionLevel
        contents.profile = options.profile
        let writer = try PackageWriter(path: path, contents: contents)
        if writer.digests == nil {
            try writer.note(digests: FileDigest.sha256(of: sources) { progress(.hashing, $0) })
        }

        var reader = try SourceReader(paths: model.file.paths)
        let total = Double(contents.largestFileBytes)
        var done = 0
        for (index, tensor) in model.residentTensors.enumerated() {
            done += tensor.byteCount
            guard index >= writer.tensorsWritten else { continue }
            try unsafe writer.writeTensor { buffer, offset in
                try unsafe reader.read(
                    into: buffer, file: tensor.fileIndex, at: tensor.fileOffset + UInt64(offset))
            }
            progress(.packing, Double(done) / total)
        }
        var report = PackingReport()
        let perLayer = max(1, options.sampledExperts)
        let stride = max(1, model.expertCount / perLayer)
        for layer in 0..<model.expertLayerCount {
            let nested = model.expertParts(layer: layer).map { nestedFormat($0.format) }
            for expert in 0..<model.expertCount {
                let parts = model.expertParts(layer: layer)
                done += parts.reduce(0) { $0 + $1.byteCount }
                let isWritten = layer * model.expertCount + expert < writer.expertsWritten
                let isSampled = expert % stride == 0 && expert / stride < perLayer
                guard !isWritten || isSampled else { continue }
                var cut: [[[UInt8]]] = []
                for part in parts.indices where isWritten {
                    cut.append(
                        try planes(
                            &reader, layer, expert, part, nested[part], &report, sample: true))
                }
                guard !isWritten else { continue }
                try writer.writeExpert { part in
                    try planes(
                        &reader, layer, expert, part, nested[part], &report, sample: isSampled)
                }
                progress(.packing, Double(done) / total)
            }
        }
        report.foundTensors = writer.tensorsFound
        report.foundExperts = writer.expertsFound
        report.fileBytes = try writer.finish()
        report.residentBytes = model.residentTensors.reduce(0) { $0 + $1.byteCount }
        return report
    }

    /// The planes of one matrix of an expert, read from the source; measured if it is a sample.
    private func planes(
        _ reader: inout SourceReader, _ layer: Int, _ expert: Int, _ part: Int,
        _ nested: NestedFormat?, _ report: inout PackingReport, sample: Bool
    ) throws -> [[UInt8]] {
        let matrix = model.expertParts(layer: layer)[part]
        let extent = model.extent(layer: layer, expert: expert, plane: 0, part: part)
        let bytes = try reader.bytes(
            file: extent.fileIndex, at: extent.offset, byteCount: extent.byteCount)
        if sample, options.compressionLevel != nil {
            report.compression.add(matrix.format, bytes)
        }
        if let low = options.lowRecord {
            let values = BlockDecoder.decode(matrix.format, bytes)
            let coarse = BlockEncoder.encode(low, values)
            if sample {
                report.quality.add(
                    low, BlockDecoder.decode(low, coarse), of: values, layer: layer,
                    format: matrix.format)
            }
            return [coarse, bytes]
        }
        guard let nested else { return [bytes] }
        let parts = nested.split(bytes, rows: matrix.rows, columns: matrix.columns)
        if sample { report.quality.add(nested, parts, layer: layer, matrix: matrix) }
        return parts
    }

    /// Throws if the coarser version that is asked for cannot be made.
    private func refuseLowRecord() throws(ModelFileError) {
        guard let low = options.lowRecord else { return }
        precondition(BlockEncoder.formats.contains(low), "\(low.name) cannot be written")
        for (layer, block) in model.expertLayers.enumerated() {
            for part in model.expertParts(layer: layer)
            where part.columns % low.elementsPerBlock != 0 {
                throw ModelFileError(
                    path: model.file.paths[0], field: "experts of layer \(block)",
                    message:
                        "rows of \(part.columns) elements are no whole blocks of \(low.name), which "
                        + "has \(low.elementsPerBlock); choose another --low-record")
            }
        }
    }

    private func nestedFormat(_ format: BlockFormat) -> NestedFormat? {
        guard options.lowRecord == nil else { return nil }
        return options.planes.flatMap { NestedFormat(format: format, widths: $0) }
    }

    /// How the experts of a layer are laid out.
    private func shape(layer: Int) -> PackageManifest.Layer {
        let layerParts = model.expertParts(layer: layer)
        let nested = layerParts.map { nestedFormat($0.format) }
        let planeCount =
            options.lowRecord == nil ? nested.map { $0?.bits.count ?? 1 }.max() ?? 1 : 2
        let parts = zip(["gate", "up", "down"], zip(layerParts, nested)).map { role, part in
            PackageManifest.Part(
                role: role, format: part.0.format.name, rows: part.0.rows, columns: part.0.columns,
                bits: part.1?.bits, lowFormat: options.lowRecord?.name)
        }
        let planes = (0..<planeCount).map { plane in
            PackageManifest.Plane(
                partBytes: zip(layerParts, nested).map { part, nested in
                    if let low = options.lowRecord {
                        return plane == 0
                            ? low.byteCount(elements: part.columns) * part.rows : part.byteCount
                    }
                    guard let nested else { return plane == 0 ? part.byteCount : 0 }
                    guard plane < nested.bits.count else { return 0 }
                    return nested.partBytes(plane, rows: part.rows, columns: part.columns)
                })
        }
        return PackageManifest.Layer(
            block: model.expertLayers[layer], parts: parts, planes: planes)
    }
}

/// How a model is packed.
public struct PackingOptions: Sendable {
    /// Bits of the planes; nil leaves experts in their formats as they are.
    public var planes: PlaneWidths?
    /// Format of a coarser version beside each expert, one of `BlockEncoder.formats`; excludes planes.
    public var lowRecord: BlockFormat?
    /// zstd level for the resident region, 3 ... 19; nil for none.
    public var compressionLevel: Int?
    /// A profile to carry along.
    public var profile: [UInt8]?
    /// Experts of each layer whose prefixes are compared with their full width.
    public var sampledExperts = 2
    /// Who packs, as the manifest names it.
    public var packedBy: String

    public init(packedBy: String) { self.packedBy = packedBy }
}
