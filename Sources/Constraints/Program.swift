/// A grammar laid out as a graph of small nodes, each of which knows what comes after it.
///
///     bytes(set, next)     takes one byte of the set and goes on
///     split(targets)       goes on in several ways at once
///     call(entry, next)    puts a frame {next} on the stack and goes to a rule
///     loop(body, m, n)     puts a frame {loop, count} on the stack and goes to the body, or goes on
///     finish               takes a frame from the stack and goes on there; without one, the text is whole
///
/// A repetition {m,n} is so one node, however large m and n are. Calls at the end of a rule need no frame.
struct Program: Sendable {
    enum Kind: UInt8, Sendable { case bytes, split, call, loop, finish }

    struct Node: Sendable {
        var kind: Kind
        /// Control tokens may stand for these bytes.
        var isMarked = false
        /// The set; the first of the targets; the entry; the loop.
        var first: Int32 = 0
        /// What comes next; for a split the count of targets.
        var second: Int32 = 0
    }

    struct Loop: Sendable {
        var body: Int32
        var least: Int32
        /// -1: no limit.
        var most: Int32
        var next: Int32
    }

    static let finish: Int32 = 0

    var nodes: [Node] = [Node(kind: .finish)]
    var targets: [Int32] = []
    var loops: [Loop] = []
    var sets: [ByteSet] = []
    var root: Int32 = 0

    /// Bytes that no set tells apart share a class: by byte.
    var classOf: [UInt8] = []
    var classCount = 0
    /// A byte of each class.
    var representatives: [UInt8] = []

    /// The shortest way from each node to the end of its rule, over these bytes.
    func costs(over spellable: ByteSet) -> Costs { Costs(self, over: spellable) }

    mutating func findClasses() {
        classOf = Array(repeating: 0, count: 256)
        classCount = 1
        for set in sets {
            var split: [UInt16: UInt8] = [:]
            var isTaken = Array(repeating: false, count: 256)
            for byte in 0..<256 {
                let old = classOf[byte]
                let key = UInt16(old) << 1 | (set.contains(UInt8(byte)) ? 1 : 0)
                if split[key] == nil {
                    if isTaken[Int(old)] {
                        split[key] = UInt8(classCount)
                        classCount += 1
                    } else {
                        split[key] = old
                        isTaken[Int(old)] = true
                    }
                }
                classOf[byte] = split[key] ?? old
            }
            if classCount == 256 { break }
        }
        representatives = Array(repeating: 0, count: classCount)
        for byte in 0..<256 { representatives[Int(classOf[byte])] = UInt8(byte) }
    }
}

/// The least number of bytes from each node to the end of its rule, and the frames that this way puts on
/// the stack; and of the ways of a split the one to take.
struct Costs: Sendable {
    /// More than any budget; sums of it stay within 64 bits.
    static let never = 1 << 40

    private(set) var bytes: [Int]
    private(set) var frames: [Int32]
    private(set) var best: [Int32]

    init(_ program: Program, over spellable: ByteSet) {
        bytes = Array(repeating: Costs.never, count: program.nodes.count)
        frames = Array(repeating: 0, count: program.nodes.count)
        best = Array(repeating: -1, count: program.nodes.count)
        bytes[Int(Program.finish)] = 0
        let isReachable = program.sets.map { !$0.intersection(spellable).isEmpty }

        // Bellman and Ford. What comes next was laid out before, so that a few rounds are enough.
        var isChanged = true
        while isChanged {
            isChanged = false
            for (index, node) in program.nodes.enumerated() {
                var cost = Costs.never
                var depth: Int32 = 0
                var choice: Int32 = -1
                switch node.kind {
                case .finish: continue
                case .bytes:
                    if isReachable[Int(node.first)] {
                        cost = bytes[Int(node.second)] + 1
                        depth = frames[Int(node.second)]
                    }
                case .split:
                    for target in program.targets[
                        Int(node.first)..<Int(node.first + node.second)]
                    where bytes[Int(target)] < cost {
                        cost = bytes[Int(target)]
                        depth = frames[Int(target)]
                        choice = target
                    }
                case .call:
                    cost = bytes[Int(node.first)] + bytes[Int(node.second)]
                    depth = max(frames[Int(node.first)] + 1, frames[Int(node.second)])
                case .loop:
                    let loop = program.loops[Int(node.first)]
                    cost = bytes[Int(loop.next)]
                    depth = frames[Int(loop.next)]
                    if loop.least > 0 {
                        cost = min(cost + Int(loop.least) * bytes[Int(loop.body)], Costs.never)
                        depth = max(depth, frames[Int(loop.body)] + 1)
                    }
                }
                cost = min(cost, Costs.never)
                if cost < bytes[index] {
                    bytes[index] = cost
                    frames[index] = depth
                    best[index] = choice
                    isChanged = true
                }
            }
        }
    }

    /// From a loop of which `count` rounds have begun and ended.
    func atLoop(_ loop: Program.Loop, count: Int32) -> (bytes: Int, frames: Int32) {
        let rounds = Int(max(0, loop.least - count))
        let after = bytes[Int(loop.next)]
        guard rounds > 0 else { return (after, frames[Int(loop.next)]) }
        let total = min(after + rounds * bytes[Int(loop.body)], Costs.never)
        return (total, max(frames[Int(loop.next)], frames[Int(loop.body)] + 1))
    }
}
