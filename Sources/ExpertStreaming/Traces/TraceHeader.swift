/// The header of a trace file.
///
/// A trace file holds a header and then one record of equal size per token. Everything is
/// little-endian and unaligned:
///
///     offset  bytes
///          0      8  magic, "SLUICERT"
///          8      4  version, 1
///         12      4  length of the header in bytes: where the first record begins
///         16      4  layers that have experts
///         20      4  experts per layer
///         24      4  experts per token (k)
///         28      4  planes per expert, 0 where the bytes of an expert are not known
///         32      4  flags: 1 gate weights, 2 router inputs, 4 router inputs in 16 bits
///         36      4  elements of a router input; 0 without
///         40      4  length of the model's name in bytes
///         44      4  length of the architecture's name in bytes
///         48    8 x  bytes of one plane of one expert: (layers, planes)
///          .      .  the model's name, the architecture's, in UTF-8
///
/// A record:
///
///          0      4  sequence; a token with another number than the one before begins a sequence
///          4      1  phase: 0 prefill, 1 decode
///          5      3  0
///          8      4  token id, signed; -1 where not known
///         12      .  by layer: k experts in 16 bits, by rank, 65535 where none was recorded;
///                    k gate weights as float32, if included;
///                    the router's input as float32 or float16, if included
public struct TraceHeader: Sendable, Equatable {

    /// How router inputs are stored.
    public enum InputFormat: Sendable, Equatable {
        case float32, float16

        var byteCount: Int { self == .float32 ? 4 : 2 }
    }

    public var shape: TraceShape
    public var hasGateWeights: Bool
    /// Elements of what each router is given; 0 where inputs are not recorded.
    public var inputLength = 0
    public var inputFormat = InputFormat.float16

    static let magic = Array("SLUICERT".utf8)
    static let version: UInt32 = 1
    /// The part of the header that always has the same length.
    static let fixedBytes = 48
    static let longestNameBytes = 4096
    /// Far above any model's: 100 layers with inputs of 16,384 elements take 6.6 MB.
    static let largestRecordBytes = 256 << 20

    public init(shape: TraceShape, hasGateWeights: Bool) {
        self.shape = shape
        self.hasGateWeights = hasGateWeights
    }

    /// Bytes of one token.
    public var recordBytes: Int {
        let width = shape.expertsPerToken
        let input = inputLength * inputFormat.byteCount
        return 12 + shape.layerCount * (width * (hasGateWeights ? 6 : 2) + input)
    }

    var problem: String? {
        if let problem = shape.problem { return problem }
        if inputLength < 0 || inputLength > 1 << 20 { return "input length: \(inputLength)" }
        if recordBytes > Self.largestRecordBytes {
            return "layers, k and input length: \(recordBytes) bytes per token"
        }
        if shape.model.utf8.count > Self.longestNameBytes
            || shape.architecture.utf8.count > Self.longestNameBytes
        {
            return "name: longer than \(Self.longestNameBytes) bytes"
        }
        return nil
    }

    /// The header as the file begins with it.
    var bytes: [UInt8] {
        var bytes = Self.magic
        let planes = shape.planeBytes.isEmpty ? 0 : shape.planeCount
        let inputs = inputLength > 0
        let model = Array(shape.model.utf8)
        let architecture = Array(shape.architecture.utf8)
        let length =
            Self.fixedBytes + 8 * shape.planeBytes.count * planes + model.count
            + architecture.count
        var flags: UInt32 = hasGateWeights ? 1 : 0
        if inputs { flags |= inputFormat == .float16 ? 6 : 2 }
        for word in [
            Self.version, UInt32(length), UInt32(shape.layerCount), UInt32(shape.expertsPerLayer),
            UInt32(shape.expertsPerToken), UInt32(planes), flags, UInt32(inputLength),
            UInt32(model.count), UInt32(architecture.count),
        ] {
            bytes.append(littleEndian: word)
        }
        for plane in shape.planeBytes.joined() { bytes.append(littleEndian: UInt64(plane)) }
        return bytes + model + architecture
    }

    /// Reads a header.
    ///
    /// - Parameters:
    ///   - name: The file's, for errors.
    ///   - fileBytes: Its size, which nothing in the header may exceed.
    ///   - read: Gives that many bytes from that offset on, which lie inside the file.
    /// - Returns: The header and its length in bytes.
    static func read(
        name: String, fileBytes: Int,
        _ read: (_ offset: Int, _ count: Int) throws(TraceError) -> [UInt8]
    ) throws(TraceError) -> (header: TraceHeader, byteCount: Int) {
        func refuse(_ offset: Int, _ why: String) -> TraceError {
            TraceError(.malformed, "\(name): \(why) (offset \(offset))")
        }
        guard fileBytes >= fixedBytes else {
            throw refuse(fileBytes, "ends within its header of at least \(fixedBytes) bytes")
        }
        let fixed = try read(0, fixedBytes)
        guard Array(fixed[..<8]) == magic else { throw refuse(0, "magic: not a trace") }
        func word(_ offset: Int) -> Int { Int(fixed.littleEndian(UInt32.self, at: offset)) }
        guard word(8) == Int(version) else {
            throw refuse(8, "version: \(word(8)); this Sluice reads version \(version)")
        }
        var shape = TraceShape(
            layerCount: word(16), expertsPerLayer: word(20), expertsPerToken: word(24))
        if let problem = shape.problem { throw refuse(16, problem) }
        let planes = word(28)
        guard planes <= 4 else { throw refuse(28, "planes: \(planes), at most 4 are possible") }
        let flags = word(32)
        guard flags < 8, flags & 6 != 4 else { throw refuse(32, "flags: \(flags) is unknown") }
        var header = TraceHeader(shape: shape, hasGateWeights: flags & 1 != 0)
        header.inputLength = word(36)
        header.inputFormat = flags & 4 != 0 ? .float16 : .float32
        guard (header.inputLength > 0) == (flags & 2 != 0) else {
            throw refuse(36, "input length: \(header.inputLength), against the flags' \(flags)")
        }
        for offset in [40, 44] where word(offset) > longestNameBytes {
            throw refuse(offset, "name: \(word(offset)) bytes, more than \(longestNameBytes)")
        }
        let nameOffset = fixedBytes + 8 * shape.layerCount * planes
        let length = nameOffset + word(40) + word(44)
        guard word(12) == length else {
            throw refuse(12, "header length: \(word(12)), where its fields add up to \(length)")
        }
        guard length <= fileBytes else {
            throw refuse(fileBytes, "ends within its header of \(length) bytes")
        }
        let rest = try read(fixedBytes, length - fixedBytes)
        for layer in 0..<(planes == 0 ? 0 : shape.layerCount) {
            shape.planeBytes.append([])
            for plane in 0..<planes {
                let at = 8 * (layer * planes + plane)
                let bytes = rest.littleEndian(UInt64.self, at: at)
                guard bytes <= UInt64(ExpertLayout.largestExpertBytes) else {
                    throw refuse(
                        fixedBytes + at, "bytes per expert of layer \(layer): \(bytes)")
                }
                shape.planeBytes[layer].append(Int(bytes))
            }
        }
        let names = rest[(nameOffset - fixedBytes)...]
        shape.model = String(decoding: names.prefix(word(40)), as: UTF8.self)
        shape.architecture = String(decoding: names.dropFirst(word(40)), as: UTF8.self)
        header.shape = shape
        if let problem = header.problem { throw refuse(16, problem) }
        return (header, length)
    }
}

extension [UInt8] {
    mutating func append(littleEndian value: some FixedWidthInteger) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    func littleEndian<Integer: FixedWidthInteger>(_: Integer.Type, at offset: Int) -> Integer {
        var value: Integer = 0
        for index in (0..<MemoryLayout<Integer>.size).reversed() {
            value = value << 8 | Integer(truncatingIfNeeded: self[offset + index])
        }
        return value
    }
}
