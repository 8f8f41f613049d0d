import Glibc
import Testing

@testable import ExpertStreaming

/// A path that nobody has, whose file goes away with its owner.
final class TracePath {
    let path: String

    init() {
        path = "\(onDisk)/sluice-trace-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    }

    convenience init(_ bytes: [UInt8]) throws {
        self.init()
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
        guard descriptor >= 0,
            unsafe bytes.withUnsafeBytes({
                unsafe write(descriptor, $0.baseAddress, $0.count)
            }) == bytes.count
        else { throw TemporaryFile.FixtureError(errno: errno) }
        close(descriptor)
    }

    convenience init(_ text: String) throws { try self.init(Array(text.utf8)) }

    var bytes: [UInt8] {
        get throws {
            let file = try TraceFile(path: path)
            return try file.read(offset: 0, count: file.byteCount)
        }
    }

    var isThere: Bool { unsafe access(path, F_OK) == 0 }

    deinit { unsafe unlink(path) }
}

@Suite struct TraceFileTests {

    private static func header(inputs: Int = 0) -> TraceHeader {
        var shape = TraceShape(layerCount: 2, expertsPerLayer: 5, expertsPerToken: 2)
        shape.model = "Mödel 7B"
        shape.architecture = "qwen3moe"
        shape.planeBytes = [[100, 50], [200, 60]]
        var header = TraceHeader(shape: shape, hasGateWeights: true)
        header.inputLength = inputs
        return header
    }

    private static func records(_ header: TraceHeader) -> [TraceRecord] {
        (0..<5).map { index in
            var record = TraceRecord(
                header: header, sequence: UInt32(index / 3), phase: index < 2 ? .prefill : .decode,
                tokenID: Int32(1000 * index) - 1)
            record.experts = [UInt16(index), 0, 1, 4].map { index == 0 && $0 == 0 ? 3 : $0 }
            record.gateWeights = [0.5, 0.25, Float(index), -1]
            // Exact in 16 bits.
            for element in record.inputs.indices {
                record.inputs[element] = Float(element) / 4 - Float(index)
            }
            return record
        }
    }

    private static func write(_ header: TraceHeader) throws -> TracePath {
        let path = TracePath()
        var writer = try TraceWriter(path: path.path, header: header)
        var records = records(header)
        records[0].experts = [3, 0, 1, RoutingTrace.absent]
        for record in records { try writer.append(record) }
        #expect(!path.isThere)
        try writer.close()
        return path
    }

    @Test(arguments: [(0, false), (3, false), (3, true)])
    func whatIsWrittenIsRead(inputs: Int, wide: Bool) throws {
        var header = Self.header(inputs: inputs)
        header.inputFormat = wide ? .float32 : .float16
        if inputs == 0 { header.inputFormat = .float32 }
        let path = try Self.write(header)
        var expected = Self.records(header)
        expected[0].experts = [3, 0, 1, RoutingTrace.absent]
        var reader = try TraceReader(path: path.path)
        #expect(reader.header == header)
        #expect(reader.recordCount == 5)
        for record in expected { #expect(try reader.next() == record) }
        #expect(try reader.next() == nil)

        let trace = try RoutingTrace(path: path.path)
        #expect(trace.shape == header.shape)
        #expect(trace.phases == [.prefill, .prefill, .decode, .decode, .decode])
        #expect(trace.tokenIDs == [-1, 999, 1999, 2999, 3999])
        #expect((0..<5).map(trace.beginsSequence) == [true, false, false, true, false])
        #expect(Array(trace.experts(token: 0, layer: 1)) == [1])
        #expect(Array(trace.experts(token: 3, layer: 0)) == [3, 0])
        #expect(trace.gateWeights == expected.flatMap(\.gateWeights))
        #expect(trace.shape.expertBytes == [150, 260])
    }

    /// The layout, written out by hand: what other programs would rely on.
    @Test func theBytesAreThoseDocumented() throws {
        var shape = TraceShape(layerCount: 1, expertsPerLayer: 300, expertsPerToken: 2)
        shape.model = "m"
        shape.architecture = "ab"
        shape.planeBytes = [[258]]
        var header = TraceHeader(shape: shape, hasGateWeights: true)
        header.inputLength = 1
        let path = TracePath()
        var writer = try TraceWriter(path: path.path, header: header)
        var record = TraceRecord(header: header, sequence: 7, phase: .decode, tokenID: -1)
        record.experts = [299, 1]
        record.gateWeights = [1, 0.5]
        record.inputs = [2]
        try writer.append(record)
        try writer.close()
        var expected = Array("SLUICERT".utf8)
        for word: UInt8 in [1, 59, 1] { expected += [word, 0, 0, 0] }
        expected += [44, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0]
        expected += [1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]
        expected += Array("mab".utf8)
        expected += [7, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]
        expected += [43, 1, 1, 0, 0, 0, 128, 63, 0, 0, 0, 63, 0, 64]
        #expect(try path.bytes == expected)
    }

    @Test func aWriterThatIsNotClosedLeavesNothing() throws {
        let path = TracePath()
        do {
            var writer = try TraceWriter(path: path.path, header: Self.header())
            try writer.append(Self.records(Self.header())[0])
        }
        #expect(!path.isThere)
        #expect(unsafe access("\(path.path).partial-\(getpid())", F_OK) != 0)
    }

    @Test func aFileCutAnywhereSaysWhere() throws {
        let header = Self.header(inputs: 3)
        let bytes = try Self.write(header).bytes
        let headerBytes = bytes.count - 5 * header.recordBytes
        for length in 0..<bytes.count {
            let cut = try TracePath(Array(bytes[..<length]))
            if length >= headerBytes, (length - headerBytes) % header.recordBytes == 0 {
                let tokens = (length - headerBytes) / header.recordBytes
                #expect(try RoutingTrace(path: cut.path).tokenCount == tokens)
                continue
            }
            let error = #expect(throws: TraceError.self) { try RoutingTrace(path: cut.path) }
            let text = error?.description ?? ""
            #expect(error?.kind == .malformed && text.hasPrefix(cut.path), "\(length): \(text)")
            #expect(!text.contains("\n") && text.contains("offset"), "\(length): \(text)")
            if length > headerBytes {
                let token = (length - headerBytes) / header.recordBytes
                #expect(text.contains("ends within token \(token)"), "\(length): \(text)")
            }
        }
    }

    @Test(
        arguments: [
            (8, [2, 0, 0, 0], "version: 2"), (12, [60, 0, 0, 0], "header length"),
            (16, [0, 0, 0, 0], "layers: 0"), (20, [255, 255, 255, 255], "experts: 4294967295"),
            (24, [6, 0, 0, 0], "experts per token: 6 of 5"), (28, [5, 0, 0, 0], "planes: 5"),
            (32, [8, 0, 0, 0], "flags: 8"), (32, [5, 0, 0, 0], "flags: 5"),
            (36, [1, 0, 0, 0], "input length: 1"), (40, [0, 0, 1, 0], "name: 65536"),
            (48, [0, 0, 0, 0, 0, 0, 0, 1], "bytes per expert of layer 0"),
            (52, [1], "bytes per expert of layer 0"),
        ] as [(Int, [UInt8], String)])
    func aHeaderThatCannotBeIsRefusedByField(offset: Int, bytes: [UInt8], part: String) throws {
        var all = try Self.write(Self.header()).bytes
        all.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        let damaged = try TracePath(all)
        let error = #expect(throws: TraceError.self) { try RoutingTrace(path: damaged.path) }
        #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
    }

    @Test(
        arguments: [
            (4, [2], "token 1, phase: 2"), (5, [1], "token 1, phase"),
            (12, [5, 0], "token 1, layer 0, rank 0: expert 5 of 5"),
            (14, [1, 0], "token 1, layer 0, rank 1: expert 1 for the second time"),
            (12, [255, 255], "token 1, layer 0, rank 0: no expert, but a later rank has one"),
        ] as [(Int, [UInt8], String)])
    func aRecordThatCannotBeIsRefusedByToken(offset: Int, bytes: [UInt8], part: String) throws {
        let header = Self.header()
        var all = try Self.write(header).bytes
        let at = all.count - 4 * header.recordBytes + offset
        all.replaceSubrange(at..<at + bytes.count, with: bytes)
        let damaged = try TracePath(all)
        let error = #expect(throws: TraceError.self) { try RoutingTrace(path: damaged.path) }
        #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("offset") == true)
    }

    @Test func anyByteChangedIsReadOrRefusedInOneLine() throws {
        let bytes = try Self.write(Self.header(inputs: 2)).bytes
        var generator = SplitMix(seed: 11)
        for _ in 0..<2_000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                damaged[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
            }
            let path = try TracePath(damaged)
            do {
                _ = try RoutingTrace(path: path.path)
            } catch {
                #expect(!error.description.contains("\n"))
            }
        }
    }

    @Test func whatIsNoFileIsRefused() {
        let missing = #expect(throws: TraceError.self) { try RoutingTrace(path: "/none/such") }
        #expect(missing?.kind == .unusableFile)
        let folder = #expect(throws: TraceError.self) { try RoutingTrace(path: "/tmp") }
        #expect(folder?.kind == .unusableFile)
        let unwritable = #expect(throws: TraceError.self) {
            _ = try TraceWriter(path: "/none/such", header: Self.header())
        }
        #expect(unwritable?.kind == .cannotCreate)
    }
}
