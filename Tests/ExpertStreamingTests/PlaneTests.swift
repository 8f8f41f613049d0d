import Testing

@testable import ExpertStreaming

/// Two layers of 8 experts of three parts and three planes; the second layer's last plane has
/// nothing of its middle part.
private func bytes(layer: Int, plane: Int, part: Int) -> Int {
    layer == 1 && plane == 2 && part == 1 ? 0 : 1000 * (3 - plane) + 700 * part + 64 * layer
}

private struct Scene: ~Copyable {
    let file: TemporaryFile
    let disk: SimulatedDisk
    var streamer: ExpertStreamer

    init(multiple: Double, shares: [Double] = [], nested: Bool = true) throws {
        // A local until the end: Swift 6.2 takes a field for initialised when this throws.
        let disk = SimulatedDisk()
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.records(
            layers: 2, experts: 8, parts: 3, planes: nested ? 3 : 2, nested: nested, bytes: bytes)
        let needs = ExpertStreamer.needs(
            layout: layout, alignment: try ExpertStreamer.alignment(paths: [file.path]),
            activeExpertsPerToken: 3)
        streamer = try ExpertStreamer(
            layout: layout, paths: [file.path],
            cacheBytes: Int(Double(needs.floorBytes) * multiple), activeExpertsPerToken: 3,
            options: StreamingOptions(planeShares: shares), simulated: disk)
        self.disk = disk
        self.file = file
    }

    mutating func fetch(_ experts: [Int32], planes: [UInt8]? = nil) -> String? {
        streamer.fetch(layer: 0, experts, planes: planes, from: file).problem
    }
}

@Suite struct PlaneTests {

    @Test func aWidthReadsItsPlanesAndAnUpgradeOnlyTheRest() throws {
        var scene = try Scene(multiple: 2)
        let narrow = scene.fetch([4, 5], planes: [1, 2])
        let first = scene.streamer.statistics
        let upgraded = scene.fetch([4, 5], planes: [3, 1])
        let second = scene.streamer.statistics - first
        #expect(narrow == nil && upgraded == nil)
        // Plane p has 3 * 1000 * (3 - p) + 700 * 3 bytes.
        #expect([1, 2, 3].map { first.planeBytesMissed[$0] } == [22_200, 8100, 0])
        #expect([1, 2, 3].map { second.planeBytesMissed[$0] } == [0, 8100, 5100])
        #expect([1, 2, 3].map { first.givenByWidth[$0] } == [1, 1, 0])
        #expect([1, 2, 3].map { second.givenByWidth[$0] } == [0, 1, 1])
        #expect(first.misses == 2 && first.hits == 0 && first.partialHits == 0)
        #expect(second.misses == 1 && second.hits == 1 && second.partialHits == 1)
        let widths = (3..<6).map { scene.streamer.residentPlanes(layer: 0, expert: $0) }
        #expect(widths == [0, 3, 2])
    }

    /// Independent planes: the full version needs no low one, and serves who asks for less.
    @Test func independentPlanesAreReadAlone() throws {
        var scene = try Scene(multiple: 2, nested: false)
        let full = scene.fetch([1], planes: [2])
        let low = scene.fetch([1, 2], planes: [1, 1])
        let upgraded = scene.fetch([2], planes: [2])
        let done = scene.streamer.statistics
        #expect(full == nil && low == nil && upgraded == nil)
        #expect([1, 2].map { done.planeBytesMissed[$0] } == [11_100, 16_200])
        #expect([1, 2].map { done.givenByWidth[$0] } == [1, 3])
    }

    @Test(arguments: 0..<10) func randomWidthsBringTheRightBytes(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        var scene = try Scene(
            multiple: Double.random(in: 1...2.5, using: &generator),
            shares: seed % 2 == 0 ? [] : [1, 0.7, 0.4], nested: seed != 4)
        scene.disk.choose = { Int.random(in: 0..<$0, using: &generator) }
        let planes = scene.streamer.layout.planesPerExpert
        for step in 0..<200 {
            let layer = step % 2
            let count = Int.random(
                in: 1...min(5, scene.streamer.leaseCapacity(layer: layer)), using: &generator)
            let experts = distinct(count, below: 8, using: &generator)
            let widths = experts.map { _ in UInt8.random(in: 1...UInt8(planes), using: &generator) }
            let (order, problem) = scene.streamer.fetch(
                layer: layer, experts, planes: widths, from: scene.file)
            try #require(problem == nil, "seed \(seed), step \(step)")
            #expect(order.count == count)
        }
        #expect(scene.streamer.statistics.partialHits > 0 || planes == 2)
    }

    /// Where a plane is empty for a whole layer, nothing is kept or read for it.
    @Test func planesThatALayerLacksCountAsThere() throws {
        let file = try TemporaryFile(byteCount: 1 << 20)
        let layout = try file.records(layers: 2, experts: 4, parts: 1, planes: 3) {
            layer, plane, _ in layer == 0 && plane > 0 ? 0 : 3000
        }
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1 << 20, activeExpertsPerToken: 2)
        let (_, problem) = streamer.fetch(layer: 0, [2, 3], from: file)
        #expect(problem == nil)
        #expect(streamer.plan.classes.map(\.pools.count) == [1, 3])
        #expect(streamer.statistics.expertBytesMissed == 6000)
        #expect(streamer.statistics.givenByWidth[3] == 2)
        #expect(streamer.residentPlanes(layer: 0, expert: 2) == 3)
    }

    @Test func aFailedPlaneLeavesTheOthers() throws {
        var scene = try Scene(multiple: 2)
        scene.disk.outcome = { number, _ in number == 1 ? -5 : nil }
        let problem = scene.fetch([6])
        scene.disk.outcome = { _, _ in nil }
        let failure = scene.streamer.takeFailure()
        let left = scene.streamer.residentPlanes(layer: 0, expert: 6)
        let again = scene.fetch([6])
        #expect(problem?.contains("plane 1 of expert 6 of MoE layer 0") == true)
        #expect(failure?.kind == .readFailed)
        #expect(left == 1)
        #expect(again == nil)
    }
}
