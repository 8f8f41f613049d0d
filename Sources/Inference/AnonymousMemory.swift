internal import CHost

/// Large allocations straight from the kernel: zeroed, page-aligned, given back when freed.
enum AnonymousMemory {
    /// `byteCount` bytes, at least one page. Running out ends the process, as for any Swift
    /// allocation: the memory plan has made sure that the budget holds it.
    static func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer {
        var error: Int32 = 0
        // Weights are swept from end to end: fewer, larger translations help where the kernel has
        // them. Small areas stay on small pages, so that they take no more than the plan says.
        let huge: Int32 = byteCount >= 64 << 20 ? 1 : 0
        guard let memory = unsafe host_map_memory(max(1, byteCount), huge, &error) else {
            fatalError("the kernel refused \(byteCount) bytes of memory: errno \(error)")
        }
        return unsafe memory
    }

    static func free(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        unsafe host_unmap_memory(memory, max(1, byteCount))
    }
}
