public import ExpertStreaming

extension Engine {
    /// Brings experts into the cache, the first of the list being the last to be evicted, until the
    /// cache is full of them. Experts of the list that are there already are not read again.
    ///
    /// - Parameter ranked: most wanted first; each once.
    /// - Throws: `StreamingError` for the disk.
    public mutating func warm(_ ranked: [LayerExpert]) throws(StreamingError) {
        let wanted = fitting(ranked)
        // Those that are here first: so that the others push out none of them.
        let (here, missing) = (wanted.filter { isResident($0) }, wanted.filter { !isResident($0) })
        for name in here { try bring(name.layer, [Int32(name.expert)]) }
        for layer in 0..<model.expertLayerCount {
            var experts = missing.filter { $0.layer == layer }.map { Int32($0.expert) }
            while !experts.isEmpty {
                let count = min(streamer.leaseCapacity(layer: layer), experts.count)
                try bring(layer, Array(experts.prefix(count)))
                experts.removeFirst(count)
            }
        }
        // Used once more in the order in which they may leave.
        for name in wanted.reversed() where isResident(name) {
            try bring(name.layer, [Int32(name.expert)])
        }
    }

    private func isResident(_ name: LayerExpert) -> Bool {
        streamer.residentPlanes(layer: name.layer, expert: name.expert) == selection.planes
    }

    /// As many of the list as have slots, beside those that stay anyway.
    private func fitting(_ ranked: [LayerExpert]) -> [LayerExpert] {
        var left = plan.streaming.classes.map(\.slotCount)
        for layer in 0..<model.expertLayerCount {
            for expert in 0..<model.expertCount where selection.isHeld(layer, Int32(expert)) {
                left[plan.streaming.classOfLayer[layer]] -= 1
            }
        }
        return ranked.filter { name in
            if selection.isHeld(name.layer, Int32(name.expert)) { return false }
            let index = plan.streaming.classOfLayer[name.layer]
            left[index] -= 1
            return left[index] >= 0
        }
    }

    /// Reads a set of one layer's experts, as far as they are not here.
    private mutating func bring(_ layer: Int, _ experts: [Int32]) throws(StreamingError) {
        unsafe experts.withUnsafeBufferPointer {
            unsafe streamer.acquire(layer: layer, experts: $0.baseAddress!, count: experts.count)
        }
        var given = 0
        while given < experts.count, streamer.next(wait: true) >= 0 { given += 1 }
        streamer.release()
        if let failure = streamer.takeFailure() { throw failure }
    }
}
