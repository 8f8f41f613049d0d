internal import CHost
internal import ExpertStreaming
internal import Inference

/// A prompt's beginning that is being read from a file, block by block.
struct PrefixRestoration {
    let name: String
    let file: PrefixFile
    /// Positions wanted: those that the prompt and the file have in common.
    let count: Int
    let opened: OpenFile
}

/// A sequence that is being written to a file, block by block.
struct PrefixSaving {
    let slot: Int
    let name: String
    var file: PrefixFile
    let opened: OpenFile
    var nextBlock = 0
}

// Sequences on disk: read instead of a slice of the prompt, and written while there is no work.
extension EngineLoop {
    /// Bytes read or written between two tokens, at most: 1 ms of a disk of 2 GB/s.
    private static let blockBytes = 2 << 20

    /// Opens the prefix cache, where there is to be one.
    static func store(
        settings: SchedulerSettings, model: ModelDescription, options: EngineOptions,
        engine: borrowing Engine
    ) -> PrefixStore? {
        guard let directory = settings.prefixCacheDirectory else { return nil }
        var blockPositions = 256
        while blockPositions > 1, blockPositions * engine.bytesPerPosition > blockBytes {
            blockPositions /= 2
        }
        return PrefixStore(
            settings: settings, directory: directory,
            key: PrefixKey.of(model, options, residentChecksum: engine.residentChecksum()),
            bytesPerPosition: engine.bytesPerPosition, blockPositions: blockPositions)
    }

    /// Reads a block of what a slot's prompt begins with, if there is one to read.
    ///
    /// - Returns: whether there was. What cannot be read is computed.
    func restoreBlock(_ index: Int, _ run: ChoiceRun) -> Bool {
        guard let restoration = run.restoration else { return false }
        let file = restoration.file
        let known = slots[index].tokens.count
        let block = known / file.blockPositions
        let positions = file.positions(block)
        guard positions.upperBound <= engine.contextCapacity else {
            // The file's last block, of an engine with a longer context.
            run.restoration = nil
            return false
        }
        let end = min(positions.upperBound, restoration.count)
        let bytes = restoration.opened.read(
            positions.count * file.bytesPerPosition, at: file.offset(block))
        guard let bytes, PrefixFile.checksum(bytes) == file.checksums[block] else {
            store?.reject(restoration, because: bytes == nil ? .truncated : .damaged)
            run.restoration = nil
            return true
        }
        // A block is of several layers, so a part of it cannot be given alone.
        unsafe bytes.withUnsafeBytes {
            unsafe engine.writePositions(positions, of: index, from: $0)
        }
        slots[index].tokens.append(contentsOf: file.ids[known..<end])
        if end == restoration.count {
            restoration.opened.forget()
            run.restoration = nil
        }
        return true
    }

    // MARK: Writing

    /// When a sequence is written next, if nothing happens before; nil if none is.
    var timeOfNextSave: UInt64? {
        guard nextToSave != nil else { return nil }
        let delay = max(0, min(core.settings.prefixCacheDelaySeconds, 1e6))
        return lastWork + UInt64(delay * 1e9)
    }

    /// A free slot whose sequence should be written.
    private var nextToSave: Int? {
        guard let store else { return nil }
        return slots.firstIndex {
            $0.run == nil && !$0.isSettled && store.wants($0.tokens)
        }
    }

    /// Writes a block of a sequence, if it is time to.
    ///
    /// - Returns: whether it was.
    func saveBlock() -> Bool {
        if saving == nil {
            guard let time = timeOfNextSave, time <= host_nanoseconds() else { return false }
            beginSaving()
            return true
        }
        continueSaving()
        return true
    }

    private func beginSaving() {
        guard let index = nextToSave else { return }
        slots[index].isSettled = true
        saving = store?.begin(slots[index].tokens, slot: index)
    }

    private func continueSaving() {
        guard var current = saving else { return }
        let block = current.nextBlock
        guard block < current.file.checksums.count else {
            store?.finish(current)
            saving = nil
            return
        }
        let positions = current.file.positions(block)
        var bytes = [UInt8](repeating: 0, count: positions.count * engine.bytesPerPosition)
        unsafe bytes.withUnsafeMutableBytes {
            unsafe engine.readPositions(positions, of: current.slot, into: $0)
        }
        current.file.checksums[block] = PrefixFile.checksum(bytes)
        do throws(PrefixFileError) {
            try current.opened.write(bytes, at: current.file.offset(block))
        } catch {
            store?.abandon(current, because: error)
            saving = nil
            return
        }
        current.nextBlock += 1
        saving = current
    }

    /// The slot is wanted for something else.
    func abandonSaving() {
        guard let current = saving else { return }
        store?.abandon(current)
        saving = nil
    }

    /// Writes what is worth it before the engine goes, as far as there is time.
    func saveBeforeEnd() {
        let end = core.inbox.withLock { $0.end } ?? 0
        while host_nanoseconds() < end {
            if saving == nil { beginSaving() } else { continueSaving() }
            if saving == nil, nextToSave == nil { return }
        }
        abandonSaving()
    }
}
