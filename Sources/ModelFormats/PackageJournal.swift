// What of a package has been written, beside the file in the making: one JSON value per line.
//
// A line is appended after the bytes it speaks of were handed to the kernel, so it holds if the process is
// killed. If the machine loses power, it may hold and the bytes not: a line `synced` says that everything
// before it was on the device, and what comes after the last one is checked when it is taken up again.

internal import FoundationEssentials
import Glibc

/// One line.
struct PackageJournalEntry: Codable, Equatable {
    /// What is packed and how; the first line, and no other.
    var identity: String?
    /// SHA-256 of the sources.
    var digests: [String]?
    /// The next tensor was written: its bytes in the file are the sum of `frames`, if it has any.
    var tensor: Stored?
    /// The next expert was written: checksums of its planes.
    var expert: [UInt32]?
    /// Everything before is on the device.
    var synced: Bool?

    struct Stored: Codable, Equatable {
        var checksum: UInt32
        var frames: [Int]
    }
}

/// The journal's file.
final class PackageJournal {
    private let file: OutputFile
    private var end: UInt64
    /// The lines that were there, whole and readable.
    let entries: [PackageJournalEntry]

    /// Opens `path`. A journal of something else than `identity` is begun anew.
    init(path: String, identity: String) throws(OutputError) {
        file = try OutputFile(path: path)
        var (found, length) = Self.read(file)
        if found.first != PackageJournalEntry(identity: identity) {
            (found, length) = ([], 0)
        }
        entries = Array(found.dropFirst())
        end = UInt64(length)
        try file.resize(end)
        if length == 0 { try append(PackageJournalEntry(identity: identity)) }
    }

    func append(_ entry: PackageJournalEntry) throws(OutputError) {
        guard let line = try? JSONEncoder().encode(entry) else {
            preconditionFailure("a journal entry of plain values has no JSON")
        }
        let bytes = Array(line) + [UInt8(ascii: "\n")]
        try file.write(bytes, at: end)
        end += UInt64(bytes.count)
    }

    func synchronise() throws(OutputError) { try file.synchronise() }

    /// The lines up to the first that is cut off or unreadable, and the bytes they take.
    private static func read(_ file: OutputFile) -> ([PackageJournalEntry], Int) {
        // A line takes some 100 bytes for each of at most 2^24 experts.
        guard file.size <= 4 << 30 else { return ([], 0) }
        var bytes = [UInt8](repeating: 0, count: file.size)
        guard unsafe bytes.withUnsafeMutableBytes({ unsafe file.read(into: $0, at: 0) }) else {
            return ([], 0)
        }
        var entries: [PackageJournalEntry] = []
        var start = 0
        let decoder = JSONDecoder()
        while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
            let line = Data(bytes[start..<end])
            guard let entry = try? decoder.decode(PackageJournalEntry.self, from: line) else {
                break
            }
            entries.append(entry)
            start = end + 1
        }
        return (entries, start)
    }
}
