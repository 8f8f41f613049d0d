internal import CHost
internal import ExpertStreaming
internal import ModelFormats
internal import Quantization

/// The weights that every token needs, in one anonymous allocation: as page cache they would be
/// evicted by the streaming of the others.
@safe struct ResidentWeights: ~Copyable {
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int
    private let offsets: [String: Int]

    /// Bytes for the resident tensors of `model`, each rounded up to a cache line.
    static func byteCount(of model: ModelDescription) -> Int {
        all(of: model).reduce(0) { $0 + padded($1.byteCount) }
    }

    /// Every resident tensor, and its bytes in memory. Vectors are kept as F32, whatever they are
    /// stored as: exact, and there are few.
    private static func all(
        of model: ModelDescription
    ) -> [(tensor: GGUFTensor, byteCount: Int)] {
        model.roles.flatMap { role, tensors in
            tensors.map { ($0, role.isWidened ? $0.elementCount * 4 : $0.byteCount) }
        }
    }

    /// Reads them from disk, past the page cache.
    ///
    /// - Parameter progress: Called with the share done, 0 ... 1.
    init(model: ModelDescription, progress: (Double) -> Void) throws {
        byteCount = ResidentWeights.byteCount(of: model)
        unsafe base = AnonymousMemory.allocate(byteCount)
        var offsets: [String: Int] = [:]
        var next = 0
        var done = 0
        var frames = FrameReader()
        do {
            for (index, path) in model.file.paths.enumerated() {
                var reader = try FileReader(path: path)
                for (tensor, bytes) in ResidentWeights.all(of: model)
                where tensor.fileIndex == index {
                    // What will be widened is read into the end of its place: each element is read
                    // before the ones written in front of it get there.
                    let stored = unsafe base + next + bytes - tensor.byteCount
                    try unsafe ResidentWeights.read(tensor, &reader, &frames, into: stored)
                    if bytes > tensor.byteCount {
                        unsafe ResidentWeights.widen(tensor, from: stored, to: base + next)
                    }
                    offsets[tensor.name] = next
                    next += ResidentWeights.padded(bytes)
                    done += bytes
                    progress(Double(done) / Double(max(1, byteCount)))
                }
            }
        } catch {
            unsafe AnonymousMemory.free(base, byteCount)
            throw error
        }
        self.offsets = offsets
    }

    /// Reads a tensor, and checks it where the file has its checksum.
    private static func read(
        _ tensor: GGUFTensor, _ reader: inout FileReader, _ frames: inout FrameReader,
        into destination: UnsafeMutableRawPointer
    ) throws {
        var found: UInt32 = 0
        if let storage = tensor.storage, !storage.frames.isEmpty {
            found = unsafe try frames.read(tensor, storage.frames, &reader, into: destination)
        } else {
            try unsafe reader.read(
                into: destination, offset: tensor.fileOffset, byteCount: tensor.byteCount)
            guard tensor.storage != nil else { return }
            found = unsafe host_crc32c(0, destination, tensor.byteCount)
        }
        guard let checksum = tensor.storage?.checksum, checksum != found else { return }
        throw ModelFileError(
            path: reader.path, field: "tensor \(tensor.name)", offset: tensor.fileOffset,
            message:
                "its checksum is not the stored one, so it is damaged; `sluice verify` finds all "
                + "damage: fetch or pack the package again")
    }

    deinit { unsafe AnonymousMemory.free(base, byteCount) }

    /// CRC-32C of all of them.
    borrowing func checksum() -> UInt32 { unsafe host_crc32c(0, base, byteCount) }

    /// First byte of a resident tensor.
    borrowing func address(_ tensor: GGUFTensor) -> UnsafeRawPointer {
        unsafe UnsafeRawPointer(base + offsets[tensor.name]!)
    }

    /// A vector, which `ModelDescription` has checked to be one.
    borrowing func vector(_ tensor: GGUFTensor) -> UnsafePointer<Float> {
        unsafe address(tensor).assumingMemoryBound(to: Float.self)
    }

    /// The same, where the model has it.
    borrowing func vector(_ tensor: GGUFTensor?) -> UnsafePointer<Float>? {
        guard let tensor else { return nil }
        return unsafe vector(tensor)
    }

    /// A matrix; of a stack of them the rows of all, one after another.
    borrowing func matrix(_ tensor: GGUFTensor, _ arithmetic: Arithmetic) -> Matrix {
        unsafe Matrix(
            weights: address(tensor), rows: tensor.elementCount / tensor.shape[0],
            columns: tensor.shape[0],
            rowBytes: tensor.format.byteCount(elements: tensor.shape[0]), format: tensor.format,
            path: MatrixPath(format: tensor.format, arithmetic: arithmetic))
    }

    /// Element by element, first to last: the two overlap at the end of `target`.
    private static func widen(
        _ tensor: GGUFTensor, from stored: UnsafeRawPointer, to target: UnsafeMutableRawPointer
    ) {
        var value: Float = 0
        for index in 0..<tensor.elementCount {
            unsafe BlockDecoder.decode(
                tensor.format, from: stored + index * tensor.format.bytesPerBlock, elements: 1,
                into: &value)
            unsafe target.storeBytes(of: value, toByteOffset: index * 4, as: Float.self)
        }
    }

    private static func padded(_ bytes: Int) -> Int { (bytes + 127) / 128 * 128 }
}
