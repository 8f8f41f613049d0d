// Packages of any bytes, sealed again with checksums that fit: an error, or a package whose every extent
// lies in the file.

import ModelFormats

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var bytes = [UInt8](UnsafeBufferPointer(start: data, count: count))
    seal(&bytes)
    do throws(ModelFileError) {
        let package = try Package(bytes: bytes)
        for tensor in package.tensors {
            let stored = tensor.storage?.storedBytes(tensor.byteCount) ?? 0
            precondition(tensor.fileOffset + UInt64(stored) <= UInt64(count))
        }
        for layer in 0..<package.layerCount {
            // Any of thousands of experts is as good as another.
            for expert in 0..<min(package.expertCount, 16) {
                for plane in 0..<package.planesPerExpert {
                    _ = package.checksum(layer: layer, expert: expert, plane: plane)
                    for part in 0..<3 {
                        let extent = package.extent(
                            layer: layer, expert: expert, plane: plane, part: part)
                        precondition(extent.offset + UInt64(extent.byteCount) <= UInt64(count))
                    }
                }
            }
        }
        var verifier = try PackageVerifier(bytes: bytes)
        try verifier.run()
        for damage in verifier.damages { precondition(damage.offset ?? 0 < UInt64(count)) }
    } catch {
        precondition(!error.description.utf8.contains { $0 < 32 })
    }
    return 0
}

/// Puts the length, and the checksums of the sections and the header, in their places: the fuzzer would
/// not guess them.
private func seal(_ bytes: inout [UInt8]) {
    guard bytes.count >= 4096 else { return }
    put(UInt64(bytes.count), 8, at: 16, of: &bytes)
    for section in 0..<6 {
        let at = 24 + 24 * section
        let kind = get(4, at: at, of: bytes)
        let start = get(8, at: at + 8, of: bytes)
        let length = get(8, at: at + 16, of: bytes)
        guard kind != 2, kind != 3, start <= UInt64(bytes.count),
            length <= UInt64(bytes.count) - start
        else { continue }
        let crc = checksum(bytes[Int(start)..<Int(start + length)])
        put(UInt64(crc), 4, at: at + 4, of: &bytes)
    }
    put(UInt64(checksum(bytes[..<4092])), 4, at: 4092, of: &bytes)
}

private func get(_ width: Int, at offset: Int, of bytes: [UInt8]) -> UInt64 {
    (0..<width).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
}

private func put(_ value: UInt64, _ width: Int, at offset: Int, of bytes: inout [UInt8]) {
    for index in 0..<width {
        bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
}

/// CRC-32C, by RFC 3720.
private func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    ~bytes.reduce(~0) { crc, byte in table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] ^ crc >> 8 }
}

private let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc >> 1 ^ (crc & 1 == 0 ? 0 : 0x82F6_3B78) }
}
