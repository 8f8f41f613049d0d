internal import CHost
internal import ExpertStreaming
import ModelFormats

/// SHA-256 of files and bytes (FIPS 180-4), in lower-case hexadecimal.
enum FileDigest {
    /// The digest of every source, each read from end to end.
    ///
    /// - Parameter progress: Called with the share of all bytes, 0 ... 1.
    static func sha256(
        of sources: [PackageSource], progress: (Double) -> Void
    ) throws -> [String] {
        let total = sources.reduce(0.0) { $0 + Double($1.byteCount) }
        var done = 0.0
        var piece = [UInt8](repeating: 0, count: 4 << 20)
        return try sources.map { source in
            var reader = try FileReader(path: source.path)
            var hash = host_sha256()
            unsafe host_sha256_begin(&hash, 0)
            var offset: UInt64 = 0
            while offset < source.byteCount {
                let count = Int(min(UInt64(piece.count), source.byteCount - offset))
                try unsafe piece.withUnsafeMutableBytes { buffer in
                    guard let start = buffer.baseAddress else { return }
                    try unsafe reader.read(into: start, offset: offset, byteCount: count)
                    unsafe host_sha256_add(&hash, start, count)
                }
                offset += UInt64(count)
                done += Double(count)
                progress(done / total)
            }
            return hexadecimal(&hash)
        }
    }

    /// The digest of bytes given in pieces; `portable` without the processor's instructions.
    static func sha256(_ pieces: [[UInt8]], portable: Bool = false) -> String {
        var hash = host_sha256()
        unsafe host_sha256_begin(&hash, portable ? 1 : 0)
        for piece in pieces {
            unsafe piece.withUnsafeBytes {
                unsafe host_sha256_add(&hash, $0.baseAddress, $0.count)
            }
        }
        return hexadecimal(&hash)
    }

    private static func hexadecimal(_ hash: inout host_sha256) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe host_sha256_end(&hash, &digest)
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
