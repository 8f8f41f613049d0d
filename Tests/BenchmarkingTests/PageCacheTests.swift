import CHost
import Glibc
import Testing

@testable import Benchmarking

@Suite struct PageCacheTests {
    @Test(
        .enabled(
            if: BlockDevice(holding: "/var/tmp") != nil,
            "/var/tmp is on no disk: its files are nowhere but in memory"))
    func evictedPagesAreGone() throws {
        var name = Array("/var/tmp/sluice-benchmarking-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&name)
        let path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            close(descriptor)
            unsafe unlink(path)
        }
        let bytes = [UInt8](repeating: 1, count: 1 << 20)
        #expect(unsafe write(descriptor, bytes, bytes.count) == bytes.count)
        // Just written, and not yet on the disk.
        #expect(host_cached_bytes(descriptor, 0, 1 << 20) == 1 << 20)
        #expect(try PageCache.evict([path, path]) == 0)
        #expect(host_cached_bytes(descriptor, 0, 1 << 20) == 0)
    }

    @Test func anEmptyFileHasNoPages() throws {
        let folder = Folder()
        folder.write("empty", "")
        #expect(try PageCache.evict(["\(folder.path)/empty"]) == 0)
        #expect(try PageCache.evict([]) == 0)
    }

    @Test(arguments: ["/nowhere/at/all", "/proc"])
    func whatIsNoFileIsNamed(path: String) {
        let error = #expect(throws: BenchmarkingError.self) { try PageCache.evict([path]) }
        #expect(error?.description.hasPrefix("\(path): cannot be opened") == true)
    }
}
