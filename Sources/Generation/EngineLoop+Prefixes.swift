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
    /// Blocks of the state that have been read.
    var stateBlocks = 0
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
    /// Opens the prefix cache, where there is to be one.
    static func store(
        settings: SchedulerSettings, model: ModelDescription, options: EngineOptions,
        engine: borrowing Engine
    ) -> PrefixStore? {
        guard let directory = settings.prefixCacheDirectory else { return nil }
        guard engine.stateByteCount <= UInt32.max else {
            settings.log("states of \(engine.stateByteCount) bytes are not kept in \(directory)")
            return nil
        }
        var blockPositions = 256
        while blockPositions > 1,
            blockPositions * engine.bytesPerPosition > settings.prefixCacheBlockBytes
        {
            blockPositions /= 2
        }
        return PrefixStore(
            settings: settings, directory: directory,
            key: PrefixKey.of(model, options, residentChecksum: engine.residentChecksum()),
            bytesPerPosition: engine.bytesPerPosition, stateBytes: engine.stateByteCount,
            blockPositions: blockPositions)
    }

    /// Reads a block of what a slot's prompt begins with, if there is one to read.
    ///
    /// - Returns: whether there was. What cannot be read is computed.
    func restoreBlock(_ index: Int, _ run: ChoiceRun) -> Bool {
        guard let restoration = run.restoration else { return false }
        let file = restoration.file
        let known = slots[index].tokens.count
        // A sequence with a state is of no use before it has all of it.
        let isComplete = known == restoration.count
        let block =
            isComplete
            ? file.positionBlocks + restoration.stateBlocks : known / file.blockPositions
        if case .positions(let positions) = file.block(block),
            positions.upperBound > engine.contextCapacity
        {
            // The file's last block, of an engine with a longer context.
            giveUpRestoring(index, run)
            return false
        }
        let bytes = restoration.opened.read(file.byteCount(block), at: file.offset(block))
        guard let bytes, PrefixFile.checksum(bytes) == file.checksums[block] else {
            store?.reject(restoration, because: bytes == nil ? .truncated : .damaged)
            giveUpRestoring(index, run)
            return true
        }
        switch file.block(block) {
        case .positions(let positions):
            // A block is of several layers, so a part of it cannot be given alone.
            unsafe bytes.withUnsafeBytes {
                unsafe engine.writePositions(positions, of: index, from: $0)
            }
            let end = min(positions.upperBound, restoration.count)
            slots[index].tokens.append(contentsOf: file.ids[known..<end])
        case .state(let range):
            unsafe bytes.withUnsafeBytes {
                unsafe engine.writeState(
                    range, of: index, from: $0, covering: restoration.count)
            }
            run.restoration?.stateBlocks += 1
        }
        let isLast =
            file.stateBytes == 0
            ? slots[index].tokens.count == restoration.count
            : block == file.checksums.count - 1
        if isLast {
            restoration.opened.forget()
            run.restoration = nil
        }
        return true
    }

    /// The rest is computed; or all of it, where what has been read is no state yet.
    private func giveUpRestoring(_ index: Int, _ run: ChoiceRun) {
        run.restoration = nil
        if engine.keepsState, engine.statePositions(of: index) != slots[index].tokens.count {
            slots[index].tokens.removeAll(keepingCapacity: true)
        }
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
        return slots.indices.first {
            slots[$0].run == nil && !slots[$0].isSettled && store.wants(slots[$0].tokens)
                // What was given up while it was read has no state.
                && engine.reusablePositions(common: slots[$0].tokens.count, of: $0) > 0
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
        var bytes = [UInt8](repeating: 0, count: current.file.byteCount(block))
        unsafe bytes.withUnsafeMutableBytes {
            switch current.file.block(block) {
            case .positions(let positions):
                unsafe engine.readPositions(positions, of: current.slot, into: $0)
            case .state(let range):
                unsafe engine.readState(range, of: current.slot, into: $0)
            }
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
