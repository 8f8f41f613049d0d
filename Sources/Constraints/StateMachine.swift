/// Runs a program byte by byte: all readings of the text so far at once, as states that are found when they
/// are first met and remembered.
///
///     reading   a node that waits for a byte, and the stack of frames under it
///     frame     where to go on when a rule ends, and how many rounds of a loop have begun; equal stacks are
///               one and have one number
///     state     a set of readings, with a number; state 0 has none: the text is not in the language
///     row       for each class of bytes the state that comes next, -1 while it is unknown
///
/// Readings beyond `Limits.readings`, and those whose stack would become too deep, are dropped. That makes
/// the language smaller and never larger. Each one that stays can reach the end: nodes without an end are
/// dropped as well, and what is dropped for depth is measured with the frames that its end still needs.
struct StateMachine: Sendable {
    struct Frame: Sendable {
        var node: Int32
        var count: Int32
        var parent: Int32
        var depth: Int32
        /// Bytes from here to the end of the text, at least.
        var need: Int
    }

    private struct FrameKey: Hashable {
        let node: Int32
        let count: Int32
        let parent: Int32
    }

    struct Reading: Hashable, Sendable {
        let node: Int32
        let frame: Int32
    }

    let program: Program
    let costs: Costs
    private let classCount: Int

    /// The first is the bottom: no rule waits.
    private var frames: [Frame] = []
    private var frameNumbers: [FrameKey: Int32] = [:]
    private var readings: [[Reading]] = []
    private var stateNumbers: [[Reading]: Int32] = [:]
    private(set) var rows: [Int32] = []
    /// By state: bytes to the end, at least.
    private(set) var needs: [Int] = []
    private(set) var accepts: [Bool] = []

    // Of the closure in the making.
    private var pending: [Reading] = []
    private var visited: Set<Reading> = []
    private var found: [Reading] = []

    static let dead: Int32 = 0

    init(_ program: Program, costs: Costs) {
        self.program = program
        self.costs = costs
        classCount = program.classCount
        forget()
    }

    var stateCount: Int { readings.count }

    /// The state before the first byte.
    mutating func start() -> Int32 {
        enter(program.root, frame: 0)
        return close()
    }

    /// The state after one more byte.
    mutating func next(_ state: Int32, _ byte: UInt8) -> Int32 {
        next(state, classOf: Int(program.classOf[Int(byte)]))
    }

    mutating func next(_ state: Int32, classOf index: Int) -> Int32 {
        let known = rows[Int(state) * classCount + index]
        if known >= 0 { return known }
        let byte = program.representatives[index]
        let result = step(readings[Int(state)], byte, markedOnly: false)
        rows[Int(state) * classCount + index] = result
        return result
    }

    /// The state after a control token that stands for `text`; dead where it may not stand here.
    mutating func next(_ state: Int32, marked text: [UInt8]) -> Int32 {
        var state = state
        for byte in text {
            let before = readings[Int(state)]
            guard before.contains(where: { program.nodes[Int($0.node)].isMarked }) else {
                return StateMachine.dead
            }
            state = step(before, byte, markedOnly: true)
        }
        return state
    }

    /// Forgets all states but one, and returns its new number: so much memory, and no more.
    mutating func forget(keeping state: Int32) -> Int32 {
        let kept = readings[Int(state)]
        let old = frames
        forget()
        var renamed: [Int32: Int32] = [0: 0]
        func chain(_ frame: Int32) -> [Int32] {
            var result: [Int32] = []
            var frame = frame
            while frame != 0 {
                result.append(frame)
                frame = old[Int(frame)].parent
            }
            return result.reversed()
        }
        for reading in kept {
            for frame in chain(reading.frame) where renamed[frame] == nil {
                let it = old[Int(frame)]
                renamed[frame] = self.frame(it.node, it.count, on: renamed[it.parent] ?? 0)
            }
            found.append(Reading(node: reading.node, frame: renamed[reading.frame] ?? 0))
        }
        return close()
    }

    private mutating func forget() {
        frames = [Frame(node: Program.finish, count: 0, parent: 0, depth: 0, need: 0)]
        frameNumbers = [:]
        readings = []
        stateNumbers = [:]
        rows = []
        needs = []
        accepts = []
        _ = close()
    }

    // MARK: Steps

    private mutating func step(_ before: [Reading], _ byte: UInt8, markedOnly: Bool) -> Int32 {
        for reading in before {
            let node = program.nodes[Int(reading.node)]
            guard node.kind == .bytes, program.sets[Int(node.first)].contains(byte),
                node.isMarked || !markedOnly
            else { continue }
            enter(node.second, frame: reading.frame)
        }
        return close()
    }

    /// Follows all steps that take no byte, down to nodes that wait for one.
    private mutating func enter(_ node: Int32, frame: Int32) {
        pending.append(Reading(node: node, frame: frame))
        while let reading = pending.popLast() {
            let node = program.nodes[Int(reading.node)]
            switch node.kind {
            case .bytes:
                if costs.bytes[Int(reading.node)] + frames[Int(reading.frame)].need < Costs.never,
                    frames[Int(reading.frame)].depth + costs.frames[Int(reading.node)]
                        <= Limits.frameDepth
                {
                    found.append(reading)
                }
            case .split:
                guard visited.insert(reading).inserted else { continue }
                for target in program.targets[Int(node.first)..<Int(node.first + node.second)] {
                    pending.append(Reading(node: target, frame: reading.frame))
                }
            case .call:
                guard visited.insert(reading).inserted else { continue }
                push(node.second, 0, on: reading.frame, and: node.first)
            case .loop:
                guard visited.insert(reading).inserted else { continue }
                enterLoop(reading.node, count: 0, frame: reading.frame)
            case .finish:
                guard visited.insert(reading).inserted else { continue }
                if reading.frame == 0 {
                    found.append(reading)
                } else {
                    let frame = frames[Int(reading.frame)]
                    if program.nodes[Int(frame.node)].kind == .loop {
                        enterLoop(frame.node, count: frame.count, frame: frame.parent)
                    } else {
                        pending.append(Reading(node: frame.node, frame: frame.parent))
                    }
                }
            }
        }
    }

    /// After `count` rounds: one more, or on.
    private mutating func enterLoop(_ node: Int32, count: Int32, frame: Int32) {
        let loop = program.loops[Int(program.nodes[Int(node)].first)]
        if count >= loop.least { pending.append(Reading(node: loop.next, frame: frame)) }
        if loop.most < 0 || count < loop.most {
            // Without an upper limit, counting ends where the lower one is reached.
            let begun = loop.most < 0 ? min(count + 1, max(loop.least, 1)) : count + 1
            push(node, begun, on: frame, and: loop.body)
        }
    }

    private mutating func push(_ node: Int32, _ count: Int32, on parent: Int32, and entry: Int32) {
        guard frames[Int(parent)].depth < Limits.frameDepth else { return }
        pending.append(Reading(node: entry, frame: frame(node, count, on: parent)))
    }

    private mutating func frame(_ node: Int32, _ count: Int32, on parent: Int32) -> Int32 {
        let key = FrameKey(node: node, count: count, parent: parent)
        if let number = frameNumbers[key] { return number }
        var need = costs.bytes[Int(node)]
        if program.nodes[Int(node)].kind == .loop {
            let loop = program.loops[Int(program.nodes[Int(node)].first)]
            need = costs.atLoop(loop, count: count).bytes
        }
        let below = frames[Int(parent)]
        frames.append(
            Frame(
                node: node, count: count, parent: parent, depth: below.depth + 1,
                need: min(need + below.need, Costs.never)))
        frameNumbers[key] = Int32(frames.count - 1)
        return Int32(frames.count - 1)
    }

    private func need(of reading: Reading) -> Int {
        min(costs.bytes[Int(reading.node)] + frames[Int(reading.frame)].need, Costs.never)
    }

    /// The state of the readings found.
    private mutating func close() -> Int32 {
        defer {
            found.removeAll(keepingCapacity: true)
            visited.removeAll(keepingCapacity: true)
        }
        var members = found.count > 1 ? Array(Set(found)) : found
        if members.count > Limits.readings {
            members.sort {
                (need(of: $0), $0.node, $0.frame) < (need(of: $1), $1.node, $1.frame)
            }
            members.removeLast(members.count - Limits.readings)
        }
        members.sort { ($0.node, $0.frame) < ($1.node, $1.frame) }
        if let number = stateNumbers[members] { return number }
        let number = Int32(readings.count)
        stateNumbers[members] = number
        readings.append(members)
        needs.append(members.map { need(of: $0) }.min() ?? Costs.never)
        accepts.append(members.contains { $0.node == Program.finish })
        // What comes after the dead state is dead.
        rows += Array(repeating: number == 0 ? 0 : -1, count: classCount)
        return number
    }

    // MARK: The end

    /// A shortest text from the state to the end, nil where it has more than `limit` bytes.
    func ending(from state: Int32, over spellable: ByteSet, limit: Int) -> [UInt8]? {
        guard needs[Int(state)] <= limit,
            let first = readings[Int(state)].min(by: { need(of: $0) < need(of: $1) })
        else { return nil }
        var text: [UInt8] = []
        var node = first.node
        // The stack from here on: frames of the machine, under those of this way.
        var under = first.frame
        var own: [(node: Int32, count: Int32)] = []
        while text.count <= limit {
            let it = program.nodes[Int(node)]
            switch it.kind {
            case .bytes:
                let set = program.sets[Int(it.first)].intersection(spellable)
                text.append(StateMachine.plainest(of: set))
                node = it.second
            case .split:
                node = costs.best[Int(node)]
            case .call:
                own.append((it.second, 0))
                node = it.first
            case .loop:
                node = continueLoop(node, count: 0, own: &own)
            case .finish:
                var frame: (node: Int32, count: Int32)
                if let last = own.popLast() {
                    frame = last
                } else if under != 0 {
                    frame = (frames[Int(under)].node, frames[Int(under)].count)
                    under = frames[Int(under)].parent
                } else {
                    return text
                }
                node =
                    program.nodes[Int(frame.node)].kind == .loop
                    ? continueLoop(frame.node, count: frame.count, own: &own) : frame.node
            }
        }
        return nil
    }

    private func continueLoop(
        _ node: Int32, count: Int32, own: inout [(node: Int32, count: Int32)]
    ) -> Int32 {
        let loop = program.loops[Int(program.nodes[Int(node)].first)]
        guard count < loop.least else { return loop.next }
        own.append((node, count + 1))
        return loop.body
    }

    /// A letter or digit where the set has one.
    private static func plainest(of set: ByteSet) -> UInt8 {
        for byte in [UInt8(ascii: "a"), UInt8(ascii: "0"), UInt8(ascii: "1")]
        where set.contains(byte) {
            return byte
        }
        return (0...255).first { set.contains($0) } ?? 0
    }
}
