private import Glibc

/// One token of a trace, as it is written and read.
public struct TraceRecord: Sendable, Equatable {
    public var sequence: UInt32
    public var phase: RoutingTrace.Phase
    /// -1 where not known.
    public var tokenID: Int32
    /// (layers, k), by rank; `RoutingTrace.absent` where not recorded.
    public var experts: [UInt16]
    /// (layers, k), or empty where the header has no gate weights.
    public var gateWeights: [Float]
    /// What the routers were given: (layers, input length), or empty.
    public var inputs: [Float]

    /// A token with room for everything the header announces.
    public init(
        header: TraceHeader, sequence: UInt32, phase: RoutingTrace.Phase, tokenID: Int32
    ) {
        let choices = header.shape.layerCount * header.shape.expertsPerToken
        self.sequence = sequence
        self.phase = phase
        self.tokenID = tokenID
        experts = [UInt16](repeating: RoutingTrace.absent, count: choices)
        gateWeights = [Float](repeating: 0, count: header.hasGateWeights ? choices : 0)
        inputs = [Float](repeating: 0, count: header.shape.layerCount * header.inputLength)
    }
}

/// Writes a trace file, token by token. It appears under its name only when it is closed.
public struct TraceWriter: ~Copyable {
    public let header: TraceHeader
    public private(set) var recordCount = 0
    private let path: String
    private let temporary: String
    private var descriptor: Int32
    private var buffer: [UInt8] = []

    /// Bytes gathered before they are written.
    private static let bufferBytes = 1 << 20

    /// - Throws: `TraceError` if the header contradicts itself or the file cannot be created.
    public init(path: String, header: TraceHeader) throws(TraceError) {
        if let problem = header.problem {
            throw TraceError(.malformed, "\(path): this cannot be recorded: \(problem)")
        }
        let temporary = "\(path).partial-\(getpid())"
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw TraceError(
                .cannotCreate, "\(path): cannot be created (\(errnoText(errno)))")
        }
        self.init(path, temporary, descriptor, header)
    }

    private init(_ path: String, _ temporary: String, _ descriptor: Int32, _ header: TraceHeader) {
        self.header = header
        self.path = path
        self.temporary = temporary
        self.descriptor = descriptor
        buffer = header.bytes
    }

    deinit {
        guard descriptor >= 0 else { return }
        _ = Glibc.close(descriptor)
        _ = unsafe unlink(temporary)
    }

    /// Adds a token, which has what the header announces.
    ///
    /// - Throws: `TraceError` if the disk fails.
    public mutating func append(_ record: TraceRecord) throws(TraceError) {
        let width = header.shape.expertsPerToken
        let choices = header.shape.layerCount * width
        precondition(
            record.experts.count == choices
                && record.gateWeights.count == (header.hasGateWeights ? choices : 0)
                && record.inputs.count == header.shape.layerCount * header.inputLength,
            "a record that does not suit the header")
        buffer.append(littleEndian: record.sequence)
        buffer.append(littleEndian: UInt32(record.phase.rawValue))
        buffer.append(littleEndian: record.tokenID)
        for layer in 0..<header.shape.layerCount {
            for index in layer * width..<(layer + 1) * width {
                buffer.append(littleEndian: record.experts[index])
            }
            if header.hasGateWeights {
                for index in layer * width..<(layer + 1) * width {
                    buffer.append(littleEndian: record.gateWeights[index].bitPattern)
                }
            }
            let length = header.inputLength
            for index in layer * length..<(layer + 1) * length {
                switch header.inputFormat {
                case .float32: buffer.append(littleEndian: record.inputs[index].bitPattern)
                case .float16: buffer.append(littleEndian: Float16(record.inputs[index]).bitPattern)
                }
            }
        }
        recordCount += 1
        if buffer.count >= Self.bufferBytes { try flush() }
    }

    /// Completes the file and gives it its name, replacing what had it.
    public consuming func close() throws(TraceError) {
        try flush()
        let descriptor = self.descriptor
        self.descriptor = -1
        guard Glibc.close(descriptor) == 0, unsafe rename(temporary, path) == 0 else {
            let error = errno
            _ = unsafe unlink(temporary)
            throw TraceError(.disk, "\(path): cannot be written (\(errnoText(error)))")
        }
    }

    private mutating func flush() throws(TraceError) {
        var done = 0
        while done < buffer.count {
            let written = unsafe buffer.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress! + done, $0.count - done)
            }
            if written < 0 {
                if errno == EINTR { continue }
                throw TraceError(
                    .disk, "\(path): cannot be written (\(errnoText(errno)))")
            }
            done += written
        }
        buffer.removeAll(keepingCapacity: true)
    }
}
