// The file of one predictor. Everything is little-endian.
//
//   offset  bytes
//        0  8     "SLUICEPR"
//        8  4     version: 1
//       12  4     kind: 1 learned, 2 path
//       16  4     layers L
//       20  4     experts per layer E
//       24  4     experts per token k
//       28  4     embedding D
//       32  4     layers ahead; 1 for a path
//       36  4     successors per key W of a path; 0 for learned
//       40  8     pairs P of a path; 0 for learned
//       48  8     the model's hash; see ModelFingerprint.tensorTable
//       56  4     bytes of the model's name, n, at most 1024
//       60  4     bytes of its architecture, a, at most 64
//       64  4     CRC-32C of the body
//       68  4     CRC-32C of all bytes before the body, these four taken as zero
//       72  n + a name, architecture, UTF-8
//                 body, to the end of the file:
//   learned       weights f32 (L - ahead, E, D), bias f32 (L - ahead, E)
//   path          shares f32 (L, E); successors u16 (L, E, W), their shares f32 (L, E, W);
//                 first pairs u32 (L + 1); pairs u32 (P); successors u16 (P, W), their shares f32 (P, W)

internal import CHost
public import ModelFormats

/// A predictor as a file holds it.
public enum PredictorFile: Sendable, Equatable {
    case learned(LearnedPredictor)
    case path(PathPredictor)

    /// Most bytes such a file may have: above what a model of a trillion parameters needs.
    public static let limitBytes = 2 << 30

    private static let magic = Array("SLUICEPR".utf8)
    private static let version: UInt32 = 1
    private static let fixedBytes = 72
    private static let longestName = 1024
    private static let longestArchitecture = 64

    /// The bytes of its file; `model` is the one it was trained for.
    public func encoded(for model: ModelFingerprint) -> [UInt8] {
        var body = ByteWriter()
        let kind, ahead, width, pairs: Int
        switch self {
        case .learned(let predictor):
            (kind, ahead, width, pairs) = (1, predictor.ahead, 0, 0)
            body.append(predictor.weights)
            body.append(predictor.bias)
        case .path(let predictor):
            (kind, ahead, width, pairs) = (2, 1, predictor.width, predictor.pairs.count)
            body.append(predictor.shares)
            body.append(predictor.successors)
            body.append(predictor.successorShares)
            body.append(predictor.firstPair)
            body.append(predictor.pairs)
            body.append(predictor.pairSuccessors)
            body.append(predictor.pairShares)
        }
        // A file's names are cut by ModelDescription already; 200 scalars are at most 800 bytes.
        let name = Array(model.name.utf8.prefix(PredictorFile.longestName))
        let architecture = Array(model.architecture.utf8)
        var head = ByteWriter()
        head.append(PredictorFile.magic)
        head.append([PredictorFile.version])
        head.append(
            [
                kind, model.layers, model.experts, model.expertsPerToken, model.embedding, ahead,
                width,
            ].map { UInt32($0) })
        head.append([UInt64(pairs), UInt64(model.tensorTable, radix: 16) ?? 0])
        head.append([UInt32(name.count), UInt32(architecture.count)])
        head.append([crc(body.bytes[...]), 0])
        head.append(name)
        head.append(architecture)
        var check = ByteWriter()
        check.append([crc(head.bytes[...])])
        head.bytes.replaceSubrange(68..<72, with: check.bytes)
        return head.bytes + body.bytes
    }

    /// Reads the predictor of `model` from the bytes of the file `path`.
    ///
    /// - Throws: `ModelFileError` where it is no predictor, damaged, or another model's.
    public init(bytes: [UInt8], path: String, of model: ModelFingerprint) throws(ModelFileError) {
        func refuse(_ field: String?, _ offset: Int?, _ message: String) -> ModelFileError {
            ModelFileError(
                path: path, field: field, offset: offset.map { UInt64($0) }, message: message)
        }
        let again = "; train it again with sluice train-predictor"
        guard bytes.starts(with: PredictorFile.magic) else {
            throw refuse("magic", 0, "this is no predictor file")
        }
        guard bytes.count >= PredictorFile.fixedBytes else {
            throw refuse(nil, bytes.count, "ends inside the header" + again)
        }
        var reader = ByteReader(bytes, at: 8)
        let fields = reader.array(UInt32.self, 8).map { Int($0) }
        let (version, kind, layers, experts, k, embedding, ahead, width) = (
            fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6], fields[7]
        )
        let words = reader.array(UInt64.self, 2)
        let rest = reader.array(UInt32.self, 4)
        guard version == Int(PredictorFile.version) else {
            throw refuse(
                "version", 8, "\(version) is not supported, only \(PredictorFile.version)" + again)
        }
        let (nameBytes, architectureBytes) = (Int(rest[0]), Int(rest[1]))
        guard nameBytes <= PredictorFile.longestName,
            architectureBytes <= PredictorFile.longestArchitecture
        else {
            throw refuse(
                "names", 56, "\(nameBytes) and \(architectureBytes) bytes are too long" + again)
        }
        let headBytes = PredictorFile.fixedBytes + nameBytes + architectureBytes
        guard bytes.count >= headBytes else {
            throw refuse("names", bytes.count, "the file ends inside them" + again)
        }
        var head = bytes[..<headBytes]
        head.replaceSubrange(68..<72, with: [0, 0, 0, 0])
        guard crc(head) == rest[3] else {
            throw refuse("header", 68, "its checksum does not fit; the file is damaged" + again)
        }
        let names = bytes[PredictorFile.fixedBytes..<headBytes]
        let made = ModelFingerprint(
            name: String(decoding: names.prefix(nameBytes), as: UTF8.self),
            architecture: String(decoding: names.dropFirst(nameBytes), as: UTF8.self),
            layers: layers, experts: experts, expertsPerToken: k, embedding: embedding,
            tensorTableHash: words[1])
        if let mismatch = made.mismatch(with: model) {
            throw refuse("model", 48, mismatch + again)
        }
        guard (1...2).contains(kind) else { throw refuse("kind", 12, "\(kind) is unknown") }
        // From here on L, E, k and D are those of a model that has been checked.
        guard (1...2).contains(ahead), ahead < layers, kind == 1 || ahead == 1 else {
            throw refuse("layers ahead", 32, "\(ahead) is not supported")
        }
        guard kind == 1 ? width == 0 : (1...experts).contains(width) else {
            throw refuse("successors", 36, "\(width) are not 1 to \(experts)")
        }
        guard words[0] <= (kind == 1 ? 0 : UInt64(bytes.count)) else {
            throw refuse("pairs", 40, "\(words[0]) do not fit the file")
        }
        let pairs = Int(words[0])
        let expected =
            kind == 1
            ? 4 * (layers - ahead) * experts * (embedding + 1)
            : 4 * layers * experts + 6 * layers * experts * width + 4 * (layers + 1) + 4 * pairs
                + 6 * pairs * width
        guard bytes.count - headBytes == expected else {
            throw refuse(
                "body", headBytes,
                "\(bytes.count - headBytes) bytes, but its shapes need \(expected)" + again)
        }
        guard crc(bytes[headBytes...]) == rest[2] else {
            throw refuse(
                "body", headBytes, "its checksum does not fit; the file is damaged" + again)
        }
        reader = ByteReader(bytes, at: headBytes)
        if kind == 1 {
            let maps = layers - ahead
            let predictor = LearnedPredictor(
                layers: layers, experts: experts, embedding: embedding, ahead: ahead,
                weights: reader.array(Float.self, maps * experts * embedding),
                bias: reader.array(Float.self, maps * experts))
            guard predictor.weights.allSatisfy(\.isFinite), predictor.bias.allSatisfy(\.isFinite)
            else { throw refuse("weights", headBytes, "one is not finite" + again) }
            self = .learned(predictor)
        } else {
            let rows = layers * experts * width
            let predictor = PathPredictor(
                layers: layers, experts: experts, width: width,
                shares: reader.array(Float.self, layers * experts),
                successors: reader.array(UInt16.self, rows),
                successorShares: reader.array(Float.self, rows),
                firstPair: reader.array(UInt32.self, layers + 1),
                pairs: reader.array(UInt32.self, pairs),
                pairSuccessors: reader.array(UInt16.self, pairs * width),
                pairShares: reader.array(Float.self, pairs * width))
            if let problem = predictor.problem {
                throw refuse(problem.field, headBytes, problem.message + again)
            }
            self = .path(predictor)
        }
    }
}

/// CRC-32C; see CHost.
private func crc(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    unsafe bytes.withUnsafeBytes { unsafe host_crc32c(0, $0.baseAddress, $0.count) }
}

extension PathPredictor {
    /// What would make a lookup read past its arrays or answer nonsense.
    fileprivate var problem: (field: String, message: String)? {
        for experts in [successors, pairSuccessors]
        where experts.contains(where: { Int($0) >= self.experts }) {
            return ("successors", "one is not an expert below \(self.experts)")
        }
        for figures in [shares, successorShares, pairShares]
        where figures.contains(where: { !($0 >= 0 && $0 <= 1) }) {
            return ("shares", "one is not between 0 and 1")
        }
        guard firstPair.first == 0, firstPair.last.map({ Int($0) }) == pairs.count,
            zip(firstPair, firstPair.dropFirst()).allSatisfy({ $0 <= $1 })
        else { return ("first pairs", "they do not divide the \(pairs.count) pairs") }
        for layer in 0..<layers {
            let keys = pairs[Int(firstPair[layer])..<Int(firstPair[layer + 1])]
            guard zip(keys, keys.dropFirst()).allSatisfy({ $0 < $1 }) else {
                return ("pairs", "those of layer \(layer) are not in order")
            }
        }
        return nil
    }
}

/// Values one after the other, as they lie in memory: every machine Sluice runs on is little-endian.
private struct ByteWriter {
    var bytes: [UInt8] = []

    mutating func append<Value: BitwiseCopyable>(_ values: [Value]) {
        unsafe values.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }
}

/// The opposite; the caller has checked that the bytes are there.
private struct ByteReader {
    private let bytes: [UInt8]
    private var offset: Int

    init(_ bytes: [UInt8], at offset: Int) {
        self.bytes = bytes
        self.offset = offset
    }

    mutating func array<Value: BitwiseCopyable>(_ type: Value.Type, _ count: Int) -> [Value] {
        let length = count * MemoryLayout<Value>.stride
        precondition(offset + length <= bytes.count, "read past the end")
        defer { offset += length }
        return unsafe [Value](unsafeUninitializedCapacity: count) { output, written in
            unsafe bytes.withUnsafeBytes { source in
                let from = unsafe UnsafeRawBufferPointer(
                    rebasing: source[offset..<(offset + length)])
                unsafe UnsafeMutableRawBufferPointer(output).copyMemory(from: from)
            }
            written = count
        }
    }
}
