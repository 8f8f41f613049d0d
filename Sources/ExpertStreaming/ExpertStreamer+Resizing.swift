extension ExpertStreamer {
    /// Gives the cache another size, between two tokens; what it held is read again when it is asked
    /// for.
    ///
    /// - Throws: `cacheTooSmall` or `outOfMemory`, and then nothing has changed.
    public mutating func resize(cacheBytes: Int) throws(StreamingError) {
        precondition(setCount == 0, "experts are leased")
        let oneOfEach = plan.classes.reduce(0) { $0 + $1.pools.reduce(0) { $0 + $1.slotBytes } }
        let counters = self.counters
        self = try ExpertStreamer(
            layout: layout, paths: paths, cacheBytes: cacheBytes,
            activeExpertsPerToken: plan.needs.floorBytes / oneOfEach,
            options: StreamingOptions(io: mode))
        self.counters = counters
    }
}
