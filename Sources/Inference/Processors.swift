internal import CHost

/// The processors a process may use, in the order in which threads are best put on them.
///
/// Waiting for the slowest is what asymmetry costs, so big cores come first (`cpu_capacity` of
/// big.LITTLE boards, else the greatest clock rate), one thread for every core before the second
/// of any (a core's memory requests are shared by its threads), and the processors of one NUMA node
/// before those of another.
public struct Processors: Sendable, Equatable {
    /// Best first.
    public let ordered: [Int32]
    /// How many are worth a thread by default: the big cores of one node, once each. At least 1.
    public let recommended: Int

    /// - Parameters:
    ///   - allowed: In ascending order; none stands for processor 0.
    ///   - system: Directory with `cpu/cpuN` and `node/nodeN` as Linux has them in
    ///     /sys/devices/system. What is missing there is taken to be equal for all.
    init(allowed: [Int32], system: String = "/sys/devices/system") {
        let allowed = allowed.isEmpty ? [0] : allowed
        let nodes = Processors.nodes(system)
        var traits: [Traits] = []
        for cpu in allowed {
            let directory = "\(system)/cpu/cpu\(cpu)"
            let siblings = Processors.list(
                Processors.text("\(directory)/topology/thread_siblings_list") ?? "")
            // The first allowed thread of a core stands for it.
            let place = siblings.filter { allowed.contains($0) }.firstIndex(of: cpu) ?? 0
            let speed =
                Processors.number("\(directory)/cpu_capacity")
                ?? Processors.number("\(directory)/cpufreq/cpuinfo_max_freq") ?? 0
            traits.append(
                Traits(
                    cpu: cpu, speed: speed, place: place,
                    node: nodes.firstIndex { $0.contains(cpu) } ?? 0))
        }
        let fastest = traits.map(\.speed).max() ?? 0
        func isWorthIt(_ one: Traits) -> Bool {
            one.place == 0 && Double(one.speed) >= Double(fastest) * Processors.bigShare
        }
        var worth: [Int: Int] = [:]
        for one in traits where isWorthIt(one) { worth[one.node, default: 0] += 1 }
        // The node with the most of them, of equal ones the first.
        let home = worth.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key ?? 0
        recommended = max(1, worth[home] ?? 0)
        ordered = traits.sorted { a, b in
            let first = (isWorthIt(a) ? 0 : 1, a.node == home ? 0 : 1, a.place, -a.speed, a.cpu)
            let second = (isWorthIt(b) ? 0 : 1, b.node == home ? 0 : 1, b.place, -b.speed, b.cpu)
            return first < second
        }.map(\.cpu)
    }

    /// Those that this process may run on.
    public static func ofThisProcess() -> Processors {
        var cpus = [Int32](repeating: 0, count: 1024)
        let count = unsafe host_allowed_cpus(&cpus, 1024)
        return Processors(allowed: Array(cpus[..<min(1024, Int(count))]))
    }

    /// What makes a core a big one: this share of the fastest one's capacity. The small cores of
    /// boards have 0.2 to 0.5 of it; clock rates of equal cores differ by some percent.
    private static let bigShare = 0.7

    private struct Traits {
        var cpu: Int32
        var speed: Int
        /// Among the threads of its core.
        var place: Int
        var node: Int
    }

    /// The processors of every node, in order.
    private static func nodes(_ system: String) -> [[Int32]] {
        var nodes: [[Int32]] = []
        while let text = text("\(system)/node/node\(nodes.count)/cpulist") {
            nodes.append(list(text))
        }
        return nodes
    }

    /// The numbers of a list such as "0-3,8,10-11"; what is no number is passed over.
    static func list(_ text: String) -> [Int32] {
        text.split(whereSeparator: { ", \n".contains($0) }).flatMap { part -> [Int32] in
            let ends = part.split(separator: "-").compactMap { Int32($0) }
            guard let first = ends.first, let last = ends.last, first <= last, last < 4096 else {
                return []
            }
            return Array(first...last)
        }
    }

    private static func number(_ path: String) -> Int? {
        text(path).flatMap { Int($0.split(separator: "\n").first ?? "") }
    }

    private static func text(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe host_read_text(path, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(
            decoding: buffer.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
