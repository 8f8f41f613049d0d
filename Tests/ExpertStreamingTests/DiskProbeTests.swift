// Rates depend on the machine; what they are made of does not.

import CHost
import Glibc
import Testing

@testable import ExpertStreaming

@Suite struct DiskProbeTests {
    @Test(arguments: IOMode.allCases)
    func everyRungIsMeasured(_ mode: IOMode) throws {
        let file = try TemporaryFile(byteCount: 3_000_000)
        let usual = try DiskProbe(path: file.path, pieceBytes: 4096, depth: 1).mode
        // A rung above the one that works here is refused, which LadderTests look into.
        let order = IOMode.allCases
        guard order.firstIndex(of: mode)! >= order.firstIndex(of: usual)! else { return }
        var probe = try DiskProbe(path: file.path, pieceBytes: 100_000, depth: 5, mode: mode)
        #expect(probe.mode == mode && !probe.modeText.isEmpty)
        #expect(probe.pieceBytes >= 100_000 && probe.pieceBytes % probe.alignment == 0)
        #expect(probe.pieceBytes - 100_000 < probe.alignment)
        for depth in [1, 3, 5] {
            let sample = try probe.measure(depth: depth, seconds: 0.02)
            #expect(sample.reads >= depth && sample.bytes == sample.reads * probe.pieceBytes)
            #expect(sample.seconds >= 0.02)
            #expect(sample.bytesPerSecond * sample.seconds - Double(sample.bytes) < 1)
            #expect(sample.medianLatencySeconds > 0)
            #expect(sample.medianLatencySeconds <= sample.worstLatencySeconds)
            #expect(sample.worstLatencySeconds <= sample.seconds)
        }
    }

    @Test func aFileOfOnePieceHasOnePlace() throws {
        let file = try TemporaryFile(byteCount: 65_536)
        var probe = try DiskProbe(path: file.path, pieceBytes: 65_536, depth: 2)
        #expect(try probe.measure(seconds: 0).reads == 2)
    }

    @Test func depthIsAtMostTheProbes() throws {
        let file = try TemporaryFile(byteCount: 200_000)
        var probe = try DiskProbe(path: file.path, pieceBytes: 8192, depth: 4)
        #expect(try probe.measure(depth: 100, seconds: 0).reads == 4)
        #expect(try probe.measure(depth: -1, seconds: 0).reads == 1)
    }

    @Test func whatCannotBeMeasuredIsRefused() throws {
        let file = try TemporaryFile(byteCount: 10_000)
        func refusal(_ path: String, piece: Int = 4096, depth: Int = 1) -> String {
            do throws(StreamingError) {
                _ = try DiskProbe(path: path, pieceBytes: piece, depth: depth)
                return "none"
            } catch {
                return error.description
            }
        }
        #expect(refusal(file.path, piece: 20_000).contains("10000 bytes are too few"))
        #expect(refusal(file.path + "-missing").contains("no such file"))
        #expect(refusal("/proc").contains("not a regular file"))
        #expect(refusal(file.path, piece: 0).contains("cannot be measured"))
        #expect(refusal(file.path, depth: 0).contains("cannot be measured"))
        #expect(refusal(file.path, depth: 5000).contains("cannot be measured"))
        #expect(refusal(file.path, piece: .max).contains("cannot be measured"))
    }

    @Test func aFileThatIsCutMeanwhileFailsByName() throws {
        let file = try TemporaryFile(byteCount: 1_000_000)
        var probe = try DiskProbe(path: file.path, pieceBytes: 65_536, depth: 2)
        #expect(unsafe truncate(file.path, 4096) == 0)
        let error = #expect(throws: StreamingError.self) { try probe.measure(seconds: 0.2) }
        #expect(error?.kind == .readFailed)
        #expect(error?.description.hasPrefix("\(file.path): reading at offset") ?? false)
    }

    /// As the streamer cuts a range of whole pages.
    @Test func piecesAreThoseOfTheStreamer() {
        for bytes in [1, 4096, 512 << 10, (512 << 10) + 4096, 884_736, 1_032_192, 3 << 20] {
            let whole = (bytes + 4095) / 4096 * 4096
            let range = AlignedRange(
                fileIndex: 0, start: 0, end: UInt64(whole), wantedEnd: UInt64(bytes), nextPart: 1)
            let count = ReadPiece.count(for: range, alignment: 4096)
            let piece = (DiskProbe.pieceBytes(range: bytes) + 4095) / 4096 * 4096
            #expect(piece <= ReadPiece.largestBytes)
            #expect((whole + piece - 1) / piece == count, "\(bytes) bytes")
        }
    }
}
