private import CHost
private import CRing

/// Makes the disk for a rung of the ladder that has proved to work.
struct DiskOpener {
    let plan: StreamingPlan
    /// Reads that may be in flight.
    let depth: Int
    let refusals: DiskLadder.Refusals

    struct Opened: ~Copyable {
        var disk: Disk
        var mode: IOMode
        /// The mode in words.
        var reason: String
    }

    /// - Parameter forced: the rung was asked for; otherwise reader threads step in for a ring that the
    ///   kernel grants in small and refuses in full (RLIMIT_MEMLOCK before Linux 5.12).
    func open(
        _ choice: consuming DiskLadder.Choice, forced: Bool, arena: borrowing SlotArena,
        simulated: SimulatedDisk?
    ) throws(StreamingError) -> Opened {
        if let simulated { return openSimulated(choice, simulated) }
        if choice.mode == .pread { return try openReaders(choice, arena) }
        var error = refusals.fullRing
        guard error == 0, let ring = unsafe ring_create(UInt32(depth), &error) else {
            let reason = DiskLadder.describeRingRefusal(error)
            if forced { throw DiskLadder.refused(choice.mode, reason) }
            choice.reason = choice.reason.isEmpty ? reason : "\(reason); \(choice.reason)"
            return try openReaders(choice, arena)
        }
        error = unsafe ring_set_files(
            ring, choice.files.descriptors.address, UInt32(choice.files.count))
        if error != 0 {
            unsafe ring_destroy(ring)
            throw StreamingError(.outOfMemory, "no memory for the list of files")
        }
        let registration = unsafe register(arena, with: ring)
        if !choice.direct { unsafe ring_limit_workers(ring, DiskLadder.readerThreads) }
        let setup = unsafe String(cString: ring_setup_name(ring))
        let reason = "io_uring (\(setup)), \(way(choice)), \(registration)\(because(choice))"
        return Opened(
            disk: unsafe Disk(
                kind: .ring(ring), files: choice.files, depth: depth, throughCache: !choice.direct),
            mode: choice.mode, reason: reason)
    }

    private func openReaders(
        _ choice: consuming DiskLadder.Choice, _ arena: borrowing SlotArena
    ) throws(StreamingError) -> Opened {
        var error: Int32 = 0
        let threads = DiskLadder.readerThreads
        guard
            let readers = unsafe host_readers_create(
                threads, UInt32(depth), choice.direct ? 0 : 1, &error)
        else {
            throw StreamingError(.modeRefused, "no reader threads (\(errnoText(error)))")
        }
        arena.lock()
        let reason = "\(threads) reader threads, \(way(choice))\(because(choice))"
        return Opened(
            disk: unsafe Disk(
                kind: .readers(readers), files: choice.files, depth: depth,
                throughCache: !choice.direct),
            mode: .pread, reason: reason)
    }

    private func way(_ choice: borrowing DiskLadder.Choice) -> String {
        choice.direct ? "O_DIRECT in units of \(plan.alignment) bytes" : "the page cache"
    }

    private func because(_ choice: borrowing DiskLadder.Choice) -> String {
        choice.reason.isEmpty ? "" : " (\(choice.reason))"
    }

    /// Pins the slots for the kernel, and says how it went.
    private func register(_ arena: borrowing SlotArena, with ring: OpaquePointer) -> String {
        var error = refusals.registration
        if error == 0 {
            error = unsafe ring_set_buffers(
                ring, arena.chunkBases, arena.chunkLengths, UInt32(arena.chunkCount))
        }
        if error == 0 { return "registered buffers" }
        arena.lock()
        let limit = host_memory_lock_limit()
        let stated = limit == .max ? "unlimited" : ByteSize(bytes: Int(clamping: limit)).description
        return "buffers not registered (\(errnoText(error)); RLIMIT_MEMLOCK is \(stated), "
            + "LimitMEMLOCK=infinity allows it)"
    }

    private func openSimulated(
        _ choice: consuming DiskLadder.Choice, _ simulated: SimulatedDisk
    ) -> Opened {
        simulated.setFiles(choice.files)
        return Opened(
            disk: unsafe Disk(
                kind: .simulated(simulated), files: choice.files, depth: depth,
                throughCache: false),
            mode: choice.mode, reason: "simulated")
    }
}
