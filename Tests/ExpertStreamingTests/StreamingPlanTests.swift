import Testing

@testable import ExpertStreaming

/// Experts of one part each; sizes by layer.
private func layout(_ sizes: [Int], experts: Int) throws -> ExpertLayout {
    var extents: [ExpertExtent] = []
    var offset: UInt64 = 32
    for size in sizes {
        for _ in 0..<experts {
            extents.append(ExpertExtent(fileIndex: 0, offset: offset, byteCount: size))
            offset += UInt64(size)
        }
    }
    return try ExpertLayout(
        layerCount: sizes.count, expertsPerLayer: experts, partsPerExpert: 1, extents: extents,
        fileSizes: [offset])
}

@Suite struct StreamingPlanTests {

    @Test func layersOfEqualExpertsShareAClass() throws {
        let layout = try layout([100_000, 120_000, 100_000, 120_000], experts: 8)
        let plan = try ExpertStreamer.plan(
            layout: layout, alignment: 512, activeExpertsPerToken: 2, cacheBytes: 2_000_000)
        #expect(plan.classes.count == 2)
        #expect(plan.classOfLayer == [0, 1, 0, 1])
        // 100,000 bytes at any offset touch at most 197 blocks of 512, which are less than 25
        // pages.
        #expect(plan.classes[0].slotBytes == 25 * 4096)
        #expect(plan.classes[0].expertCount == 16)
    }

    @Test func everyExpertFitsItsSlotAtAnyOffset() throws {
        for alignment in [512, 4096, 65536] {
            let layout = try layout([4096, 70_001, 512], experts: 33)
            let plan = try ExpertStreamer.plan(
                layout: layout, alignment: alignment, activeExpertsPerToken: 1, cacheBytes: .max)
            for expert in 0..<3 * 33 {
                let needed = layout.slotBytes(planeIndex: expert, alignment: alignment)
                #expect(needed <= plan.classes[plan.classOfLayer[expert / 33]].slotBytes)
            }
        }
    }

    @Test(arguments: 0..<50) func staysWithinTheBudgetAndLeavesNothingUsable(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        let sizes = [3000, 50_000, 60_000, 900_000]
        let layers = (0..<Int.random(in: 1...12, using: &generator)).map { _ in
            sizes.randomElement(using: &generator)!
        }
        let experts = Int.random(in: 4...40, using: &generator)
        let active = Int.random(in: 1...4, using: &generator)
        let layout = try layout(layers, experts: experts)
        let needs = ExpertStreamer.needs(
            layout: layout, alignment: 4096, activeExpertsPerToken: active)
        let budget = Int.random(in: needs.floorBytes...needs.fullBytes + 1000, using: &generator)
        let plan = try ExpertStreamer.plan(
            layout: layout, alignment: 4096, activeExpertsPerToken: active, cacheBytes: budget)

        #expect(plan.arenaBytes <= budget, "seed \(seed)")
        #expect(plan.needs == needs)
        for size in plan.classes {
            #expect(size.slotCount >= active && size.slotCount <= size.expertCount, "seed \(seed)")
            #expect(
                size.slotCount == size.expertCount || budget - plan.arenaBytes < size.slotBytes,
                "seed \(seed): room for another slot of \(size.slotBytes) bytes")
        }
        #expect(plan.holdsEverything == (budget >= needs.fullBytes), "seed \(seed)")
    }

    @Test func bytesAreSharedOutByWeight() throws {
        let layout = try layout([40_000, 40_000, 40_000, 400_000], experts: 64)
        let full = ExpertStreamer.needs(layout: layout, alignment: 512, activeExpertsPerToken: 4)
        let plan = try ExpertStreamer.plan(
            layout: layout, alignment: 512, activeExpertsPerToken: 4, cacheBytes: full.fullBytes / 2
        )
        for size in plan.classes {
            let share = Double(size.slotCount) / Double(size.expertCount)
            #expect(share > 0.47 && share < 0.53)
        }
    }

    /// Three planes of 2, 1 and 1 pages; the budget is that of 16 experts at full width.
    @Test(arguments: [
        ([], [16, 16, 16]), ([1, 0.5, 0.5], [21, 10, 10]), ([1, 0.1, 0.1], [28, 4, 4]),
        ([1, 1, 0.25], [19, 19, 4]),
    ])
    func planesShareAsTold(shares: [Double], slots: [Int]) throws {
        let sizes = [8192, 4096, 4096]
        let extents = (0..<64 * 3).map { index in
            ExpertExtent(fileIndex: 0, offset: 0, byteCount: sizes[index % 3])
        }
        let layout = try ExpertLayout(
            layerCount: 1, expertsPerLayer: 64, partsPerExpert: 1, planesPerExpert: 3,
            extents: extents, fileSizes: [8192])
        let plan = try ExpertStreamer.plan(
            layout: layout, alignment: 512, activeExpertsPerToken: 4, cacheBytes: 16 << 14,
            planeShares: shares)
        #expect(plan.classes[0].pools.map(\.slotCount) == slots)
        #expect(plan.arenaBytes <= 16 << 14)
        let everything = try ExpertStreamer.plan(
            layout: layout, alignment: 512, activeExpertsPerToken: 4, cacheBytes: .max,
            planeShares: shares)
        #expect(everything.holdsEverything)
    }

    @Test(arguments: [[0.5], [1, 0], [1, 1.5], [1, .nan], [1, 1, 1]])
    func sharesThatMakeNoSenseAreRefused(shares: [Double]) throws {
        let extent = ExpertExtent(fileIndex: 0, offset: 0, byteCount: 10)
        let layout = try ExpertLayout(
            layerCount: 1, expertsPerLayer: 2, partsPerExpert: 1, planesPerExpert: 2,
            extents: [extent, extent, extent, extent], fileSizes: [10])
        let error = #expect(throws: StreamingError.self) {
            try ExpertStreamer.plan(
                layout: layout, alignment: 512, activeExpertsPerToken: 1, cacheBytes: .max,
                planeShares: shares)
        }
        #expect(error?.kind == .invalidLayout)
    }

    @Test func aCacheBelowTheFloorIsRefusedWithTheSizeThatWouldDo() throws {
        let layout = try layout([1 << 20, 1 << 20], experts: 8)
        let needs = ExpertStreamer.needs(layout: layout, alignment: 512, activeExpertsPerToken: 2)
        let error = #expect(throws: StreamingError.self) {
            try ExpertStreamer.plan(
                layout: layout, alignment: 512, activeExpertsPerToken: 2,
                cacheBytes: needs.floorBytes - 1)
        }
        #expect(error?.kind == .cacheTooSmall)
        #expect(error?.description.contains("give it at least 3M") == true)
        let plan = try ExpertStreamer.plan(
            layout: layout, alignment: 512, activeExpertsPerToken: 2, cacheBytes: 3 << 20)
        #expect(plan.slotCount == 2)
    }

    @Test func sizesAreResolvedAgainstTheModelsNeeds() {
        let needs = CacheNeeds(floorBytes: 100, activeSetBytes: 1000, fullBytes: 8000)
        #expect(CacheSize.bytes(500).bytes(for: needs) == 500)
        #expect(CacheSize.bytes(50_000).bytes(for: needs) == 8000)
        #expect(CacheSize.percent(50).bytes(for: needs) == 4000)
        #expect(CacheSize.percent(100).bytes(for: needs) == 8000)
        #expect(CacheSize.percent(1e300).bytes(for: needs) == 8000)
        #expect(CacheSize.multiple(2).bytes(for: needs) == 2000)
        #expect(CacheSize.multiple(0.5).bytes(for: needs) == 500)
        #expect(CacheSize.auto.bytes(for: needs) == nil)
    }
}

@Suite struct ExpertLayoutTests {

    @Test func anExtentOutsideItsFileIsRefusedByName() {
        let good = ExpertExtent(fileIndex: 0, offset: 0, byteCount: 10)
        let bad: [ExpertExtent] = [
            ExpertExtent(fileIndex: 0, offset: 91, byteCount: 10),
            ExpertExtent(fileIndex: 1, offset: 0, byteCount: 10),
            ExpertExtent(fileIndex: -1, offset: 0, byteCount: 10),
            ExpertExtent(fileIndex: 0, offset: .max, byteCount: 10),
            ExpertExtent(fileIndex: 0, offset: 0, byteCount: 0),
            ExpertExtent(fileIndex: 0, offset: 0, byteCount: -1),
            ExpertExtent(fileIndex: 0, offset: 0, byteCount: .max),
        ]
        for extent in bad {
            let error = #expect(throws: StreamingError.self) {
                try ExpertLayout(
                    layerCount: 1, expertsPerLayer: 2, partsPerExpert: 2,
                    extents: [good, good, good, extent], fileSizes: [100])
            }
            #expect(error?.kind == .invalidLayout)
            #expect(error?.description.hasPrefix("expert 1 of layer 0, part 1") == true)
        }
    }

    @Test(arguments: [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1 << 40, 1 << 40, 1), (2, 1, 1)])
    func countsThatDoNotFitAreRefused(layers: Int, experts: Int, parts: Int) {
        let error = #expect(throws: StreamingError.self) {
            try ExpertLayout(
                layerCount: layers, expertsPerLayer: experts, partsPerExpert: parts,
                extents: [ExpertExtent(fileIndex: 0, offset: 0, byteCount: 1)], fileSizes: [1])
        }
        #expect(error?.kind == .invalidLayout)
    }

    @Test func planesThatMakeNoSenseAreRefusedByName() {
        func failure(
            planes: Int, nested: Bool = true, sizes: [Int], offsets: [UInt64] = [0, 40, 20, 60],
            checksums: [UInt32] = []
        ) -> String? {
            do throws(StreamingError) {
                _ = try ExpertLayout(
                    layerCount: 1, expertsPerLayer: 1, partsPerExpert: 2, planesPerExpert: planes,
                    nested: nested,
                    extents: zip(offsets, sizes).map {
                        ExpertExtent(fileIndex: 0, offset: $0, byteCount: $1)
                    }, checksums: checksums, fileSizes: [100])
                return nil
            } catch {
                return error.description
            }
        }
        #expect(failure(planes: 2, sizes: [10, 10, 10, 10]) == nil)
        #expect(failure(planes: 2, sizes: [10, 10, 0, 10]) == nil)
        #expect(failure(planes: 2, sizes: [10, 10, 0, 0]) == nil)
        #expect(failure(planes: 2, sizes: [10, 10, 10, 10], checksums: [1, 2]) == nil)
        #expect(
            failure(planes: 2, sizes: [0, 0, 10, 10])
                == "expert 0 of layer 0, plane 0, part 0: the first plane is empty")
        #expect(
            failure(planes: 2, nested: false, sizes: [10, 10, 0, 10])?.hasPrefix(
                "expert 0 of layer 0, plane 1, part 0: 0 bytes") == true)
        #expect(failure(planes: 5, sizes: [10, 10]) != nil)
        #expect(failure(planes: 1, nested: false, sizes: [10, 10]) != nil)
        #expect(failure(planes: 2, sizes: [10, 10, 10]) != nil)
        #expect(failure(planes: 2, sizes: [10, 10, 10, 10], checksums: [1]) != nil)
        #expect(
            failure(
                planes: 2, sizes: [10, 10, 10, 10], offsets: [0, 40, 60, 20], checksums: [1, 2]
            )?.hasPrefix("expert 0 of layer 0, plane 1, part 1: lies at offset 20, not behind")
                == true)
    }

    @Test func partsThatTouchAreReadAsOneRange() throws {
        func extent(_ offset: UInt64, _ count: Int, file: Int = 0) -> ExpertExtent {
            ExpertExtent(fileIndex: file, offset: offset, byteCount: count)
        }
        let layout = try ExpertLayout(
            layerCount: 1, expertsPerLayer: 1, partsPerExpert: 5,
            extents: [
                extent(100, 900), extent(1000, 1000),  // touch
                extent(2100, 50),  // shares the block where the last one ends
                extent(40_000, 10), extent(0, 10, file: 1),
            ],
            fileSizes: [50_000, 50_000])
        var ranges: [AlignedRange] = []
        while let range = layout.range(
            planeIndex: 0, part: ranges.last?.nextPart ?? 0, alignment: 512)
        {
            ranges.append(range)
            if range.nextPart == 5 { break }
        }
        #expect(ranges.map(\.start) == [0, 39_936, 0])
        #expect(ranges.map(\.end) == [2560, 40_448, 512])
        #expect(ranges.map(\.nextPart) == [3, 4, 5])
    }
}
