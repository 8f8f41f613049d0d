internal import CHost
internal import Inference
public import ModelFormats
internal import Quantization

/// What packing did, and what the planes are worth.
public struct PackingReport: Sendable {
    /// Bytes of the package.
    public internal(set) var fileBytes: UInt64 = 0
    /// Bytes of the resident tensors, uncompressed.
    public internal(set) var residentBytes = 0
    /// What an interrupted packing had left.
    public internal(set) var foundTensors = 0
    public internal(set) var foundExperts = 0
    /// Errors of prefixes; empty without planes.
    public internal(set) var quality = PrefixQuality()
    /// What zstd would save of the experts, which stay as they are; empty unless compression was asked for.
    public internal(set) var compression = CompressionTrial()

    init() {}
}

/// Errors of the prefixes of a model's experts, by layer, format and width.
public struct PrefixQuality: Sendable {
    /// One line of the table.
    public struct Row: Sendable {
        /// Among the layers with experts, from 0.
        public let layer: Int
        public let format: BlockFormat
        /// The format of a coarser version that is no prefix; nil for prefixes.
        public let lowFormat: BlockFormat?
        /// Bits of the prefix, and of the whole; 0 where it is none.
        public let bits: Int
        public let fullBits: Int
        /// Sums over the sample: of the squares of the differences to the full width, and of its weights.
        var squaredError = 0.0
        var squaredWeights = 0.0

        /// Root of the mean squared error over that of the mean squared weight.
        public var relativeRMS: Double {
            squaredWeights > 0 ? (squaredError / squaredWeights).squareRoot() : 0
        }

        mutating func add(squaredError: Double, squaredWeights: Double) {
            self.squaredError += squaredError
            self.squaredWeights += squaredWeights
        }
    }

    /// In the order of layers, then formats as they come, then widths.
    public private(set) var rows: [Row] = []

    /// The errors over all layers, by format and width.
    public var overall: [Row] {
        var all: [Row] = []
        for row in rows {
            if let index = all.firstIndex(where: {
                $0.format == row.format && $0.bits == row.bits
            }) {
                all[index].add(
                    squaredError: row.squaredError, squaredWeights: row.squaredWeights)
            } else {
                all.append(row)
            }
        }
        return all.sorted { ($0.format.rawValue, $0.bits) < ($1.format.rawValue, $1.bits) }
    }

    /// Measures a coarser version in `low`, whose values are `coarse`, of weights of `values`.
    mutating func add(
        _ low: BlockFormat, _ coarse: [Float], of values: [Float], layer: Int, format: BlockFormat
    ) {
        var (squaredError, squaredWeights) = (0.0, 0.0)
        for (value, coarse) in zip(values, coarse) where value.isFinite {
            let difference = Double(coarse) - Double(value)
            squaredError += difference * difference
            squaredWeights += Double(value) * Double(value)
        }
        let index =
            rows.firstIndex { $0.layer == layer && $0.format == format } ?? rows.count
        if index == rows.count {
            rows.append(
                Row(layer: layer, format: format, lowFormat: low, bits: 0, fullBits: 0))
        }
        rows[index].add(squaredError: squaredError, squaredWeights: squaredWeights)
    }

    /// Measures the proper prefixes of a matrix that is cut into `parts`.
    mutating func add(
        _ nested: NestedFormat, _ parts: [[UInt8]], layer: Int, matrix: ExpertPart
    ) {
        var bits = 0
        for prefix in 1..<nested.bits.count {
            bits += nested.bits[prefix - 1]
            let index =
                rows.firstIndex {
                    $0.layer == layer && $0.format == nested.format && $0.bits == bits
                } ?? rows.count
            if index == rows.count {
                rows.append(
                    Row(
                        layer: layer, format: nested.format, lowFormat: nil, bits: bits,
                        fullBits: nested.bits.reduce(0, +)))
            }
            var error = PrefixError()
            unsafe withPointers(parts) { pointers in
                unsafe error.add(
                    nested, pointers, prefix: prefix, rows: matrix.rows, columns: matrix.columns)
            }
            rows[index].add(
                squaredError: error.squaredError, squaredWeights: error.squaredWeights)
        }
    }
}

/// Calls `body` with the addresses of all `parts`.
private func withPointers(_ parts: [[UInt8]], _ body: ([UnsafeRawPointer]) -> Void) {
    func next(_ index: Int, _ pointers: [UnsafeRawPointer]) {
        guard index < parts.count else { return unsafe body(pointers) }
        unsafe parts[index].withUnsafeBytes { buffer in
            guard let start = buffer.baseAddress else { return }
            unsafe next(index + 1, pointers + [start])
        }
    }
    unsafe next(0, [])
}

/// How small zstd makes the matrices of experts.
public struct CompressionTrial: Sendable {
    /// Bytes of the sample and of its frames, by format.
    public private(set) var formats: [BlockFormat: (bytes: Int, compressed: Int)] = [:]

    /// Compresses a matrix quickly: what experts would be read with must not cost time to decode.
    mutating func add(_ format: BlockFormat, _ bytes: [UInt8]) {
        guard let zstd = unsafe host_zstd_create() else { return }
        defer { unsafe host_zstd_destroy(zstd) }
        var frame = [UInt8](repeating: 0, count: host_zstd_bound(bytes.count))
        let size = unsafe frame.withUnsafeMutableBytes { into in
            unsafe bytes.withUnsafeBytes { from in
                unsafe host_zstd_compress(
                    zstd, into.baseAddress, into.count, from.baseAddress, from.count, 3)
            }
        }
        guard size > 0 else { return }
        formats[format, default: (0, 0)].bytes += bytes.count
        formats[format, default: (0, 0)].compressed += Int(size)
    }
}
