internal import ExpertStreaming

// A layer's experts are computed in rounds. Each takes experts that are here by then, and between
// two of them the leader sees to the disk:
//
//     acquire: those in memory, then the longest queues of tokens, as many as can be leased
//     what every token uses is computed meanwhile
//     round:   gather, gate and up, activate, down      meanwhile the disk reads
//     release the round's experts, acquire as many more
//     round:   ...
extension Engine {
    /// Leases the chunk's experts of one layer, as many as the cache can at once, and sends the reads
    /// of those that are missing.
    ///
    /// - Returns: how many.
    mutating func acquireExperts(_ layer: Int) -> Int {
        let state = unsafe self.state
        if unsafe state.pointee.tokens > 1 { sortExperts(layer) }
        let count = unsafe min(streamer.leaseCapacity(layer: layer), state.pointee.distinctCount)
        unsafe streamer.acquire(
            layer: layer, experts: state.pointee.distinct, planes: state.pointee.distinctPlanes,
            count: count)
        return count
    }

    /// Computes the experts of which the first `leased` were acquired. Where that is not all of
    /// them, each lease that ends lets the next read begin.
    mutating func computeExperts(leased: Int) throws(StreamingError) {
        let state = unsafe self.state
        let isOneToken = unsafe state.pointee.tokens == 1
        let distinctCount = unsafe state.pointee.distinctCount
        var leased = leased
        var computed = 0
        while computed < distinctCount {
            beginRound(workLimit: isOneToken ? .max : plan.scratch.roundPairs)
            let readyCount = unsafe state.pointee.readyCount
            if readyCount == 0 { break }
            if unsafe state.pointee.gathers { run(.gather) }
            run(.gateUp)
            run(.activate)
            run(.down)
            computed += readyCount
            if leased == distinctCount { continue }
            for index in 0..<readyCount {
                unsafe streamer.release(index: state.pointee.ready[index].setIndex)
            }
            let count = min(streamer.leasesLeft, distinctCount - leased)
            unsafe streamer.acquireMore(
                experts: state.pointee.distinct + leased,
                planes: state.pointee.distinctPlanes + leased, count: count)
            leased += count
        }
        // A chunk's longest queues are the last to be forgotten, a token's lowest ranks.
        streamer.release(lastFirst: !isOneToken)
        if computed < distinctCount, let failure = streamer.takeFailure() { throw failure }
    }

    /// Brings the experts that a chunk uses in a layer into the order in which they are leased:
    /// those in memory first, because no read may take their slots; then those of most tokens, so
    /// that the disk is done when little is left to compute.
    private func sortExperts(_ layer: Int) {
        let state = unsafe self.state
        for place in unsafe 0..<state.pointee.distinctCount {
            let expert = unsafe Int(state.pointee.distinct[place])
            unsafe state.pointee.isHere[expert] =
                streamer.residentPlanes(layer: layer, expert: expert)
                >= Int(state.pointee.distinctPlanes[place])
        }
        unsafe state.pointee.sortDistinct()
    }

    /// Lists the experts of the next round: those that are here, up to `workLimit` pairs; where
    /// none is, the first that arrives. None at all after a failure.
    private mutating func beginRound(workLimit: Int) {
        let state = unsafe self.state
        unsafe state.pointee.beginRound()
        while unsafe state.pointee.roundWork < workLimit {
            let index = unsafe streamer.next(wait: state.pointee.readyCount == 0)
            if index < 0 { break }
            let expert = unsafe Int(state.pointee.distinct[index])
            // More of it may be in memory than the options let a token see.
            let planes = min(streamer.planes(index: index), expertPlanes)
            times.experts[planes] += 1
            selection.use(expert: expert, planes: planes)
            let matrices = unsafe state.pointee.addReady(
                expert: expert, planes: planes, setIndex: index)
            for part in 0..<3 {
                for plane in unsafe matrices[part].usedPlanes {
                    unsafe matrices[part].place(
                        plane: plane,
                        at: streamer.address(index: index, plane: plane, part: part))
                }
            }
        }
    }
}
