import Testing

@testable import ExpertStreaming

extension ExpertStreamer {

    mutating func acquire(layer: Int, _ experts: [Int32]) {
        // One more element, so that an empty list has an address too.
        unsafe (experts + [-1]).withUnsafeBufferPointer {
            unsafe acquire(layer: layer, experts: $0.baseAddress!, count: experts.count)
        }
    }

    /// Acquires experts, compares every part that comes with the file, and releases them.
    ///
    /// - Returns: the order in which they came, and what was wrong (nil if nothing).
    mutating func fetch(
        layer: Int, _ experts: [Int32], from file: TemporaryFile
    ) -> (order: [Int], problem: String?) {
        acquire(layer: layer, experts)
        var order: [Int] = []
        var problem: String?
        while outstanding > 0 {
            let index = next(wait: true)
            if index < 0 {
                problem = problem ?? failure?.description ?? "next gave \(index)"
                break
            }
            order.append(index)
            for part in 0..<layout.partsPerExpert {
                let same = unsafe file.matches(
                    address(index: index, part: part), layout, layer: layer,
                    expert: Int(experts[index]), part: part)
                if !same {
                    problem = "wrong bytes: layer \(layer), expert \(experts[index]), part \(part)"
                }
            }
        }
        release()
        return (order, problem)
    }
}

/// `count` different experts below `limit`.
func distinct(_ count: Int, below limit: Int, using generator: inout SplitMix) -> [Int32] {
    Array((0..<Int32(limit)).shuffled(using: &generator).prefix(count))
}
