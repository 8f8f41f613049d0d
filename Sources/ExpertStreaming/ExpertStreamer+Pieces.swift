private import CHost

// The way of a read: cut, pushed, completed; or sent again, or failed.
extension ExpertStreamer {

    /// Times that one piece is sent again without progress before it counts as failed.
    private static let largestAttempts: Int32 = 100

    /// Lays a plane's ranges one after the other into its slot.
    ///
    /// - Returns: whether there is anything to read.
    mutating func beginRead(slot: Int, _ priority: ReadPriority) -> Bool {
        let planeIndex = cache.planeIndex(slot: slot)
        let parts = layout.partsPerExpert
        var read = SlotRead()
        read.priority = priority
        var place = 0
        var part = 0
        while let range = layout.range(
            planeIndex: planeIndex, part: part, alignment: plan.alignment)
        {
            while part < range.nextPart {
                let extent = layout.extents[planeIndex * parts + part]
                let start = extent.byteCount == 0 ? 0 : Int(extent.offset - range.start)
                partPlaces[slot * parts + part] = UInt32(place + start)
                part += 1
            }
            read.missing += Int32(ReadPiece.count(for: range, alignment: plan.alignment))
            place += range.byteCount
        }
        // Parts without bytes at the end lie nowhere; the slot's start is as good as any place.
        while part < parts {
            partPlaces[slot * parts + part] = 0
            part += 1
        }
        reads[slot] = read
        return read.missing > 0
    }

    /// The range that a slot's next piece is cut from; nil if nothing is left to cut.
    private func nextRange(slot: Int) -> AlignedRange? {
        layout.range(
            planeIndex: cache.planeIndex(slot: slot), part: Int(reads[slot].part),
            alignment: plan.alignment)
    }

    /// The tag of the next piece of a queue of slots, in which a slot stays until it is cut up; -1
    /// if the queue is empty.
    private mutating func nextTag(background isBackground: Bool) -> Int {
        guard isBackground ? background.count > 0 : demand.count > 0 else { return -1 }
        let slot = isBackground ? background[0] : demand[0]
        guard let range = nextRange(slot: slot) else {
            preconditionFailure("slot \(slot) is queued and cut up")
        }
        let read = reads[slot]
        let count = ReadPiece.count(for: range, alignment: plan.alignment)
        let step = (range.byteCount / plan.alignment + count - 1) / count * plan.alignment
        let done = Int(read.done)
        let length = min(step, range.byteCount - done)
        let start = range.start + UInt64(done)
        freeTagCount -= 1
        let tag = Int(freeTags[freeTagCount])
        pieces[tag] = unsafe ReadPiece(
            address: arena.address(slot: slot) + Int(read.place) + done, offset: start,
            length: UInt32(length), needed: UInt32(min(UInt64(length), range.wantedEnd - start)),
            fileIndex: Int32(range.fileIndex), slot: Int32(slot), chunk: arena.chunk(slot: slot),
            attempts: 0)
        reads[slot].flying += 1
        reads[slot].done += Int32(length)
        if done + length == range.byteCount {
            reads[slot].part = Int32(range.nextPart)
            reads[slot].place += Int32(range.byteCount)
            reads[slot].done = 0
            if nextRange(slot: slot) == nil {
                if isBackground { background.removeFirst() } else { demand.removeFirst() }
            }
        }
        return tag
    }

    private mutating func push(_ tag: Int, background isBackground: Bool) {
        pieces[tag].isBackground = isBackground
        if !isBackground, inFlight == backgroundInFlight { busySince = host_nanoseconds() }
        disk.push(pieces[tag], tag: tag)
        inFlight += 1
        inFlightBytes += Int(pieces[tag].length)
        if isBackground {
            backgroundInFlight += 1
            backgroundBytes += Int(pieces[tag].length)
        }
    }

    /// Pushes what must be sent again, then what the set waits for, as far as the queue has room;
    /// then, if nothing of it waits and little is in flight, what is read in the background.
    ///
    /// - Returns: pieces pushed.
    private mutating func pushPieces() -> Int {
        var pushed = 0
        while inFlight < disk.depth, retryCount > 0 {
            retryCount -= 1
            let tag = Int(retries[retryCount])
            push(tag, background: reads[Int(pieces[tag].slot)].priority != .demand)
            pushed += 1
        }
        while inFlight < disk.depth, inFlightBytes - backgroundBytes < disk.windowBytes {
            let tag = nextTag(background: false)
            if tag < 0 { break }
            push(tag, background: false)
            pushed += 1
        }
        guard allowsBackground, demand.count == 0,
            inFlightBytes - backgroundBytes < Self.quietBytes
        else { return pushed }
        while inFlight < disk.depth, backgroundInFlight < max(4, disk.depth / 4),
            backgroundBytes < Self.backgroundWindowBytes
        {
            let tag = nextTag(background: true)
            if tag >= 0 {
                push(tag, background: true)
                pushed += 1
            } else if !beginBackgroundRead() {
                break
            }
        }
        return pushed
    }

    /// Pushes and submits pieces, waits for `wait` completions, and deals with all that are there.
    mutating func move(wait: Int) {
        let pushed = failure == nil ? UInt64(pushPieces()) : 0
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
        for index in 0..<setCount where setMissing[index] > 0 {
            var missing = 0
            for plane in 0..<layout.planesPerExpert {
                let slot = cache.slot(expertIndex: Int(setExperts[index]), plane: plane)
                if slot >= 0, cache.state(slot: slot) == .loading {
                    missing += Int(reads[slot].missing)
                }
            }
            fewest = min(fewest, missing)
        }
        let limit = hasPiecesWaiting ? max(1, inFlight / 4) : inFlight
        return min(fewest, limit)
    }

    /// Whether pieces wait for room in the queue.
    var hasPiecesWaiting: Bool { demand.count > 0 || retryCount > 0 }

    private mutating func complete(_ completion: Disk.Completion) {
        let tag = Int(completion.tag)
        let slot = Int(pieces[tag].slot)
        inFlight -= 1
        inFlightBytes -= Int(pieces[tag].length)
        if pieces[tag].isBackground {
            backgroundInFlight -= 1
            backgroundBytes -= Int(pieces[tag].length)
        } else if inFlight == backgroundInFlight {
            counters.diskBusyNanoseconds += host_nanoseconds() - busySince
        }
        guard completion.result >= 0 else {
            let error = Int32(-completion.result)
            let transient = error == 4 || error == 11  // EINTR, EAGAIN
            if !transient || !pushAgain(tag, afterProgress: false) { fail(tag, error: error) }
            return
        }
        counters.bytesRead += UInt64(completion.result)
        if disk.leaderDropsCached { disk.dropCached(pieces[tag]) }
        if completion.result >= Int64(pieces[tag].needed) {
            land(tag)
            reads[slot].missing -= 1
            if reads[slot].isAbandoned {
                settle(slot: slot)
            } else if reads[slot].missing == 0 {
                check(slot: slot)
            }
            return
        }
        guard completion.result > 0 else {
            fail(tag, error: 0)
            return
        }
        // A short read goes on where it stopped, on a boundary that direct I/O accepts.
        let progress = UInt32(completion.result) / UInt32(plan.alignment) * UInt32(plan.alignment)
        pieces[tag].advance(by: progress)
        if !pushAgain(tag, afterProgress: progress > 0) { fail(tag, error: 5) }
    }

    /// A piece is in flight no more, and will not be again.
    private mutating func land(_ tag: Int) {
        reads[Int(pieces[tag].slot)].flying -= 1
        freeTags[freeTagCount] = Int32(tag)
        freeTagCount += 1
    }

    /// All pieces of a plane are there: what does not match its checksum is read once more, and
    /// then counts as damaged.
    private mutating func check(slot: Int) {
        let (matches, range) = verify(slot: slot)
        if matches {
            arrive(slot: slot)
            return
        }
        // Bytes may have been spoilt on their way, or in the page cache: the disk is asked itself.
        disk.dropCached(
            fileIndex: range.fileIndex, offset: range.offset, byteCount: range.byteCount)
        let isDemanded = reads[slot].priority == .demand
        if isDemanded, isReleasing { return }
        if reads[slot].rereads == 0 {
            counters.rereads += 1
            _ = beginRead(slot: slot, reads[slot].priority)
            reads[slot].rereads = 1
            if isDemanded { demand.append(slot) } else { background.append(slot) }
            return
        }
        if !isDemanded {
            abandon(slot: slot)
            return
        }
        guard failure == nil else { return }
        failure = StreamingError(
            .damagedRecord,
            "\(describe(slot: slot, fileIndex: range.fileIndex)): its \(range.byteCount) bytes at "
                + "offset \(range.offset) do not match their checksum, read twice; the file is "
                + "damaged: fetch or pack it again (sluice verify tells what else is)")
    }

    /// Whether a slot's bytes match their checksum, and where they come from.
    private func verify(slot: Int) -> (matches: Bool, range: ExpertExtent) {
        let planeIndex = cache.planeIndex(slot: slot)
        let parts = layout.partsPerExpert
        guard !layout.checksums.isEmpty else {
            return (true, ExpertExtent(fileIndex: 0, offset: 0, byteCount: 0))
        }
        var range = ExpertExtent(fileIndex: 0, offset: 0, byteCount: 0)
        var place = 0
        for part in 0..<parts {
            let extent = layout.extents[planeIndex * parts + part]
            guard extent.byteCount > 0 else { continue }
            if range.byteCount == 0 {
                place = Int(partPlaces[slot * parts + part])
                range = extent
            }
            range.byteCount = Int(extent.offset - range.offset) + extent.byteCount
        }
        let sum = unsafe host_crc32c(0, arena.address(slot: slot) + place, range.byteCount)
        return (sum == layout.checksums[planeIndex], range)
    }

    /// A plane can be used.
    mutating func arrive(slot: Int) {
        let (expertIndex, plane) = cache.planeIndex(slot: slot).quotientAndRemainder(
            dividingBy: layout.planesPerExpert)
        cache.complete(slot: slot)
        let index = Int(setIndex[expertIndex])
        guard index >= 0, setMissing[index] > 0 else { return }
        let wanted = Int(setPlanes[index])
        guard layout.nested ? plane < wanted : plane == wanted - 1 else { return }
        setMissing[index] -= 1
        if setMissing[index] == 0 {
            ready[readyTail] = Int32(index)
            readyTail += 1
        }
    }

    /// Queues a piece once more. False if it was tried too often; true without doing so if nobody
    /// waits for it.
    private mutating func pushAgain(_ tag: Int, afterProgress: Bool) -> Bool {
        let slot = Int(pieces[tag].slot)
        if isReleasing, reads[slot].priority == .demand {
            land(tag)
            return true
        }
        if reads[slot].isAbandoned {
            land(tag)
            settle(slot: slot)
            return true
        }
        pieces[tag].attempts = afterProgress ? 0 : pieces[tag].attempts + 1
        guard pieces[tag].attempts <= Self.largestAttempts else { return false }
        retries[retryCount] = Int32(tag)
        retryCount += 1
        counters.retries += 1
        return true
    }

    /// Forgets the pieces of the set that wait to be sent again.
    mutating func dropRetries() {
        var kept = 0
        for index in 0..<retryCount {
            let tag = Int(retries[index])
            if reads[Int(pieces[tag].slot)].priority == .demand {
                land(tag)
            } else {
                retries[kept] = Int32(tag)
                kept += 1
            }
        }
        retryCount = kept
    }

    /// Notes the set's first failure; its reads not yet sent will not be. A failure in the
    /// background is nobody's: whoever asks for the expert will be told.
    private mutating func fail(_ tag: Int, error: Int32) {
        let piece = pieces[tag]
        land(tag)
        if reads[Int(piece.slot)].priority != .demand || reads[Int(piece.slot)].isAbandoned {
            abandon(slot: Int(piece.slot))
            return
        }
        guard failure == nil else { return }
        let what = describe(slot: Int(piece.slot), fileIndex: Int(piece.fileIndex))
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

    /// The file, expert and plane that a slot is for, in words.
    func describe(slot: Int, fileIndex: Int) -> String {
        let (expertIndex, plane) = cache.planeIndex(slot: slot).quotientAndRemainder(
            dividingBy: layout.planesPerExpert)
        return "\(paths[fileIndex]): "
            + (layout.planesPerExpert > 1 ? "plane \(plane) of " : "")
            + "expert \(expertIndex % layout.expertsPerLayer) of MoE layer "
            + "\(expertIndex / layout.expertsPerLayer)"
    }
}
