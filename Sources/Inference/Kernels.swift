internal import CKernels

/// The table of kernels in use, with its dot products as flat arrays. Copying it is free.
@unsafe struct Kernels {
    let table: UnsafePointer<sluice_kernels>
    let gemm: UnsafePointer<sluice_gemm>
    /// Nil for formats that are not cut into planes.
    let planar: UnsafePointer<sluice_planar_gemm?>
    /// By format of the key-value cache.
    let cache: UnsafePointer<sluice_cache_kernels>

    init(_ table: UnsafePointer<sluice_kernels>) {
        unsafe self.table = table
        // The C arrays import as tuples; their addresses are the same.
        let start = unsafe UnsafeRawPointer(table)
        unsafe gemm = (start + MemoryLayout<sluice_kernels>.offset(of: \.gemm)!)
            .assumingMemoryBound(to: sluice_gemm.self)
        unsafe planar = (start + MemoryLayout<sluice_kernels>.offset(of: \.planar)!)
            .assumingMemoryBound(to: sluice_planar_gemm?.self)
        unsafe cache = (start + MemoryLayout<sluice_kernels>.offset(of: \.cache)!)
            .assumingMemoryBound(to: sluice_cache_kernels.self)
    }
}

/// The instruction sets whose kernels this machine can run.
public enum InstructionSet {
    /// Names, best first; the last is always "scalar".
    public static var available: [String] {
        var count: UInt32 = 0
        guard let tables = unsafe sluice_kernels_available(&count) else { return [] }
        return (0..<Int(count)).map { unsafe String(cString: tables[$0]!.pointee.name) }
    }
}
