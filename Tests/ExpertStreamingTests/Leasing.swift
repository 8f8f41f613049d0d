import Testing

@testable import ExpertStreaming

extension ExpertStreamer {

    mutating func acquire(layer: Int, _ experts: [Int32]) {
        // One more element, so that an empty list has an address too.
        unsafe (experts + [-1]).withUnsafeBufferPointer {
            unsafe acquire(layer: layer, experts: $0.baseAddress!, count: experts.count)
        }
    }

    mutating func acquire(layer: Int, _ experts: [Int32], planes: [UInt8]) {
        unsafe (experts + [-1]).withUnsafeBufferPointer { experts in
            unsafe (planes + [0]).withUnsafeBufferPointer { planes in
                unsafe acquire(
                    layer: layer, experts: experts.baseAddress!, planes: planes.baseAddress!,
                    count: planes.count - 1)
            }
        }
    }

    /// Acquires experts, compares every part that comes with the file, and releases them.
    ///
    /// - Returns: the order in which they came, and what was wrong (nil if nothing).
    mutating func fetch(
        layer: Int, _ experts: [Int32], planes: [UInt8]? = nil, from file: TemporaryFile
    ) -> (order: [Int], problem: String?) {
        let planes =
            planes ?? [UInt8](repeating: UInt8(layout.planesPerExpert), count: experts.count)
        acquire(layer: layer, experts, planes: planes)
        var order: [Int] = []
        var problem: String?
        while outstanding > 0 {
            let index = next(wait: true)
            if index < 0 {
                problem = problem ?? failure?.description ?? "next gave \(index)"
                break
            }
            order.append(index)
            let name = "layer \(layer), expert \(experts[index])"
            if self.planes(index: index) < Int(planes[index]) { problem = "\(name) is too narrow" }
            if !holds(index, layer: layer, expert: Int(experts[index]), file) {
                problem = "wrong bytes: \(name)"
            }
        }
        release()
        return (order, problem)
    }

    /// Whether all usable planes of a given-out expert are those of the file.
    private func holds(_ index: Int, layer: Int, expert: Int, _ file: TemporaryFile) -> Bool {
        let width = planes(index: index)
        for plane in layout.nested ? 0..<width : width - 1..<width {
            for part in 0..<layout.partsPerExpert
            where layout.byteCount(layer: layer, expert: expert, plane: plane) > 0 {
                let same = unsafe file.matches(
                    address(index: index, plane: plane, part: part), layout, layer: layer,
                    expert: expert, plane: plane, part: part)
                if !same { return false }
            }
        }
        return true
    }
}

/// `count` different experts below `limit`.
func distinct(_ count: Int, below limit: Int, using generator: inout SplitMix) -> [Int32] {
    Array((0..<Int32(limit)).shuffled(using: &generator).prefix(count))
}
