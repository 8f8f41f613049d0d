private import CHost
private import CRing

/// Chooses the way of reading: each rung must read a piece of every file and get the bytes that a
/// plain read gets.
///
/// Flags that were accepted prove nothing: file systems take O_DIRECT and then answer EINVAL, or
/// read through the page cache all the same; containers have io_uring compiled in and refuse it. So
/// every rung is tried with a real read before it is used, and what was found is kept as a sentence
/// for the log.
struct DiskLadder {
    let paths: [String]
    /// A range of each file that holds wanted bytes; nil for a file without experts.
    let samples: [AlignedRange?]
    var refusals = Refusals()

    /// Conditions that a test can pretend: errno values, 0 for none.
    struct Refusals {
        var ring: Int32 = 0
        /// A small ring works, one of full depth does not.
        var fullRing: Int32 = 0
        var direct: Int32 = 0
        var registration: Int32 = 0
        /// Direct reads succeed with wrong bytes.
        var directLies = false
    }

    /// A rung that works: files opened its way, and why it was chosen.
    struct Choice: ~Copyable {
        var mode: IOMode
        var files: OpenFiles
        var direct: Bool
        /// Why no better rung is in use; empty for the best one.
        var reason: String
    }

    static let sampleBytes = 64 << 10
    static let readerThreads: UInt32 = 8

    /// The first rung that works, or the one that was asked for.
    ///
    /// - Throws: `modeRefused` if `mode` is given and does not work; `unusableFile` if a file
    ///   cannot be read at all.
    func choose(_ mode: IOMode?) throws(StreamingError) -> Choice {
        var expected: [[UInt8]] = []
        var buffered = OpenFiles(count: paths.count)
        if let failure = buffered.open(paths: paths, direct: false) {
            throw StreamingError(
                .unusableFile,
                "\(paths[failure.index]): cannot be opened (\(errnoText(failure.error)))")
        }
        for index in paths.indices { expected.append(try sample(index, buffered)) }

        var direct = OpenFiles(count: paths.count)
        let directError = mode == .buffered ? nil : directRefusal(&direct, buffered, expected)
        let useDirect = mode != .buffered && directError == nil
        var ringError: String?
        if mode != .pread {
            ringError =
                useDirect ? ringRefusal(direct, expected) : ringRefusal(buffered, expected)
        }

        if mode == .direct, let reason = directError ?? ringError {
            throw Self.refused(.direct, reason)
        }
        if mode == .buffered, let reason = ringError { throw Self.refused(.buffered, reason) }
        let chosen: IOMode =
            mode == .pread || ringError != nil ? .pread : useDirect ? .direct : .buffered
        let reason = [ringError, directError].compactMap { $0 }.joined(separator: "; ")
        if useDirect { return Choice(mode: chosen, files: direct, direct: true, reason: reason) }
        return Choice(mode: chosen, files: buffered, direct: false, reason: reason)
    }

    static func refused(_ mode: IOMode, _ reason: String) -> StreamingError {
        StreamingError(.modeRefused, "--io \(mode.rawValue) does not work here: \(reason)")
    }

    /// The bytes that an ordinary read of file `index` gives.
    private func sample(_ index: Int, _ files: borrowing OpenFiles) throws(StreamingError)
        -> [UInt8]
    {
        guard let range = samples[index] else { return [] }
        let length = min(Int(range.wantedEnd - range.start), Self.sampleBytes)
        var bytes = [UInt8](repeating: 0, count: length)
        let descriptor = files.descriptors[index]
        var filled = 0
        while filled < length {
            let result = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe host_read(
                    descriptor, buffer.baseAddress! + filled, length - filled,
                    range.start + UInt64(filled))
            }
            if result == -4 { continue }  // EINTR
            guard result > 0 else {
                throw StreamingError(
                    .unusableFile,
                    "\(paths[index]): cannot be read at offset \(range.start + UInt64(filled)) "
                        + "(\(result == 0 ? "the file ends there" : errnoText(Int32(-result))))")
            }
            filled += Int(result)
        }
        return bytes
    }

    /// Why a ring cannot read these files, or nil.
    private func ringRefusal(_ files: borrowing OpenFiles, _ expected: [[UInt8]]) -> String? {
        var error = refusals.ring
        guard error == 0, let ring = unsafe ring_create(4, &error) else {
            return Self.describeRingRefusal(error)
        }
        defer { unsafe ring_destroy(ring) }
        error = unsafe ring_set_files(ring, files.descriptors.address, UInt32(files.count))
        guard error == 0, let memory = unsafe host_map_memory(Self.sampleBytes, 0, &error) else {
            return "no memory for a first read"
        }
        defer { unsafe host_unmap_memory(memory, Self.sampleBytes) }
        for index in paths.indices {
            guard let range = samples[index] else { continue }
            let length = UInt32(min(range.byteCount, Self.sampleBytes))
            _ = unsafe ring_push_read(ring, UInt32(index), -1, memory, length, range.start, 0, 0)
            error = unsafe ring_submit(ring, 1)
            var done = ring_completion(tag: 0, result: 0)
            guard error == 0, unsafe ring_reap(ring, &done, 1) == 1 else {
                return Self.describeRingRefusal(error)
            }
            if done.result < 0 { return Self.describeRingRefusal(Int32(-done.result)) }
            guard unsafe Self.holds(memory, expected[index], count: Int(done.result)) else {
                return "io_uring reads of \(paths[index]) return other bytes than ordinary reads"
            }
        }
        return nil
    }

    /// Whether `count` bytes arrived at `memory` that begin with the expected ones.
    private static func holds(
        _ memory: UnsafeMutableRawPointer, _ expected: [UInt8], count: Int
    ) -> Bool {
        count >= expected.count
            && expected.indices.allSatisfy { offset in
                unsafe memory.load(fromByteOffset: offset, as: UInt8.self) == expected[offset]
            }
    }

    static func describeRingRefusal(_ error: Int32) -> String {
        let remedy =
            switch (error, SmallFile.read("/proc/sys/kernel/io_uring_disabled")?.first) {
            case (_, "1"):
                "; kernel.io_uring_disabled is 1: set it to 0, or add this user to io_uring_group"
            case (_, "2"): "; kernel.io_uring_disabled is 2: set it to 0"
            case (1, _): "; a seccomp filter forbids it, as containers' default ones do"
            case (12, _): "; raise RLIMIT_MEMLOCK"
            default: ""
            }
        return "io_uring refused (\(errnoText(error)))\(remedy)"
    }

    /// How often a direct read must leave pages in the cache before it counts as none.
    private static let cacheChecks = 8

    /// Why the files cannot be read past the page cache, or nil: then `direct` holds them open.
    private func directRefusal(
        _ direct: inout OpenFiles, _ buffered: borrowing OpenFiles, _ expected: [[UInt8]]
    ) -> String? {
        if refusals.direct != 0 {
            return "O_DIRECT refused for \(paths[0]) (\(errnoText(refusals.direct)))"
        }
        if let failure = direct.open(paths: paths, direct: true) {
            return "O_DIRECT refused for \(paths[failure.index]) (\(errnoText(failure.error)))"
        }
        var error: Int32 = 0
        guard let memory = unsafe host_map_memory(Self.sampleBytes, 0, &error) else {
            return "no memory for a first read"
        }
        defer { unsafe host_unmap_memory(memory, Self.sampleBytes) }
        for index in paths.indices {
            guard let range = samples[index] else { continue }
            let length = min(range.byteCount, Self.sampleBytes)
            // Another program may read the same pages at the same time; it will not do so every time.
            var cachedEveryTime = true
            for _ in 0..<Self.cacheChecks where cachedEveryTime {
                host_drop_cached(buffered.descriptors[index], range.start, UInt64(length))
                let before = host_cached_bytes(
                    buffered.descriptors[index], range.start, UInt64(length))
                let result = unsafe host_read(
                    direct.descriptors[index], memory, length, range.start)
                if result < 0 {
                    return "O_DIRECT refused for \(paths[index]) (\(errnoText(Int32(-result))))"
                }
                let same = unsafe Self.holds(memory, expected[index], count: Int(result))
                if !same || refusals.directLies {
                    return "O_DIRECT reads of \(paths[index]) return other bytes than "
                        + "ordinary reads"
                }
                let after = host_cached_bytes(
                    buffered.descriptors[index], range.start, UInt64(length))
                cachedEveryTime = before == 0 && after > 0
            }
            if cachedEveryTime {
                return "O_DIRECT reads of \(paths[index]) go through the page cache"
            }
        }
        return nil
    }
}
