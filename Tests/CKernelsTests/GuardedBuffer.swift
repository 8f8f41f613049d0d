import Glibc

/// Memory that ends exactly where an inaccessible page begins, so that reading or writing one byte
/// too far stops the test run with a segmentation fault.
@safe
final class GuardedBuffer {
    private let base: UnsafeMutableRawPointer
    private let length: Int
    private let guardBytes: Int

    /// Reserves room for requests of up to `capacity` bytes.
    init(capacity: Int) {
        guardBytes = Int(sysconf(Int32(_SC_PAGESIZE)))
        length = (capacity + guardBytes - 1) / guardBytes * guardBytes
        let mapped = unsafe mmap(
            nil, length + guardBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED,
            unsafe mprotect(mapped + length, guardBytes, PROT_NONE) == 0
        else { fatalError("no memory for a guarded buffer of \(capacity) bytes") }
        unsafe base = mapped
    }

    deinit {
        unsafe _ = munmap(base, length + guardBytes)
    }

    /// The last `count` elements before the guard page. Earlier requests share the same memory, and
    /// the buffer must outlive what it gives.
    func last<Element>(_ count: Int, of type: Element.Type) -> Region<Element> {
        let bytes = count * MemoryLayout<Element>.stride
        precondition(bytes <= length, "\(bytes) bytes asked of a guarded buffer of \(length)")
        return unsafe Region(
            start: (base + (length - bytes)).bindMemory(to: type, capacity: count), count: count)
    }
}

/// A run of elements in a `GuardedBuffer`.
@safe
struct Region<Element> {
    /// For the kernels; everything else goes through the checked subscript.
    let start: UnsafeMutablePointer<Element>
    let count: Int

    subscript(i: Int) -> Element {
        get {
            precondition(i >= 0 && i < count)
            return unsafe start[i]
        }
        nonmutating set {
            precondition(i >= 0 && i < count)
            unsafe start[i] = newValue
        }
    }

    func fill(with value: Element) {
        for i in 0..<count { self[i] = value }
    }

    func copy(from other: Region<Element>) {
        for i in 0..<other.count { self[i] = other[i] }
    }

    /// The elements from `offset` on.
    func dropFirst(_ offset: Int) -> Region<Element> {
        precondition(offset <= count)
        return unsafe Region(start: start + offset, count: count - offset)
    }
}
