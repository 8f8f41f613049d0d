import CHost
import ExpertStreaming
import Glibc

/// A file of seeded bytes that goes away with its owner.
final class TemporaryFile {
    let path: String
    let bytes: [UInt8]

    /// - Parameter directory: where to put it; the default is on a disk nearly everywhere.
    init(byteCount: Int, seed: UInt64 = 1, directory: String = onDisk) throws {
        var generator = SplitMix(seed: seed)
        var bytes = [UInt8](repeating: 7, count: byteCount)
        unsafe bytes.withUnsafeMutableBytes { buffer in
            for offset in stride(from: 0, to: byteCount - 7, by: 8) {
                unsafe buffer.storeBytes(
                    of: generator.next(), toByteOffset: offset, as: UInt64.self)
            }
        }
        self.bytes = bytes
        var template = Array("\(directory)/sluice-test-XXXXXX".utf8CString)
        let descriptor = unsafe mkstemp(&template)
        guard descriptor >= 0 else { throw FixtureError(errno: errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var written = 0
        while written < byteCount {
            let result = unsafe bytes.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress! + written, byteCount - written)
            }
            guard result > 0 else { throw FixtureError(errno: errno) }
            written += result
        }
        fsync(descriptor)
        close(descriptor)
    }

    deinit {
        unsafe unlink(path)
    }

    struct FixtureError: Error {
        var errno: Int32
    }

    /// Parts laid out one after the other like tensors of a GGUF file: all experts' first parts,
    /// then all second parts, for each layer; 32-byte aligned; the last one ends at the end of the
    /// file.
    func layout(
        layers: Int, experts: Int, parts: Int, bytes: (_ layer: Int, _ part: Int) -> Int
    ) throws -> ExpertLayout {
        var extents = [ExpertExtent](
            repeating: ExpertExtent(fileIndex: 0, offset: 0, byteCount: 0),
            count: layers * experts * parts)
        var end = self.bytes.count
        for layer in (0..<layers).reversed() {
            for part in (0..<parts).reversed() {
                for expert in (0..<experts).reversed() {
                    let count = bytes(layer, part)
                    extents[(layer * experts + expert) * parts + part] = ExpertExtent(
                        fileIndex: 0, offset: UInt64(end - count), byteCount: count)
                    end -= count
                }
            }
        }
        return try ExpertLayout(
            layerCount: layers, expertsPerLayer: experts, partsPerExpert: parts, extents: extents,
            fileSizes: [UInt64(self.bytes.count)])
    }

    func layout(layers: Int, experts: Int, parts: Int, bytes: Int) throws -> ExpertLayout {
        try layout(layers: layers, experts: experts, parts: parts) { _, _ in bytes }
    }

    /// Records as packages have them: layer after layer, expert after expert, plane after plane,
    /// each plane on a multiple of 4096 and its parts on multiples of 64.
    func records(
        layers: Int, experts: Int, parts: Int, planes: Int, nested: Bool = true,
        checksums: Bool = false, bytes: (_ layer: Int, _ plane: Int, _ part: Int) -> Int
    ) throws -> ExpertLayout {
        var extents: [ExpertExtent] = []
        var sums: [UInt32] = []
        var end = 0
        for layer in 0..<layers {
            for _ in 0..<experts {
                for plane in 0..<planes {
                    end = (end + 4095) / 4096 * 4096
                    let first = end
                    var last = end
                    for part in 0..<parts {
                        end = (end + 63) / 64 * 64
                        let count = bytes(layer, plane, part)
                        extents.append(
                            ExpertExtent(fileIndex: 0, offset: UInt64(end), byteCount: count))
                        end += count
                        if count > 0 { last = end }
                    }
                    sums.append(
                        unsafe self.bytes.withUnsafeBytes {
                            unsafe host_crc32c_portable(0, $0.baseAddress! + first, last - first)
                        })
                }
            }
        }
        return try ExpertLayout(
            layerCount: layers, expertsPerLayer: experts, partsPerExpert: parts,
            planesPerExpert: planes, nested: nested, extents: extents,
            checksums: checksums ? sums : [], fileSizes: [UInt64(self.bytes.count)])
    }

    /// Whether memory holds the bytes of a part.
    func matches(
        _ address: UnsafeRawPointer, _ layout: ExpertLayout, layer: Int, expert: Int,
        plane: Int = 0, part: Int
    ) -> Bool {
        let planeIndex =
            (layer * layout.expertsPerLayer + expert) * layout.planesPerExpert + plane
        let extent = layout.extents[planeIndex * layout.partsPerExpert + part]
        return unsafe bytes.withUnsafeBytes {
            unsafe memcmp($0.baseAddress! + Int(extent.offset), address, extent.byteCount) == 0
        }
    }
}

/// A directory that is on a disk nearly everywhere, unlike that of very short-lived files.
let onDisk = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/var/tmp"

/// Whether files can be put into a directory.
func isWritable(_ directory: String) -> Bool {
    unsafe access(directory, W_OK) == 0
}

/// The SplitMix64 generator: a seed gives the same numbers everywhere.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
