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
        /// The mode in words; after them comes what the disk says of registered buffers, then why
        /// no better mode is in use.
        var reason: String
        var because: String
    }

    /// - Parameter forced: the rung was asked for; otherwise reader threads step in for a ring that
    ///   the kernel grants in small and refuses in full (RLIMIT_MEMLOCK before Linux 5.12).
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
        if !choice.direct { unsafe ring_limit_workers(ring, DiskLadder.readerThreads) }
        let setup = unsafe String(cString: ring_setup_name(ring))
        let because = because(choice)
        let reason = "io_uring (\(setup)), \(way(choice)), "
        let mode = choice.mode
        let direct = choice.direct
        var disk = unsafe Disk(
            kind: .ring(ring), files: choice.files, depth: depth, throughCache: !direct)
        disk.registerBuffers(arena, refusal: refusals.registration)
        return Opened(disk: disk, mode: mode, reason: reason, because: because)
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
        let reason = "\(threads) reader threads, \(way(choice))"
        let because = because(choice)
        let direct = choice.direct
        var disk = unsafe Disk(
            kind: .readers(readers), files: choice.files, depth: depth, throughCache: !direct)
        disk.registerBuffers(arena)
        return Opened(disk: disk, mode: .pread, reason: reason, because: because)
    }

    private func way(_ choice: borrowing DiskLadder.Choice) -> String {
        choice.direct ? "O_DIRECT in units of \(plan.alignment) bytes" : "the page cache"
    }

    private func because(_ choice: borrowing DiskLadder.Choice) -> String {
        choice.reason.isEmpty ? "" : " (\(choice.reason))"
    }

    private func openSimulated(
        _ choice: consuming DiskLadder.Choice, _ simulated: SimulatedDisk
    ) -> Opened {
        simulated.setFiles(choice.files)
        return Opened(
            disk: unsafe Disk(
                kind: .simulated(.passUnretained(simulated)), files: choice.files, depth: depth,
                throughCache: false),
            mode: choice.mode, reason: "simulated", because: "")
    }
}
