internal import ExpertStreaming

extension Engine {
    /// Computes the chunk's experts of one layer: all misses are submitted first, experts already
    /// here are computed while they arrive, then each group as it lands. Where the cache cannot
    /// hold all of them at once, in waves.
    ///
    /// - Parameter looksAhead: guess the next layers' experts meanwhile.
    mutating func experts(_ layer: Int, looksAhead: Bool = false) throws(StreamingError) {
        let state = unsafe self.state
        let distinctCount = unsafe state.pointee.distinctCount
        var first = 0
        while first < distinctCount {
            let count = min(streamer.leaseCapacity(layer: layer), distinctCount - first)
            let wave = unsafe state.pointee.distinct + first
            unsafe streamer.acquire(
                layer: layer, experts: wave, planes: state.pointee.distinctPlanes + first,
                count: count)
            if looksAhead, first == 0 { lookAhead(layer) }
            var given = 0
            while given < count {
                unsafe state.pointee.readyCount = 0
                while true {
                    let index = unsafe streamer.next(wait: state.pointee.readyCount == 0)
                    if index < 0 { break }
                    let planes = streamer.planes(index: index)
                    times.experts[planes] += 1
                    selection.use(expert: unsafe Int(wave[index]), planes: planes)
                    let matrices = unsafe state.pointee.addReady(
                        expert: Int(wave[index]), planes: planes)
                    for part in 0..<3 {
                        for plane in unsafe matrices[part].usedPlanes {
                            unsafe matrices[part].place(
                                plane: plane,
                                at: streamer.address(index: index, plane: plane, part: part))
                        }
                    }
                }
                let readyCount = unsafe state.pointee.readyCount
                if readyCount == 0 { break }
                given += readyCount
                run(.gateUp)
                run(.activate)
                run(.down)
            }
            streamer.release()
            if given < count, let failure = streamer.takeFailure() { throw failure }
            first += count
        }
    }
}
