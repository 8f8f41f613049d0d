private import CHost

/// The descriptors of a model's files, all opened the same way; closed with their owner.
struct OpenFiles: ~Copyable {
    private(set) var descriptors: FlatArray<Int32>
    private var openCount = 0

    var count: Int { descriptors.count }

    /// Room for `count` files, none open.
    init(count: Int) {
        descriptors = FlatArray(repeating: -1, count: count)
    }

    deinit {
        for index in 0..<openCount { host_close_file(descriptors[index]) }
    }

    /// Opens all files.
    ///
    /// - Returns: nil, or the index of the first file that could not be opened and its errno value.
    mutating func open(paths: [String], direct: Bool) -> (index: Int, error: Int32)? {
        for (index, path) in paths.enumerated() {
            let descriptor = unsafe host_open_file(path, direct ? 1 : 0)
            if descriptor < 0 { return (index, -descriptor) }
            if !direct { host_expect_random_reads(descriptor) }
            descriptors[index] = descriptor
            openCount += 1
        }
        return nil
    }

    /// Checks that the files have the sizes they were announced with.
    func checkSizes(_ sizes: [UInt64], paths: [String]) throws(StreamingError) {
        for index in 0..<count {
            let size = host_file_size(descriptors[index])
            guard size >= 0 else {
                throw StreamingError(
                    .unusableFile, "\(paths[index]): no size (\(errnoText(Int32(-size))))")
            }
            guard UInt64(size) >= sizes[index] else {
                throw StreamingError(
                    .unusableFile,
                    "\(paths[index]): is \(size) bytes long, but \(sizes[index]) were expected; "
                        + "the file was cut or replaced: fetch it again")
            }
        }
    }

    /// Alignment in bytes that direct reads of all files obey: the largest that a file system asks
    /// for, 4096 for one that does not say.
    func directAlignment() -> Int {
        var alignment = 512
        for index in 0..<count {
            let stated = Int(host_direct_alignment(descriptors[index]))
            let sane = stated > 0 && stated & (stated - 1) == 0 && stated <= 1 << 16
            alignment = max(alignment, sane ? stated : 4096)
        }
        return alignment
    }
}
