import CHost
import Glibc

/// What the kernel keeps of files in memory.
public enum PageCache {
    /// Drops the pages of files from the page cache.
    ///
    /// - Parameter paths: Regular files that this user may write to: of others the kernel does not
    ///   say what it holds, and calls all of it cached.
    /// - Returns: Bytes still cached, by mincore: 0 is the proof that none are. Others come of
    ///   somebody who has the file mapped or locked.
    /// - Throws: for a file that cannot be opened, or of which the kernel tells nothing.
    public static func evict(_ paths: [String]) throws(BenchmarkingError) -> Int {
        var total = 0
        for path in paths { total += try evict(path) }
        return total
    }

    private static func evict(_ path: String) throws(BenchmarkingError) -> Int {
        let descriptor = unsafe host_open_file(path, 0)
        guard descriptor >= 0 else {
            let reason = SystemError(number: -descriptor).text
            throw BenchmarkingError("\(path): cannot be opened to drop its pages: \(reason)")
        }
        defer { host_close_file(descriptor) }
        let size = host_file_size(descriptor)
        guard size > 0 else { return 0 }
        // A page that waits to be written is not dropped.
        fsync(descriptor)
        var cached: Int64 = 0
        // Nor is one that another processor has just put on a list of its own.
        for attempt in 0..<10 {
            if attempt > 0 { usleep(20_000) }
            host_drop_cached(descriptor, 0, UInt64(size))
            cached = host_cached_bytes(descriptor, 0, UInt64(size))
            if cached == 0 { return 0 }
        }
        guard cached > 0 else {
            throw BenchmarkingError(
                "\(path): the kernel does not say what it has cached of it; put it on a local disk")
        }
        return Int(cached)
    }
}
