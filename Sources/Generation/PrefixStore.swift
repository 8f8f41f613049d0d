internal import CHost
internal import Glibc

/// Computed beginnings of prompts in a directory: found by the longest common prefix, removed by the
/// time of last use where all together get too large.
///
/// The directory is one process's at a time. Files that are not named like ours are not touched;
/// ours that are damaged, or of another model, are removed.
struct PrefixStore {
    struct Entry {
        var name: String
        var file: PrefixFile
        /// Larger is later.
        var lastUse: UInt64
    }

    let directory: String
    let limitBytes: Int
    let leastTokens: Int
    let key: [UInt8]
    let bytesPerPosition: Int
    /// Of a sequence's state; 0 where there is none.
    let stateBytes: Int
    /// Positions of a block: what is read or written between two tokens.
    let blockPositions: Int
    private(set) var entries: [Entry] = []
    private(set) var counters = PrefixCacheCounters()
    private var uses: UInt64 = 0
    private let log: @Sendable (String) -> Void
    private let lock: DirectoryLock

    static let suffix = ".sluice-prefix"
    private static let temporary = ".sluice-prefix-new"
    /// A file is worth reading for so many positions more than memory has.
    private static let leastGain = 32

    /// Opens the directory, and makes it if it is not there.
    ///
    /// - Parameter key: 32 bytes that say on what the keys and values depend.
    /// - Returns: nil if it cannot be used; then `log` has been told why.
    init?(
        settings: SchedulerSettings, directory: String, key: [UInt8], bytesPerPosition: Int,
        stateBytes: Int, blockPositions: Int
    ) {
        self.directory = directory
        self.key = key
        self.bytesPerPosition = bytesPerPosition
        self.stateBytes = stateBytes
        self.blockPositions = blockPositions
        limitBytes = settings.prefixCacheBytes
        leastTokens = settings.prefixCacheLeastTokens
        log = settings.log
        if unsafe mkdir(directory, 0o700) != 0, errno != EEXIST {
            log("the prefix cache \(directory) cannot be made: \(PrefixStore.message(errno))")
            return nil
        }
        guard let lock = DirectoryLock(directory) else {
            log(
                "the prefix cache \(directory) cannot be used: \(PrefixStore.message(errno)); "
                    + "every process needs one of its own")
            return nil
        }
        self.lock = lock
        for (name, _) in PrefixStore.names(in: directory).sorted(by: { $0.time < $1.time }) {
            if name.hasSuffix(PrefixStore.temporary) {
                _ = unsafe unlink(path(name))
            } else if name.hasSuffix(PrefixStore.suffix) {
                add(name)
            }
        }
        makeRoom(for: 0)
    }

    private func path(_ name: String) -> String { directory + "/" + name }

    /// Takes a file that is there.
    private mutating func add(_ name: String) {
        do throws(PrefixFileError) {
            let opened = try OpenFile(reading: path(name))
            let file = try PrefixFile(opened, key: key)
            guard file.bytesPerPosition == bytesPerPosition, file.stateBytes == stateBytes,
                file.blockPositions == blockPositions
            else { throw .foreign("it has blocks of another size") }
            insert(name, file)
        } catch {
            remove(name, because: error)
        }
    }

    private mutating func insert(_ name: String, _ file: PrefixFile) {
        uses += 1
        entries.append(Entry(name: name, file: file, lastUse: uses))
        counters.files = entries.count
        counters.bytes += file.fileBytes
    }

    private mutating func remove(_ name: String, because error: PrefixFileError) {
        log("\(path(name)): \(error); the file is removed")
        _ = unsafe unlink(path(name))
        counters.damaged += 1
        forget { $0.name == name }
    }

    private mutating func forget(where isGone: (Entry) -> Bool) {
        entries.removeAll(where: isGone)
        counters.files = entries.count
        counters.bytes = entries.reduce(0) { $0 + $1.file.fileBytes }
    }

    // MARK: Reading

    /// Where more of a prompt's beginning is than the first `known` tokens; nil if nowhere, or not
    /// enough more.
    mutating func restoration(for prompt: [Int32], knowing known: Int) -> PrefixRestoration? {
        let (found, count) = longest(prompt, most: prompt.count - 1)
        guard let found, count >= known + PrefixStore.leastGain else { return nil }
        uses += 1
        entries[found].lastUse = uses
        let entry = entries[found]
        _ = unsafe utimensat(AT_FDCWD, path(entry.name), nil, 0)
        do throws(PrefixFileError) {
            counters.restored += 1
            return PrefixRestoration(
                name: entry.name, file: entry.file, count: count,
                opened: try OpenFile(reading: path(entry.name)))
        } catch {
            counters.restored -= 1
            remove(entry.name, because: error)
            return nil
        }
    }

    private func longest(_ ids: [Int32], most: Int) -> (entry: Int?, count: Int) {
        var (found, longest): (Int?, Int) = (nil, 0)
        for (index, entry) in entries.enumerated() {
            let count = SlotPlace.common(entry.file.ids, ids, most: most)
            // A state is good for what follows all of its positions.
            if stateBytes > 0, count < entry.file.ids.count { continue }
            if count > longest { (found, longest) = (index, count) }
        }
        return (found, longest)
    }

    /// A block could not be read, or is not what was written.
    mutating func reject(_ restoration: PrefixRestoration, because error: PrefixFileError) {
        remove(restoration.name, because: error)
    }

    // MARK: Writing

    /// Whether a sequence should be written: it is long enough, and at least a quarter of it (and
    /// `leastTokens`) is in no file yet. So a growing conversation is written a few times only.
    func wants(_ ids: [Int32]) -> Bool {
        guard ids.count >= leastTokens, file(ids).fileBytes <= limitBytes else { return false }
        let known = longest(ids, most: ids.count).count
        return known == 0 || ids.count - known >= max(leastTokens, ids.count / 4)
    }

    private func file(_ ids: [Int32]) -> PrefixFile {
        PrefixFile(
            ids: ids, blockPositions: blockPositions, bytesPerPosition: bytesPerPosition,
            stateBytes: stateBytes, key: key)
    }

    /// Begins a file of a sequence under a temporary name; nil if it cannot be made.
    mutating func begin(_ ids: [Int32], slot: Int) -> PrefixSaving? {
        let file = file(ids)
        makeRoom(for: file.fileBytes)
        let digest = String(PrefixStore.digest(ids), radix: 16)
        let name = String(repeating: "0", count: 16 - digest.count) + digest
        do throws(PrefixFileError) {
            return PrefixSaving(
                slot: slot, name: name, file: file,
                opened: try OpenFile(writing: path(name + PrefixStore.temporary)))
        } catch {
            log("\(path(name)) cannot be written: \(error)")
            return nil
        }
    }

    /// Gives a file that is whole its name. It replaces those of which it is a continuation.
    mutating func finish(_ saving: PrefixSaving) {
        do throws(PrefixFileError) {
            try saving.opened.write(saving.file.header, at: 0)
        } catch {
            return abandon(saving, because: error)
        }
        let name = saving.name + PrefixStore.suffix
        guard unsafe rename(path(saving.name + PrefixStore.temporary), path(name)) == 0 else {
            return abandon(saving, because: .unreadable(errno))
        }
        let ids = saving.file.ids
        for entry in entries
        where entry.name != name && ids.starts(with: entry.file.ids) {
            _ = unsafe unlink(path(entry.name))
        }
        forget { $0.name == name || ids.starts(with: $0.file.ids) }
        insert(name, saving.file)
        counters.written += 1
    }

    /// Gives up a file that is not whole; because of an error, or because there is work.
    mutating func abandon(_ saving: PrefixSaving, because error: PrefixFileError? = nil) {
        _ = unsafe unlink(path(saving.name + PrefixStore.temporary))
        if let error { log("\(path(saving.name)) cannot be written: \(error)") }
    }

    /// Removes the files used longest ago until so many bytes more are within the limit.
    private mutating func makeRoom(for bytes: Int) {
        while counters.bytes + bytes > limitBytes,
            let oldest = entries.min(by: { $0.lastUse < $1.lastUse })
        {
            _ = unsafe unlink(path(oldest.name))
            counters.evicted += 1
            forget { $0.name == oldest.name }
        }
    }

    // MARK: Names

    /// FNV-1a of the ids: a name, not a proof.
    private static func digest(_ ids: [Int32]) -> UInt64 {
        ids.reduce(0xCBF2_9CE4_8422_2325) { hash, id in
            (hash ^ UInt64(UInt32(bitPattern: id))) &* 0x100_0000_01B3
        }
    }

    private static func message(_ code: Int32) -> String { unsafe String(cString: strerror(code)) }

    /// The names in a directory, each with the time of its last change.
    private static func names(in directory: String) -> [(name: String, time: Double)] {
        guard let stream = unsafe opendir(directory) else { return [] }
        defer { unsafe closedir(stream) }
        var names: [(String, Double)] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe String(cString: $0)
                }
            }
            var status = stat()
            guard unsafe lstat(directory + "/" + name, &status) == 0,
                status.st_mode & S_IFMT == S_IFREG
            else { continue }
            names.append(
                (name, Double(status.st_mtim.tv_sec) + Double(status.st_mtim.tv_nsec) / 1e9))
        }
        return names
    }
}

/// Keeps other processes out of a directory, as long as it lives.
private final class DirectoryLock {
    private let descriptor: Int32

    /// nil if another process has it, or it is no directory: errno tells.
    init?(_ directory: String) {
        // The property is set last: from then on a nil would have it closed by deinit, too.
        let opened = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { return nil }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno
            close(opened)
            errno = reason
            return nil
        }
        descriptor = opened
    }

    deinit { close(descriptor) }
}
