private import CHost

/// Measures how fast a file can be read the way experts are: on the rung of the ladder that works
/// for it, in pieces of one size, so many in flight at a time, into slots registered like those of
/// a cache.
///
/// Places are drawn from the whole file. A small file comes round quickly, so where the page cache
/// or the drive's own is not bypassed, its rate is that of a cache.
public struct DiskProbe: ~Copyable {
    /// What one measurement came to.
    public struct Sample: Sendable, Equatable {
        public var bytes: Int
        public var reads: Int
        public var seconds: Double
        /// Of a single read, from its submission to its completion.
        public var medianLatencySeconds: Double
        public var worstLatencySeconds: Double

        public var bytesPerSecond: Double { seconds > 0 ? Double(bytes) / seconds : 0 }
    }

    public let path: String
    /// Bytes of one read: what was asked for, in whole units of the alignment.
    public let pieceBytes: Int
    /// Reads that can be in flight at the same time.
    public let depth: Int
    public let mode: IOMode
    /// The mode in words, with the reason where no better one is in use.
    public let modeText: String
    /// Unit of direct reads in bytes.
    public let alignment: Int
    private let places: Int
    private let arena: SlotArena
    private var disk: Disk

    /// Reads that a measurement begins again because they were interrupted.
    private static let mostAttempts = 100
    /// Largest piece that the streamer reads at once, in bytes.
    public static let largestPieceBytes = ReadPiece.largestBytes
    /// Bytes that the streamer keeps in flight.
    public static let windowBytes = Disk.directWindowBytes
    /// Most reads that can be kept in flight, here and by the streamer.
    public static let deepest = 256

    /// Bytes of the pieces that the streamer cuts a range of so many bytes into.
    public static func pieceBytes(range bytes: Int) -> Int {
        let pieces = max(1, (bytes + largestPieceBytes - 1) / largestPieceBytes)
        return (bytes + pieces - 1) / pieces
    }

    /// - Parameters:
    ///   - pieceBytes: 1 ... 1 GiB; rounded up to the alignment that the file system asks for.
    ///   - depth: 1 ... 256.
    ///   - mode: The rung; nil for the best that works.
    /// - Throws: `unusableFile` if the file cannot be read or is shorter than a piece,
    ///   `modeRefused` if the rung does not work, `outOfMemory` if there is no memory for `depth`
    ///   pieces.
    public init(
        path: String, pieceBytes: Int, depth: Int, mode: IOMode? = nil
    ) throws(StreamingError) {
        guard pieceBytes > 0, pieceBytes <= ExpertLayout.largestExpertBytes, depth > 0,
            depth <= Self.deepest
        else {
            throw StreamingError(
                .invalidLayout, "\(depth) reads of \(pieceBytes) bytes at a time cannot be measured"
            )
        }
        let alignment = try ExpertStreamer.alignment(paths: [path])
        let piece = (pieceBytes + alignment - 1) / alignment * alignment
        var file = OpenFiles(count: 1)
        if let failure = file.open(paths: [path], direct: false) {
            throw StreamingError(
                .unusableFile, "\(path): cannot be opened (\(errnoText(failure.error)))")
        }
        let size = host_file_size(file.descriptors[0])
        guard size >= piece else {
            throw StreamingError(
                .unusableFile,
                "\(path): \(max(0, size)) bytes are too few to measure reads of \(piece)")
        }
        // As experts, the slots all lie in the same place: it is this struct that says what is
        // read.
        let layout = try ExpertLayout(
            layerCount: 1, expertsPerLayer: depth, partsPerExpert: 1,
            extents: [ExpertExtent](
                repeating: ExpertExtent(fileIndex: 0, offset: 0, byteCount: piece), count: depth),
            fileSizes: [UInt64(size)])
        let needs = ExpertStreamer.needs(
            layout: layout, alignment: alignment, activeExpertsPerToken: depth)
        let plan = try StreamingPlan(
            layout: layout, alignment: alignment, active: depth, cacheBytes: needs.fullBytes)
        let ladder = DiskLadder(
            paths: [path], samples: [layout.range(planeIndex: 0, part: 0, alignment: alignment)])
        let choice = try ladder.choose(mode)
        var arena = SlotArena(plan: plan)
        try arena.map(plan: plan)
        let opened = try DiskOpener(
            plan: plan, depth: depth, refusals: DiskLadder.Refusals()
        ).open(choice, forced: mode != nil, arena: arena, simulated: nil)
        self.init(
            path: path, pieceBytes: piece, depth: depth, alignment: alignment,
            places: (Int(size) - piece) / alignment + 1, arena: arena, opened: opened)
    }

    /// Puts the parts together; apart from the above, because Swift 6.2 miscounts what an
    /// initializer of a noncopyable type has initialized when it throws.
    private init(
        path: String, pieceBytes: Int, depth: Int, alignment: Int, places: Int,
        arena: consuming SlotArena, opened: consuming DiskOpener.Opened
    ) {
        self.path = path
        self.pieceBytes = pieceBytes
        self.depth = depth
        self.alignment = alignment
        self.places = places
        mode = opened.mode
        modeText = opened.reason + opened.disk.registration + opened.because
        self.arena = arena
        disk = opened.disk
    }

    /// Reads for about so many seconds with `depth` reads in flight, and waits for all of them.
    ///
    /// - Parameters:
    ///   - depth: 1 ... the probe's; nil for the probe's.
    ///   - seconds: How long reads are begun; the last ones end later.
    ///   - seed: Of the places.
    /// - Throws: `readFailed` naming the offset, after everything in flight has landed.
    public mutating func measure(
        depth: Int? = nil, seconds: Double, seed: UInt64 = 1
    ) throws(StreamingError) -> Sample {
        let depth = min(max(1, depth ?? self.depth), self.depth)
        var random = seed
        var begun = [UInt64](repeating: 0, count: depth)
        var offsets = [UInt64](repeating: 0, count: depth)
        var latencies: [UInt64] = []
        var failure: (offset: UInt64, result: Int64)?
        func begin(_ slot: Int) {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            offsets[slot] = (random >> 17) % UInt64(places) * UInt64(alignment)
            begun[slot] = host_nanoseconds()
            unsafe disk.push(
                ReadPiece(
                    address: arena.address(slot: slot), offset: offsets[slot],
                    length: UInt32(pieceBytes), needed: UInt32(pieceBytes), fileIndex: 0,
                    slot: Int32(slot), chunk: arena.chunk(slot: slot), attempts: 0), tag: slot)
        }
        let start = host_nanoseconds()
        let deadline = start + UInt64(max(0, min(seconds, 3600)) * 1e9)
        for slot in 0..<depth { begin(slot) }
        var flying = depth
        var attempts = 0
        while flying > 0 {
            let count = disk.exchange(wait: 1)
            let now = host_nanoseconds()
            for index in 0..<count {
                let done = disk.completion(index)
                let slot = Int(done.tag)
                flying -= 1
                if disk.leaderDropsCached {
                    disk.dropCached(
                        fileIndex: 0, offset: offsets[slot], byteCount: pieceBytes)
                }
                let again = done.result == -4 || done.result == -11  // EINTR, EAGAIN
                if again, attempts < Self.mostAttempts {
                    attempts += 1
                } else if done.result != Int64(pieceBytes) {
                    failure = failure ?? (offsets[slot], done.result)
                } else {
                    latencies.append(now - begun[slot])
                }
                if failure == nil, now < deadline {
                    begin(slot)
                    flying += 1
                }
            }
        }
        if let failure {
            let why =
                failure.result < 0
                ? errnoText(Int32(-failure.result))
                : "\(failure.result) bytes instead of \(pieceBytes)"
            throw StreamingError(
                .readFailed, "\(path): reading at offset \(failure.offset) failed (\(why))")
        }
        let elapsed = Double(host_nanoseconds() - start) / 1e9
        latencies.sort()
        return Sample(
            bytes: latencies.count * pieceBytes, reads: latencies.count, seconds: elapsed,
            medianLatencySeconds: Double(latencies[latencies.count / 2]) / 1e9,
            worstLatencySeconds: Double(latencies[latencies.count - 1]) / 1e9)
    }
}
