private import CHost
private import CRing

/// Where read pieces go: the ring, the reader threads, or a test's simulated disk.
///
/// All three take pieces, one submit for many, and give back completions in any order. Nothing here
/// allocates after `init`.
@safe
struct Disk: ~Copyable {

    @unsafe
    enum Kind {
        case ring(OpaquePointer)
        case readers(OpaquePointer)
        /// Counted no references to, as the others are not, because every token asks which it is;
        /// `simulated` keeps it.
        case simulated(Unmanaged<SimulatedDisk>)
    }

    /// What a read came to: bytes, or a negative errno value.
    struct Completion: BitwiseCopyable {
        var tag: UInt64
        var result: Int64
    }

    private let kind: Kind
    private let simulated: SimulatedDisk?
    private let files: OpenFiles
    /// Reads that may be in flight at once.
    let depth: Int
    /// Bytes in flight at which further pieces wait.
    let windowBytes: Int
    /// Reads go to kernel threads at once, because they would block on the page cache.
    private let deferred: Bool
    /// The leader drops what was read from the page cache (reader threads do it themselves).
    let leaderDropsCached: Bool
    /// How registering the slots with the kernel went, in words; empty where there is nothing to
    /// register.
    private(set) var registration = ""
    /// Completions of the last `collect`.
    private var ringCompletions: FlatArray<ring_completion>
    private var readerCompletions: FlatArray<host_completion>
    private var simulatedCompletions: FlatArray<Completion>

    /// - Parameter throughCache: the files are open without O_DIRECT.
    init(kind: Kind, files: consuming OpenFiles, depth: Int, throughCache: Bool) {
        unsafe self.kind = kind
        simulated =
            if case .simulated(let disk) = unsafe kind {
                unsafe disk.takeUnretainedValue()
            } else {
                nil
            }
        self.files = files
        self.depth = depth
        windowBytes = throughCache ? Self.cachedWindowBytes : Self.directWindowBytes
        var isRing = false
        var isReaders = false
        var isSimulated = false
        switch unsafe kind {
        case .ring: isRing = true
        case .readers: isReaders = true
        case .simulated: isSimulated = true
        }
        deferred = isRing && throughCache
        leaderDropsCached = isRing && throughCache
        ringCompletions = FlatArray(
            repeating: ring_completion(tag: 0, result: 0), count: isRing ? Self.batch : 0)
        readerCompletions = FlatArray(
            repeating: host_completion(tag: 0, result: 0), count: isReaders ? Self.batch : 0)
        simulatedCompletions = FlatArray(
            repeating: Completion(tag: 0, result: 0), count: isSimulated ? Self.batch : 0)
    }

    /// Disks serve what they are given side by side, so everything at once means that no expert
    /// lands before the last one. Eight misses of 3 MiB, 0.5 ms of computing each, on a disk of
    /// 3.4 GB/s: with 24 MiB in flight the first lands after 9 ms and the layer runs at 1.6 GB/s,
    /// with 8 MiB after 3 ms and at 2.0 GB/s; reading alone is equally fast from 8 MiB up, and 10 %
    /// slower with 4 MiB.
    static let directWindowBytes = 8 << 20
    /// Reads through the page cache are there twice until they are dropped, so this much memory is
    /// planned for them.
    static let cachedWindowBytes = 4 << 20

    /// Completions taken at a time.
    static let batch = 64

    deinit {
        switch unsafe kind {
        case .ring(let ring): unsafe ring_destroy(ring)
        case .readers(let readers): unsafe host_readers_destroy(readers)
        case .simulated: break
        }
    }

    /// Registers an arena's chunks with the kernel, as far as they are not, so that reads into them
    /// cost less; where that is refused, or there is no ring, keeps them from being swapped out. No
    /// read may be in flight.
    ///
    /// - Parameter refusal: an errno value that a test pretends to get; 0 for none.
    mutating func registerBuffers(_ arena: borrowing SlotArena, refusal: Int32 = 0) {
        guard case .ring(let ring) = unsafe kind else {
            arena.lock()
            return
        }
        var error = refusal
        if error == 0 {
            error = unsafe ring_set_buffers(
                ring, arena.chunkBases, arena.chunkLengths, UInt32(arena.chunkCount))
        }
        if error == 0 {
            registration = "registered buffers"
            return
        }
        arena.lock()
        let limit = host_memory_lock_limit()
        let stated = limit == .max ? "unlimited" : ByteSize(bytes: Int(clamping: limit)).description
        registration =
            "buffers not registered (\(errnoText(error)); RLIMIT_MEMLOCK is \(stated): "
            + "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited, allows it)"
    }

    /// Makes the kernel let go of a chunk, whose memory could not be given back otherwise. No read
    /// may be in flight.
    func dropBuffer(chunk: Int) {
        if case .ring(let ring) = unsafe kind { unsafe ring_drop_buffer(ring, UInt32(chunk)) }
    }

    /// Queues a piece. At most `depth` may be queued or in flight.
    func push(_ piece: ReadPiece, tag: Int) {
        switch unsafe kind {
        case .ring(let ring):
            let taken = unsafe ring_push_read(
                ring, UInt32(piece.fileIndex), piece.chunk, piece.address, piece.length,
                piece.offset,
                UInt64(tag), deferred ? 1 : 0)
            precondition(taken == 1, "the ring has less room than its depth")
        case .readers(let readers):
            unsafe host_readers_push(
                readers, files.descriptors[Int(piece.fileIndex)], piece.address, piece.length,
                piece.offset, UInt64(tag))
        case .simulated(let disk):
            unsafe SimulatedDisk.push(disk, piece, tag: UInt64(tag))
        }
    }

    /// Hands the queued pieces over, waits until `wait` reads are done (more or fewer may be found
    /// done; none only if `wait` is 0), and collects up to a batch of completions.
    mutating func exchange(wait: Int) -> Int {
        switch unsafe kind {
        case .ring(let ring):
            let error = unsafe ring_submit(ring, UInt32(wait))
            // Only a programmer's mistake ends here: a closed ring, or a second thread using it.
            if error != 0 { fatalError("io_uring_enter failed (\(errnoText(error)))") }
        case .readers(let readers):
            unsafe host_readers_submit(readers)
        case .simulated(let disk):
            unsafe SimulatedDisk.submit(disk)
        }
        return collect(wait: wait)
    }

    /// Collects up to a batch of completions.
    mutating func collect(wait: Int) -> Int {
        switch unsafe kind {
        case .ring(let ring):
            return unsafe Int(ring_reap(ring, ringCompletions.address, UInt32(Self.batch)))
        case .readers(let readers):
            return unsafe Int(
                host_readers_reap(
                    readers, wait > 0 ? 1 : 0, readerCompletions.address, UInt32(Self.batch)))
        case .simulated(let disk):
            return unsafe SimulatedDisk.collect(disk, wait: wait, into: &simulatedCompletions)
        }
    }

    /// Completion `index` of the last `exchange` or `collect`.
    func completion(_ index: Int) -> Completion {
        switch unsafe kind {
        case .ring:
            let done = ringCompletions[index]
            return Completion(tag: done.tag, result: done.result)
        case .readers:
            let done = readerCompletions[index]
            return Completion(tag: done.tag, result: done.result)
        case .simulated:
            return simulatedCompletions[index]
        }
    }

    /// Drops what was read for a piece from the page cache.
    func dropCached(_ piece: ReadPiece) {
        host_drop_cached(
            files.descriptors[Int(piece.fileIndex)], piece.offset, UInt64(piece.length))
    }

    /// Drops a range from the page cache, so that it is read from the disk again.
    func dropCached(fileIndex: Int, offset: UInt64, byteCount: Int) {
        host_drop_cached(files.descriptors[fileIndex], offset, UInt64(byteCount))
    }

    /// Waits for `count` reads that nobody will look at. False if they cannot be waited for,
    /// because another thread owns the ring.
    func drain(_ count: Int) -> Bool {
        var left = count
        while left > 0 {
            switch unsafe kind {
            case .ring(let ring):
                if unsafe ring_submit(ring, UInt32(left)) != 0 { return false }
                left -= unsafe Int(ring_reap(ring, ringCompletions.address, UInt32(Self.batch)))
            case .readers(let readers):
                unsafe host_readers_submit(readers)
                left -= unsafe Int(
                    host_readers_reap(readers, 1, readerCompletions.address, UInt32(Self.batch)))
            case .simulated:
                return true
            }
        }
        return true
    }
}
