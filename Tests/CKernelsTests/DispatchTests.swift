import CKernels
import Testing

@Suite struct DispatchTests {
    @Test func tablesAreListedBestFirstAndEndInScalar() {
        #expect(Kernels.names.last == "scalar")
        let order = [
            "avx512", "avx2-vnni", "avx2", "neon-i8mm", "neon-dotprod", "neon", "scalar",
        ]
        let places = Kernels.names.compactMap { order.firstIndex(of: $0) }
        #expect(places.count == Kernels.names.count && places == places.sorted())
        #if arch(arm64)
            #expect(Kernels.names.contains("neon"), "NEON is part of the architecture")
        #endif
    }

    @Test func everyListedTableIsFoundByName() {
        for name in Kernels.names {
            let found = unsafe sluice_kernels_named(name)
            #expect(unsafe found != nil && String(cString: found!.pointee.name) == name)
        }
    }

    @Test func noNameMeansTheBestAndAnUnknownNameNone() {
        let best = unsafe sluice_kernels_named(nil)
        #expect(unsafe String(cString: best!.pointee.name) == Kernels.names[0])
        #expect(unsafe sluice_kernels_named("") == best)
        #expect(unsafe sluice_kernels_named("avx9000") == nil)
        #if arch(x86_64)
            #expect(unsafe sluice_kernels_named("neon") == nil)
        #else
            #expect(unsafe sluice_kernels_named("avx2") == nil)
        #endif
    }
}
