extension RoutingTrace {

    /// Reads a trace file: Sluice's own (`TraceHeader`), or text as other programs record it
    /// (`# route_trace v1`, or one JSON object per token). Router inputs are left out.
    ///
    /// - Parameter expertBytes: What an expert takes, where the trace does not say; it is at least 1.
    /// - Throws: `TraceError` naming the file, the field and the place.
    public init(path: String, expertBytes: Int? = nil) throws(TraceError) {
        try self.init(path: path)
        if let expertBytes, shape.planeBytes.isEmpty { setExpertBytes(expertBytes) }
    }

    private init(path: String) throws(TraceError) {
        let file = try TraceFile(path: path)
        let start = try file.read(offset: 0, count: min(file.byteCount, 64))
        if start.starts(with: TraceHeader.magic) {
            var reader = try TraceReader(file: file)
            self = try reader.trace()
            return
        }
        let isTable = start.starts(with: TextTrace.commaSeparatedStart)
        let isLines = start.first { $0 > UInt8(ascii: " ") } == UInt8(ascii: "{")
        guard isTable || isLines else {
            throw TraceError(
                .malformed,
                "\(path): not a trace; known are those of 'sluice trace', CSV that begins with "
                    + "'# route_trace v1', and JSON lines of tok and layers (offset 0)")
        }
        guard file.byteCount <= TextTrace.largestBytes else {
            throw TraceError(
                .malformed,
                "\(path): \(ByteSize(bytes: file.byteCount)) of text, more than "
                    + "\(ByteSize(bytes: TextTrace.largestBytes)); split it")
        }
        let bytes = try file.read(offset: 0, count: file.byteCount)
        self =
            isTable
            ? try TextTrace.commaSeparated(bytes, name: path)
            : try TextTrace.jsonLines(bytes, name: path)
    }
}
