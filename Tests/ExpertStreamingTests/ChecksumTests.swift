import Glibc
import Testing

@testable import ExpertStreaming

/// A streamer over records with checksums, and a way to damage them on disk.
private struct Scene: ~Copyable {
    let file: TemporaryFile
    let disk: SimulatedDisk
    var streamer: ExpertStreamer

    init(simulated: Bool, io: IOMode? = nil) throws {
        // A local until the end: Swift 6.2 takes a field for initialised when this throws.
        let disk = SimulatedDisk()
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.records(
            layers: 1, experts: 8, parts: 3, planes: 2, checksums: true
        ) { _, plane, part in part == 1 && plane == 1 ? 0 : 4500 - 1000 * plane + part }
        streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2,
            options: StreamingOptions(io: io), simulated: simulated ? disk : nil)
        self.disk = disk
        self.file = file
    }

    /// Writes the last byte of a part with some bits inverted.
    func write(expert: Int, plane: Int, part: Int, inverting bits: UInt8) {
        let layout = streamer.layout
        let extent = layout.extents[(expert * 2 + plane) * 3 + part]
        let place = Int(extent.offset) + extent.byteCount - 1
        var byte = file.bytes[place] ^ bits
        let descriptor = unsafe open(file.path, O_WRONLY)
        let written = unsafe pwrite(descriptor, &byte, 1, off_t(place))
        fsync(descriptor)
        close(descriptor)
        precondition(written == 1)
    }

    mutating func fetch(_ experts: [Int32]) -> String? {
        streamer.fetch(layer: 0, experts, from: file).problem
    }
}

@Suite struct ChecksumTests {

    @Test func whatMatchesIsReadOnce() throws {
        var scene = try Scene(simulated: true)
        let problem = scene.fetch([0, 1, 2, 7])
        #expect(problem == nil)
        #expect(scene.streamer.statistics.rereads == 0)
        #expect(scene.streamer.statistics.reads == 8)
    }

    /// The first reading of a plane comes spoilt, the second does not.
    @Test(arguments: 0..<4) func whatIsSpoiltOnItsWayIsReadAgain(number: Int) throws {
        var scene = try Scene(simulated: true)
        scene.disk.spoils = { $0 == number }
        let problem = scene.fetch([5, 6])
        #expect(problem == nil)
        #expect(scene.streamer.statistics.rereads == 1)
        #expect(scene.streamer.statistics.reads == 5)
    }

    @Test(arguments: IOMode.allCases) func damageOnDiskIsNamedAndTheStreamerGoesOn(
        mode: IOMode
    ) throws {
        guard mode == .pread || (try? Scene(simulated: false, io: mode)) != nil else { return }
        var scene = try Scene(simulated: false, io: mode)
        scene.write(expert: 3, plane: 1, part: 2, inverting: 0x10)
        let problem = scene.fetch([2, 3])
        let failure = scene.streamer.takeFailure()
        let widths = (2...3).map { scene.streamer.residentPlanes(layer: 0, expert: $0) }
        let narrow = scene.streamer.fetch(layer: 0, [3, 4], planes: [1, 2], from: scene.file)
        let again = scene.fetch([3])
        scene.write(expert: 3, plane: 1, part: 2, inverting: 0)
        let repaired = scene.fetch([3])

        let offset = scene.streamer.layout.extents[(3 * 2 + 1) * 3].offset
        #expect(failure?.kind == .damagedRecord)
        #expect(
            problem?.hasPrefix(
                "\(scene.file.path): plane 1 of expert 3 of MoE layer 0: its 7022 bytes at offset "
                    + "\(offset) do not match their checksum") == true)
        #expect(widths[1] == 1)
        #expect(narrow.problem == nil)
        #expect(again == problem)
        #expect(repaired == nil)
        #expect(scene.streamer.statistics.rereads == 2)
    }
}
