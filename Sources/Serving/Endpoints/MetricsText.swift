import ExpertStreaming
import Generation
import Inference

/// Counters in Prometheus's text format, version 0.0.4.
struct MetricsText {
    private var bytes: [UInt8] = []

    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// Everything that `/metrics` tells.
    static func text(_ context: ServiceContext, connections: Int) -> [UInt8] {
        var text = MetricsText()
        let snapshot = context.scheduler.snapshot()
        text.addGeneration(snapshot)
        text.addExperts(snapshot.statistics)
        text.addMemory(snapshot)
        text.addRequests(context.metrics.snapshot, connections: connections)
        text.add("info", .gauge, "The model that is served.", [(["model": context.model.id], 1)])
        return text.bytes
    }

    private mutating func addGeneration(_ snapshot: SchedulerSnapshot) {
        let isReady = snapshot.state == .ready
        add("ready", .gauge, "1 while requests are taken.", isReady ? 1 : 0)
        add(
            "prompt_tokens_total", .counter, "Tokens of prompts.", Double(snapshot.promptTokens))
        add(
            "prompt_cached_tokens_total", .counter,
            "Tokens of prompts that need not be computed, because an earlier request had.",
            Double(snapshot.cachedTokens))
        add(
            "generated_tokens_total", .counter, "Tokens generated.",
            Double(snapshot.generatedTokens))
        add(
            "tokens_per_second", .gauge, "Tokens generated per second over the last ten seconds.",
            snapshot.tokensPerSecond)
        add("queue_requests", .gauge, "Requests that wait for a slot.", Double(snapshot.queued))
        add("running_sequences", .gauge, "Sequences being computed.", Double(snapshot.running))
        add("slots", .gauge, "Sequences that can be computed together.", Double(snapshot.slots))
        add(
            "choices_finished_total", .counter, "Answers by what ended them.",
            snapshot.finished.sorted { $0.key.rawValue < $1.key.rawValue }.map {
                (["reason": $0.key.rawValue], Double($0.value))
            })
        add(
            "requests_failed_total", .counter, "Requests that an error of the engine ended.",
            Double(snapshot.failed))
        add(
            "requests_refused_total", .counter, "Requests that did not get into the queue.",
            Double(snapshot.refused))
        let prefixes = snapshot.prefixCache
        add("prefix_cache_files", .gauge, "Computed prompts on disk.", Double(prefixes.files))
        add("prefix_cache_bytes", .gauge, "Bytes of them.", Double(prefixes.bytes))
        add(
            "prefix_cache_events_total", .counter,
            "Files written, restored, evicted and found damaged.",
            [
                (["event": "written"], Double(prefixes.written)),
                (["event": "restored"], Double(prefixes.restored)),
                (["event": "evicted"], Double(prefixes.evicted)),
                (["event": "damaged"], Double(prefixes.damaged)),
            ])
    }

    private mutating func addExperts(_ statistics: EngineStatistics) {
        let streaming = statistics.streaming
        add("expert_hits_total", .counter, "Experts that were in memory.", Double(streaming.hits))
        add(
            "expert_misses_total", .counter, "Experts that were not, or not whole.",
            Double(streaming.misses))
        add(
            "expert_partial_hits_total", .counter,
            "Of those, experts of which a narrower version was.", Double(streaming.partialHits))
        add(
            "expert_given_total", .counter, "Experts given out, by the planes that were usable.",
            byPlanes(streaming.givenByWidth))
        add(
            "expert_computed_total", .counter, "Experts computed, by planes used.",
            byPlanes(statistics.experts))
        add(
            "expert_missed_bytes_total", .counter, "Bytes of missed weights, by plane.",
            byPlanes(streaming.planeBytesMissed))
        add(
            "disk_read_bytes_total", .counter, "Bytes read, with the slack of alignment.",
            Double(streaming.bytesRead))
        add("disk_reads_total", .counter, "Read requests.", Double(streaming.reads))
        add("disk_retries_total", .counter, "Reads sent again.", Double(streaming.retries))
        add(
            "disk_rereads_total", .counter, "Reads repeated because a checksum did not match.",
            Double(streaming.rereads))
        add(
            "stall_seconds_total", .counter, "Time waited for the disk with nothing to compute.",
            Double(streaming.stallNanoseconds) / 1e9)
        add(
            "compute_seconds_total", .counter, "Time with something to compute.",
            Double(statistics.computeNanoseconds) / 1e9)
        add(
            "expert_evictions_total", .counter, "Experts that left for others.",
            Double(streaming.evictions))
        add(
            "expert_demotions_total", .counter, "Experts that gave up planes for others.",
            Double(streaming.demotions))
        add(
            "prefetch_bytes_total", .counter, "Bytes read because they were predicted.",
            [
                (["use": "useful"], Double(streaming.usefulSpeculativeBytes)),
                (["use": "wasted"], Double(streaming.wastedSpeculativeBytes)),
                (["use": "undecided"], Double(streaming.unknownSpeculativeBytes)),
            ])
        let misses = statistics.misses
        add(
            "router_choices_total", .counter, "Experts that the router chose in decode steps.",
            Double(misses.choices))
        add(
            "router_mass_total", .counter, "Their gate mass, by what became of it.",
            (1...4).map { (["use": "planes", "planes": "\($0)"], misses.widthMass[$0]) } + [
                (["use": "skipped", "planes": ""], misses.skippedMass),
                (["use": "swapped", "planes": ""], misses.swappedMass),
                (["use": "deferred", "planes": ""], misses.deferredMass),
            ])
        let narrowed = misses.skippedMass + misses.swappedMass + misses.deferredMass
        add(
            "fallback_share", .gauge,
            "Share of the gate mass that was skipped, swapped or deferred.",
            misses.mass > 0 ? narrowed / misses.mass : 0)
        add(
            "pressure_events_total", .counter,
            "Times the cache gave memory back, and took it again.",
            [
                (["kind": "shrink"], Double(statistics.pressureShrinks)),
                (["kind": "growth"], Double(statistics.pressureGrowths)),
            ])
    }

    private func byPlanes(_ counts: PlaneCounts) -> [([String: String], Double)] {
        (1...4).map { (["planes": "\($0)"], Double(counts[$0])) }
    }

    private mutating func addMemory(_ snapshot: SchedulerSnapshot) {
        let plan = snapshot.plan
        add("memory_budget_bytes", .gauge, "Ceiling on all memory.", Double(plan.budgetBytes))
        add(
            "memory_bytes", .gauge, "Memory by what it is for.",
            [
                (["part": "weights"], Double(plan.residentBytes)),
                (["part": "key_values"], Double(plan.keyValueBytes)),
                (["part": "states"], Double(plan.stateBytes)),
                (["part": "scratch"], Double(plan.scratchBytes)),
                (["part": "prediction"], Double(plan.predictionBytes)),
                (["part": "process"], Double(plan.processBytes)),
                (["part": "expert_cache"], Double(snapshot.cacheBytes)),
            ])
        if let memory = ProcessMemory.current() {
            add(
                "process_resident_bytes", .gauge, "Resident memory, as the kernel counts it.",
                Double(memory.residentBytes))
            add(
                "process_major_faults_total", .counter, "Page faults that read from a disk.",
                Double(memory.majorFaults))
        }
    }

    private mutating func addRequests(_ state: RequestMetrics.State, connections: Int) {
        add("connections", .gauge, "Open connections.", Double(connections))
        add(
            "http_requests_total", .counter, "Requests answered, by path and status.",
            state.requests.sorted { ($0.key.path, $0.key.status) < ($1.key.path, $1.key.status) }
                .map { (["path": $0.key.path, "status": "\($0.key.status)"], Double($0.value)) })
        addHistogram(
            "http_request_seconds", "From a request's arrival to the end of its answer.",
            state.seconds.sorted { $0.key < $1.key }.map { (["path": $0.key], $0.value) })
        addHistogram(
            "first_token_seconds", "From a request's arrival to its first text.",
            [([:], state.firstTokenSeconds)])
    }

    // MARK: Format

    private enum Kind: String { case counter, gauge, histogram }

    private mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
        add(name, kind, help, [([:], value)])
    }

    private mutating func add(
        _ name: String, _ kind: Kind, _ help: String, _ samples: [([String: String], Double)]
    ) {
        begin(name, kind, help)
        for (labels, value) in samples { sample(name, labels, value) }
    }

    private mutating func addHistogram(
        _ name: String, _ help: String,
        _ histograms: [([String: String], RequestMetrics.Histogram)]
    ) {
        begin(name, .histogram, help)
        for (labels, histogram) in histograms {
            var sum: UInt64 = 0
            for (index, count) in histogram.counts.enumerated() {
                sum += count
                var labels = labels
                labels["le"] =
                    index < RequestMetrics.bounds.count
                    ? "\(RequestMetrics.bounds[index])" : "+Inf"
                sample(name + "_bucket", labels, Double(sum))
            }
            sample(name + "_sum", labels, histogram.sum)
            sample(name + "_count", labels, Double(sum))
        }
    }

    private mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
        bytes += "# HELP sluice_\(name) \(help)\n# TYPE sluice_\(name) \(kind.rawValue)\n".utf8
    }

    private mutating func sample(_ name: String, _ labels: [String: String], _ value: Double) {
        bytes += "sluice_\(name)".utf8
        if !labels.isEmpty {
            let pairs = labels.sorted { $0.key < $1.key }.map { name, value in
                "\(name)=\"\(MetricsText.escaped(value))\""
            }
            bytes += "{\(pairs.joined(separator: ","))}".utf8
        }
        let whole = Int64(exactly: value)
        bytes += " \(whole.map { "\($0)" } ?? "\(value)")\n".utf8
    }

    private static func escaped(_ text: String) -> String {
        text.reduce(into: "") { result, character in
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
    }
}
