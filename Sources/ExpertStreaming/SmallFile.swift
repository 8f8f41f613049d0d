private import CHost

/// Small text files of /proc and /sys.
enum SmallFile {
    /// The text of a file of at most `limit` bytes; nil if it cannot be read.
    static func read(_ path: String, limit: Int = 256 << 10) -> String? {
        var length: Int64 = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            length = unsafe buffer.withMemoryRebound(to: CChar.self) { text in
                unsafe host_read_text(path, text.baseAddress, limit)
            }
            count = max(0, Int(length))
        }
        return length < 0 ? nil : String(decoding: bytes, as: UTF8.self)
    }
}
