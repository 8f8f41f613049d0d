private import CHost

// The way of a read: cut, pushed, completed; or sent again, or failed.
extension ExpertStreamer {

    /// Times that one piece is sent again without progress before it counts as failed.
    private static let largestAttempts: Int32 = 100

    /// Lays an expert's ranges one after the other into its slot, and cuts them into pieces of
    /// about equal size.
    mutating func cutIntoPieces(expertIndex: Int, slot: Int) {
        let parts = layout.partsPerExpert
        let first = layout.firstExtent(expertIndex: expertIndex)
        let chunk = arena.chunk(slot: slot)
        var place = 0
        var part = 0
        var count: Int32 = 0
        while part < parts {
            let range = layout.range(
                expertIndex: expertIndex, part: part, alignment: plan.alignment)
            while part < range.nextPart {
                let extent = layout.extents[first + part]
                partPlaces[slot * parts + part] = UInt32(place + Int(extent.offset - range.start))
                counters.expertBytesMissed += UInt64(extent.byteCount)
                part += 1
            }
            let blocks = range.byteCount / plan.alignment
            let wanted = (range.byteCount + ReadPiece.largestBytes - 1) / ReadPiece.largestBytes
            let step = (blocks + wanted - 1) / wanted * plan.alignment
            var done = 0
            while done < range.byteCount {
                let length = min(step, range.byteCount - done)
                let start = range.start + UInt64(done)
                pieces[pieceCount] = unsafe ReadPiece(
                    address: arena.address(slot: slot) + place + done, offset: start,
                    length: UInt32(length),
                    needed: UInt32(min(UInt64(length), range.wantedEnd - start)),
                    fileIndex: Int32(range.fileIndex), slot: Int32(slot), chunk: chunk, attempts: 0)
                pieceCount += 1
                count += 1
                done += length
            }
            place += range.byteCount
        }
        missingPieces[slot] = count
    }

    /// Pushes pieces as far as the queue has room, submits them, waits for `wait` completions, and
    /// deals with all that are there.
    mutating func move(wait: Int) {
        var pushed: UInt64 = 0
        if failure == nil {
            while inFlight < disk.depth, inFlightBytes < disk.windowBytes,
                hasPiecesWaiting
            {
                let tag: Int
                if retryCount > 0 {
                    retryCount -= 1
                    tag = Int(retries[retryCount])
                } else {
                    tag = nextPiece
                    nextPiece += 1
                }
                disk.push(pieces[tag], tag: tag)
                inFlight += 1
                inFlightBytes += Int(pieces[tag].length)
                pushed += 1
            }
        }
        counters.reads += pushed
        var count: Int
        if wait > 0 {
            let start = host_nanoseconds()
            count = disk.exchange(wait: min(wait, inFlight))
            counters.stallNanoseconds += host_nanoseconds() - start
        } else {
            count = pushed > 0 ? disk.exchange(wait: 0) : disk.collect(wait: 0)
        }
        if pushed > 0 { counters.submits += 1 }
        while count > 0 {
            for index in 0..<count { complete(disk.completion(index)) }
            count = count == Disk.batch ? disk.collect(wait: 0) : 0
        }
    }

    /// The least number of completions that can bring another expert: what the nearest one still
    /// misses. Not more than a quarter of the queue if pieces wait for room in it, so that it does
    /// not run dry.
    func readsUntilNextExpert() -> Int {
        var fewest = Int.max
        for index in 0..<setCount {
            let missing = Int(missingPieces[Int(setSlots[index])])
            if missing > 0 { fewest = min(fewest, missing) }
        }
        let limit = hasPiecesWaiting ? max(1, inFlight / 4) : inFlight
        return min(fewest, limit)
    }

    /// Whether pieces wait for room in the queue.
    var hasPiecesWaiting: Bool { nextPiece < pieceCount || retryCount > 0 }

    private mutating func complete(_ completion: Disk.Completion) {
        let tag = Int(completion.tag)
        let slot = Int(pieces[tag].slot)
        inFlight -= 1
        inFlightBytes -= Int(pieces[tag].length)
        guard completion.result >= 0 else {
            let error = Int32(-completion.result)
            let transient = error == 4 || error == 11  // EINTR, EAGAIN
            if !transient || !pushAgain(tag, afterProgress: false) {
                fail(pieces[tag], error: error)
            }
            return
        }
        counters.bytesRead += UInt64(completion.result)
        if disk.leaderDropsCached { disk.dropCached(pieces[tag]) }
        if completion.result >= Int64(pieces[tag].needed) {
            missingPieces[slot] -= 1
            if missingPieces[slot] == 0 {
                ready[readyTail] = indexOfSlot[slot]
                readyTail += 1
            }
            return
        }
        guard completion.result > 0 else {
            fail(pieces[tag], error: 0)
            return
        }
        // A short read goes on where it stopped, on a boundary that direct I/O accepts.
        let progress = UInt32(completion.result) / UInt32(plan.alignment) * UInt32(plan.alignment)
        pieces[tag].advance(by: progress)
        if !pushAgain(tag, afterProgress: progress > 0) { fail(pieces[tag], error: 5) }
    }

    /// Queues a piece once more. False if it was tried too often; true without doing so if nobody
    /// waits for it.
    private mutating func pushAgain(_ tag: Int, afterProgress: Bool) -> Bool {
        if isReleasing { return true }
        pieces[tag].attempts = afterProgress ? 0 : pieces[tag].attempts + 1
        guard pieces[tag].attempts <= Self.largestAttempts else { return false }
        retries[retryCount] = Int32(tag)
        retryCount += 1
        counters.retries += 1
        return true
    }

    /// Notes the set's first failure; its reads not yet sent will not be.
    private mutating func fail(_ piece: ReadPiece, error: Int32) {
        guard failure == nil else { return }
        let path = paths[Int(piece.fileIndex)]
        let expertIndex = cache.expertIndex(slot: Int(piece.slot))
        let what =
            "\(path): expert \(expertIndex % layout.expertsPerLayer) of MoE layer "
            + "\(expertIndex / layout.expertsPerLayer)"
        failure =
            error == 0
            ? StreamingError(
                .readFailed,
                "\(what): the file ends at offset \(piece.offset), \(piece.needed) bytes early; "
                    + "it was cut while in use: restore it and start again")
            : StreamingError(
                .readFailed,
                "\(what): reading \(piece.length) bytes at offset \(piece.offset) failed "
                    + "(\(errnoText(error))); check the disk (dmesg), or try --io buffered")
    }
}
