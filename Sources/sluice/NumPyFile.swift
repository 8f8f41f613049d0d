/// Writes one two-dimensional float32 array in NumPy's format, version 1.0, row by row.
///
/// The header (numpy.lib.format): magic `\x93NUMPY`, version, a little-endian length, and a Python
/// literal padded with spaces so that the data begin at a multiple of 64.
struct NumPyFile: ~Copyable {
    private let file: OutputFile

    init(path: String, rows: Int, columns: Int) throws {
        let file = try OutputFile(path)
        var dictionary =
            "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows), \(columns)), }"
        let unpadded = 10 + dictionary.utf8.count + 1
        dictionary += String(repeating: " ", count: (64 - unpadded % 64) % 64) + "\n"
        let length = UInt16(dictionary.utf8.count)
        try file.write(
            [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)]
                + Array(dictionary.utf8))
        self.file = file
    }

    borrowing func append(_ values: UnsafeBufferPointer<Float>) throws {
        // Both architectures Sluice runs on are little-endian, as the format's '<f4' says.
        try unsafe file.write(Array(UnsafeRawBufferPointer(values)))
    }

    consuming func close() throws { try file.close() }
}
