/// One read request: a piece of an aligned file range, and the place in a slot where it goes.
///
/// Ranges are cut into pieces so that a few experts already keep many requests in flight.
@safe
struct ReadPiece: BitwiseCopyable {
    /// Longest piece in bytes. Anything from 256 KiB to 1 MiB reads equally fast at depth.
    static let largestBytes = 512 << 10

    var address: UnsafeMutableRawPointer
    var offset: UInt64
    var length: UInt32
    /// Bytes from the start that must arrive; less than `length` only where the alignment reaches
    /// past what is wanted, and perhaps past the end of the file.
    var needed: UInt32
    var fileIndex: Int32
    var slot: Int32
    /// Arena chunk, which is the registered buffer's index.
    var chunk: Int32
    var attempts: Int32
    /// Sent in the background; told when it is pushed.
    var isBackground = false

    /// Pieces of about equal size that a range is cut into.
    static func count(for range: AlignedRange, alignment: Int) -> Int {
        let wanted = (range.byteCount + largestBytes - 1) / largestBytes
        let blocks = range.byteCount / alignment
        let step = (blocks + wanted - 1) / wanted
        return (blocks + step - 1) / step
    }

    /// Drops the first `bytes`, which have arrived.
    mutating func advance(by bytes: UInt32) {
        unsafe address += Int(bytes)
        offset += UInt64(bytes)
        length -= bytes
        needed -= bytes
    }
}
