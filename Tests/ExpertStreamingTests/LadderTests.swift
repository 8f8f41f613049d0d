import Glibc
import Testing

@testable import ExpertStreaming

private func open(
    _ file: TemporaryFile, io: IOMode? = nil, _ set: (inout DiskLadder.Refusals) -> Void = { _ in }
) throws -> (mode: IOMode, reason: String, problem: String?) {
    var refusals = DiskLadder.Refusals()
    set(&refusals)
    let layout = try file.layout(layers: 1, experts: 4, parts: 3, bytes: 30_000)
    var streamer = try ExpertStreamer(
        layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2,
        options: StreamingOptions(io: io),
        refusals: refusals, simulated: nil)
    let (_, problem) = streamer.fetch(layer: 0, [3, 1, 2], from: file)
    return (streamer.mode, streamer.modeReason, problem)
}

@Suite struct LadderTests {
    let file: TemporaryFile

    init() throws {
        file = try TemporaryFile(byteCount: 400_000)
    }

    @Test func withoutARingThreadsRead() throws {
        let (mode, reason, problem) = try open(file) { $0.ring = EPERM }
        #expect(mode == .pread)
        #expect(reason.contains("reader threads") && reason.contains("io_uring refused (EPERM"))
        #expect(problem == nil)
    }

    @Test func withoutDirectReadsThePageCacheIsUsed() throws {
        let (mode, reason, problem) = try open(file) {
            $0.direct = EINVAL
            $0.ring = 0
        }
        #expect(mode == .buffered || mode == .pread)
        #expect(reason.contains("O_DIRECT refused for \(file.path) (EINVAL"))
        #expect(reason.contains("the page cache"))
        #expect(problem == nil)
    }

    @Test func directReadsThatLieAreNotUsed() throws {
        let (mode, reason, problem) = try open(file) { $0.directLies = true }
        #expect(mode != .direct)
        #expect(reason.contains("O_DIRECT"))
        #expect(problem == nil)
    }

    @Test func withoutEitherThreadsReadThroughThePageCache() throws {
        let (mode, reason, problem) = try open(file) {
            $0.ring = ENOSYS
            $0.direct = EINVAL
        }
        #expect(mode == .pread)
        #expect(reason.contains("ENOSYS") && reason.contains("O_DIRECT refused"))
        #expect(problem == nil)
    }

    @Test func buffersThatCannotBePinnedAreUsedWithout() throws {
        let (mode, reason, problem) = try open(file) { $0.registration = ENOMEM }
        #expect(problem == nil)
        guard mode != .pread else { return }  // no ring on this machine
        #expect(
            reason.contains("buffers not registered (ENOMEM") && reason.contains("RLIMIT_MEMLOCK"))
    }

    @Test func aRingThatIsRefusedInFullIsDoneWithout() throws {
        let (mode, reason, problem) = try open(file) { $0.fullRing = ENOMEM }
        #expect(mode == .pread)
        #expect(reason.contains("io_uring refused (E"))
        #expect(problem == nil)
    }

    @Test(arguments: [IOMode.direct, .buffered])
    func aForcedModeThatDoesNotWorkIsAnErrorThatSaysWhy(
        mode: IOMode
    ) throws {
        let error = #expect(throws: StreamingError.self) {
            try open(file, io: mode) { $0.ring = EPERM }
        }
        #expect(error?.kind == .modeRefused)
        #expect(
            error?.description.hasPrefix("--io \(mode.rawValue) does not work here") == true)
        #expect(error?.description.contains("EPERM") == true)
    }

    @Test func threadsCanBeForced() throws {
        let (mode, _, problem) = try open(file, io: .pread)
        #expect(mode == .pread)
        #expect(problem == nil)
    }

    @Test func missingAndWrongFilesAreNamed() throws {
        let layout = try file.layout(layers: 1, experts: 4, parts: 3, bytes: 30_000)
        func failure(_ path: String, _ layout: ExpertLayout) -> StreamingError? {
            #expect(throws: StreamingError.self) {
                _ = try ExpertStreamer(
                    layout: layout, paths: [path], cacheBytes: 1 << 20, activeExpertsPerToken: 2)
            }
        }
        #expect(failure("/nonexistent/model.gguf", layout)?.description.contains("ENOENT") == true)
        #expect(failure("/", layout)?.description.contains("not a regular file") == true)
        let short = try TemporaryFile(byteCount: 300_000)
        let cut = failure(short.path, layout)
        #expect(cut?.kind == .unusableFile)
        #expect(cut?.description.contains("300000") == true)
    }

    @Test func librariesTellTheirVersions() {
        #expect(LibraryVersions.libzstd?.first == "1")
        #expect(LibraryVersions.liburing?.contains(".") ?? true)
    }
}

@Suite struct FileReaderTests {

    @Test(arguments: [onDisk, "/dev/shm"].filter(isWritable))
    func anyRangeGoesAnywhere(directory: String) throws {
        let file = try TemporaryFile(byteCount: 9_000_001, directory: directory)
        var reader = try FileReader(path: file.path)
        #expect(reader.fileBytes == 9_000_001)
        var generator = SplitMix(seed: 5)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 9_000_001 + 8192, alignment: 4096)
        defer { unsafe buffer.deallocate() }
        var ranges = [(0, 9_000_001), (9_000_000, 1), (0, 0), (9_000_001, 0), (4096, 8192), (0, 1)]
        for _ in 0..<40 {
            let offset = Int.random(in: 0..<9_000_000, using: &generator)
            ranges.append((offset, Int.random(in: 0...9_000_001 - offset, using: &generator)))
        }
        for (index, (offset, count)) in ranges.enumerated() {
            let shift = index % 3 == 0 ? 0 : Int.random(in: 0..<4096, using: &generator)
            unsafe buffer.storeBytes(of: 0xAB, toByteOffset: shift + count, as: UInt8.self)
            try unsafe reader.read(into: buffer + shift, offset: UInt64(offset), byteCount: count)
            let same = unsafe file.bytes.withUnsafeBytes {
                unsafe memcmp($0.baseAddress! + offset, buffer + shift, count) == 0
            }
            #expect(same, "\(count) bytes at \(offset)")
            let beyond = unsafe buffer.load(fromByteOffset: shift + count, as: UInt8.self)
            #expect(beyond == 0xAB, "a byte behind the range was written")
        }
    }

    @Test func rangesBeyondTheFileAreRefused() throws {
        let file = try TemporaryFile(byteCount: 1000)
        var reader = try FileReader(path: file.path)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 2000, alignment: 16)
        defer { unsafe buffer.deallocate() }
        for (offset, count) in [(0, 1001), (1000, 1), (1001, 0), (999, 2), (0, -1), (Int.max, 1)] {
            var refused = false
            do throws(StreamingError) {
                try unsafe reader.read(into: buffer, offset: UInt64(offset), byteCount: count)
            } catch {
                refused = error.kind == .readFailed
            }
            #expect(refused, "\(count) bytes at \(offset)")
        }
    }

    @Test func aFileCutAfterOpeningFailsCleanly() throws {
        let file = try TemporaryFile(byteCount: 100_000)
        var reader = try FileReader(path: file.path)
        unsafe truncate(file.path, 50_000)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 100_000, alignment: 16)
        defer { unsafe buffer.deallocate() }
        var message = ""
        do throws(StreamingError) {
            try unsafe reader.read(into: buffer, offset: 32, byteCount: 99_000)
        } catch {
            message = error.description
        }
        #expect(message.contains("the file ends there"))
    }
}
