import Testing

@testable import ExpertStreaming

@Suite struct Smoke {
    @Test(arguments: [IOMode?.none, .direct, .buffered, .pread])
    func reads(_ mode: IOMode?) throws {
        let file = try TemporaryFile(byteCount: 3_000_000)
        let layout = try file.layout(layers: 2, experts: 8, parts: 3, bytes: 50_000)
        var streamer = try ExpertStreamer(
            layout: layout, paths: [file.path], cacheBytes: 1_000_000, activeExpertsPerToken: 2, io: mode)
        print(streamer.mode, streamer.modeReason, streamer.plan)
        for round in 0..<20 {
            let experts: [Int32] = [Int32(round % 8), Int32((round * 3 + 1) % 8)]
            if experts[0] == experts[1] { continue }
            unsafe experts.withUnsafeBufferPointer {
                unsafe streamer.acquire(layer: round % 2, experts: $0.baseAddress!, count: 2)
            }
            while streamer.outstanding > 0 {
                let index = streamer.next(wait: true)
                try #require(index >= 0, "\(streamer.failure.debugDescription)")
                for part in 0..<3 {
                    let good = file.matches(
                        streamer.address(index: index, part: part), layout, layer: round % 2,
                        expert: Int(experts[index]), part: part)
                    #expect(good)
                }
            }
            streamer.release()
        }
        print(streamer.statistics)
    }
}
