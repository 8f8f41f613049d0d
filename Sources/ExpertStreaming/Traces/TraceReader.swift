/// Reads a trace file, token by token: for what needs router inputs, which may not fit memory.
public struct TraceReader: ~Copyable {
    public let header: TraceHeader
    /// Tokens in the file.
    public let recordCount: Int
    private let file: TraceFile
    private let firstRecord: Int
    private var index = 0

    /// - Throws: `TraceError` if the file is no trace, contradicts itself, or ends within a token.
    public init(path: String) throws(TraceError) {
        try self.init(file: TraceFile(path: path))
    }

    init(file: TraceFile) throws(TraceError) {
        let (header, length) = try TraceHeader.read(
            name: file.path, fileBytes: file.byteCount
        ) { (offset, count) throws(TraceError) in
            try file.read(offset: offset, count: count)
        }
        let records = file.byteCount - length
        let whole = records / header.recordBytes
        guard records % header.recordBytes == 0 else {
            throw TraceError(
                .malformed,
                "\(file.path): ends within token \(whole), \(records % header.recordBytes) bytes "
                    + "into its \(header.recordBytes) (offset \(file.byteCount)); the recording "
                    + "was cut short: record it again, or cut the file to "
                    + "\(length + whole * header.recordBytes) bytes")
        }
        self.init(header, whole, file, length)
    }

    private init(_ header: TraceHeader, _ count: Int, _ file: TraceFile, _ firstRecord: Int) {
        self.header = header
        recordCount = count
        self.file = file
        self.firstRecord = firstRecord
    }

    /// The next token; nil after the last.
    ///
    /// - Throws: `TraceError` if the disk fails or the record is not one.
    public mutating func next() throws(TraceError) -> TraceRecord? {
        guard index < recordCount else { return nil }
        let offset = firstRecord + index * header.recordBytes
        let bytes = try file.read(offset: offset, count: header.recordBytes)
        let phaseWord = bytes.littleEndian(UInt32.self, at: 4)
        guard let phase = RoutingTrace.Phase(rawValue: UInt8(truncatingIfNeeded: phaseWord)),
            phaseWord <= UInt32(UInt8.max)
        else {
            throw TraceError(
                .malformed,
                "\(file.path): token \(index), phase: \(phaseWord) (offset \(offset + 4))")
        }
        var record = TraceRecord(
            header: header, sequence: bytes.littleEndian(UInt32.self, at: 0), phase: phase,
            tokenID: bytes.littleEndian(Int32.self, at: 8))
        let width = header.shape.expertsPerToken
        var at = 12
        for layer in 0..<header.shape.layerCount {
            for rank in layer * width..<(layer + 1) * width {
                record.experts[rank] = bytes.littleEndian(UInt16.self, at: at)
                at += 2
            }
            if header.hasGateWeights {
                for rank in layer * width..<(layer + 1) * width {
                    record.gateWeights[rank] = Float(
                        bitPattern: bytes.littleEndian(UInt32.self, at: at))
                    at += 4
                }
            }
            let length = header.inputLength
            for element in layer * length..<(layer + 1) * length {
                switch header.inputFormat {
                case .float32:
                    record.inputs[element] = Float(
                        bitPattern: bytes.littleEndian(UInt32.self, at: at))
                case .float16:
                    record.inputs[element] = Float(
                        Float16(bitPattern: bytes.littleEndian(UInt16.self, at: at)))
                }
                at += header.inputFormat.byteCount
            }
        }
        index += 1
        return record
    }

    /// The rest of the file, without router inputs.
    mutating func trace() throws(TraceError) -> RoutingTrace {
        var trace = try RoutingTrace(shape: header.shape)
        while let record = try next() {
            let problem = trace.append(
                sequence: record.sequence, phase: record.phase, tokenID: record.tokenID,
                experts: record.experts[...], weights: record.gateWeights[...])
            if let problem {
                let offset = firstRecord + (index - 1) * header.recordBytes
                throw TraceError(
                    .malformed, "\(file.path): token \(index - 1), \(problem) (offset \(offset))")
            }
        }
        return trace
    }
}
