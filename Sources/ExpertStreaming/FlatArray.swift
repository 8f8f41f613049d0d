/// Fixed-size storage of plain values, allocated once and freed with its owner.
///
/// Every index is checked: the hot path touches a handful of elements per expert, and a check costs
/// about a nanosecond. Keeps pointers out of the code that does the bookkeeping.
@safe
struct FlatArray<Element: BitwiseCopyable>: ~Copyable {
    private let base: UnsafeMutablePointer<Element>
    let count: Int

    init(repeating value: Element, count: Int) {
        self.count = count
        unsafe base = .allocate(capacity: max(count, 1))
        unsafe base.initialize(repeating: value, count: count)
    }

    deinit {
        unsafe base.deallocate()
    }

    subscript(index: Int) -> Element {
        get {
            precondition(index >= 0 && index < count, "index outside a flat array")
            return unsafe base[index]
        }
        _modify {
            precondition(index >= 0 && index < count, "index outside a flat array")
            yield unsafe &base[index]
        }
    }

    /// The elements' address, for calls into C; valid as long as the array lives.
    var address: UnsafeMutablePointer<Element> { unsafe base }
}
