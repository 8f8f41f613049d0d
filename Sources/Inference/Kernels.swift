internal import CKernels

/// The table of kernels in use, with its dot products as a flat array. Copying it is free.
@unsafe struct Kernels {
    let table: UnsafePointer<sluice_kernels>
    let gemm: UnsafePointer<sluice_gemm>

    init(_ table: UnsafePointer<sluice_kernels>) {
        unsafe self.table = table
        // The C array imports as a tuple; its address is the same.
        let offset = unsafe MemoryLayout<sluice_kernels>.offset(of: \.gemm)!
        unsafe gemm = (UnsafeRawPointer(table) + offset).assumingMemoryBound(to: sluice_gemm.self)
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
