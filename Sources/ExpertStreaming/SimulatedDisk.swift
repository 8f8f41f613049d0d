private import CHost

/// A disk for tests: the bytes are real, their manner of coming is scripted.
///
/// Reads wait until somebody asks for completions. Which of the waiting reads comes next, and what
/// it comes to, is decided by two functions, so that slow, short, failing and out-of-order disks
/// are a line each.
final class SimulatedDisk {
    /// What read `number` (from 0, in order of completion) comes to: bytes, or a negative errno
    /// value. Nil: all bytes that the file has there.
    var outcome: (_ number: Int, _ piece: ReadPiece) -> Int64? = { _, _ in nil }
    /// Whether read `number` brings a wrong byte.
    var spoils: (_ number: Int) -> Bool = { _ in false }
    /// Index of the waiting read that completes next.
    var choose: (_ waiting: Int) -> Int = { _ in 0 }
    /// Whether polling finds completions, or only waiting for them does.
    var completesWhenPolled = true

    /// Reads per submit.
    private(set) var submits: [Int] = []
    private var pushed = 0
    private var waiting: [(piece: ReadPiece, tag: UInt64)] = []
    private var number = 0
    private var descriptors: [Int32] = []

    var inFlight: Int { waiting.count }

    func setFiles(_ files: borrowing OpenFiles) {
        descriptors = (0..<files.count).map { files.descriptors[$0] }
    }

    func push(_ piece: ReadPiece, tag: UInt64) {
        waiting.append((piece, tag))
        pushed += 1
    }

    func submit() {
        if pushed > 0 { submits.append(pushed) }
        pushed = 0
    }

    /// Completes one read; nil if none is waiting.
    func complete() -> (tag: UInt64, result: Int64)? {
        guard !waiting.isEmpty else { return nil }
        let (piece, tag) = waiting.remove(at: choose(waiting.count))
        defer { number += 1 }
        let scripted = outcome(number, piece)
        if let scripted, scripted < 0 { return (tag, scripted) }
        // The whole piece is read, for the sake of alignment; what a short read would not have
        // brought is spoilt.
        let arrived = unsafe host_read(
            descriptors[Int(piece.fileIndex)], piece.address, Int(piece.length), piece.offset)
        let result = min(arrived, scripted ?? arrived)
        if spoils(number) {
            // In the middle, so that it is not in the slack that alignment costs.
            let middle = unsafe piece.address + Int(piece.needed) / 2
            unsafe middle.storeBytes(
                of: ~middle.load(as: UInt8.self), as: UInt8.self)
        }
        if result >= 0 {
            unsafe (piece.address + Int(result)).initializeMemory(
                as: UInt8.self, repeating: 0xEE, count: Int(piece.length) - Int(result))
        }
        return (tag, result)
    }
}

// What a `Disk` calls. Functions of their own, not inlined, so that counting references is their
// business and none of a token that reads a real disk.
extension SimulatedDisk {
    @inline(never)
    static func push(_ disk: Unmanaged<SimulatedDisk>, _ piece: ReadPiece, tag: UInt64) {
        unsafe disk.takeUnretainedValue().push(piece, tag: tag)
    }

    @inline(never)
    static func submit(_ disk: Unmanaged<SimulatedDisk>) {
        unsafe disk.takeUnretainedValue().submit()
    }

    /// Collects up to a batch of completions, all that are waited for or what polling finds;
    /// returns how many.
    @inline(never)
    static func collect(
        _ disk: Unmanaged<SimulatedDisk>, wait: Int,
        into completions: inout FlatArray<Disk.Completion>
    ) -> Int {
        let disk = unsafe disk.takeUnretainedValue()
        var count = 0
        let limit = wait > 0 ? min(wait, Disk.batch) : disk.completesWhenPolled ? 1 : 0
        while count < limit, let done = disk.complete() {
            completions[count] = Disk.Completion(tag: done.tag, result: done.result)
            count += 1
        }
        return count
    }
}
