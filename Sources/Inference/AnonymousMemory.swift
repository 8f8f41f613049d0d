internal import Glibc

/// Large allocations straight from the kernel: zeroed, page-aligned, given back when freed.
enum AnonymousMemory {
    /// `byteCount` bytes, at least one page. Running out ends the process, as for any Swift
    /// allocation: the memory plan has made sure that the budget holds it.
    static func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let memory = unsafe mmap(
            nil, max(1, byteCount), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory = unsafe memory, unsafe memory != MAP_FAILED else {
            fatalError("the kernel refused \(byteCount) bytes of memory: errno \(errno)")
        }
        // Weights are swept from end to end: fewer, larger translations help where the kernel has
        // them. Small areas stay on small pages, so that they take no more than the plan says.
        if byteCount >= 64 << 20 { unsafe madvise(memory, byteCount, MADV_HUGEPAGE) }
        return unsafe memory
    }

    static func free(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        unsafe munmap(memory, max(1, byteCount))
    }
}
