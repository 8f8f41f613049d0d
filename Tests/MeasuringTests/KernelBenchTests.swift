// Figures that follow from each other, whatever the machine's speed.

import CHost
import ModelFormats
import Quantization
import Testing

@testable import Measuring

@Suite struct KernelBenchTests {
    /// The first that this process may use.
    private static let processor: Int32 = {
        var first: Int32 = 0
        return unsafe host_allowed_cpus(&first, 1) > 0 ? first : 0
    }()

    @Test(arguments: MeasuredKernel.all)
    func everyKernelIsMeasuredInEveryPlace(_ kernel: MeasuredKernel) throws {
        let bench = try KernelBench(
            processors: [KernelBenchTests.processor], arenaBytes: 64 << 20)
        for place in MeasuredPlace.allCases where place != .experts || kernel.multipliesMatrices {
            let samples = try bench.samples(
                of: kernel, instructionSet: "", place: place, tokens: 1, rounds: 2,
                milliseconds: 0.2)
            #expect(samples.bytesPerSecond.count == 2 && samples.rowsPerSecond.count == 2)
            #expect(samples.readBytesPerSecond.count == (place == .cache ? 0 : 2))
            #expect((samples.bytesPerSecond + samples.readBytesPerSecond).allSatisfy { $0 > 0 })
        }
    }

    @Test func ratesAreOfTheSameWork() throws {
        let bench = try KernelBench(
            processors: [KernelBenchTests.processor], arenaBytes: 64 << 20)
        for place in MeasuredPlace.allCases {
            let samples = try bench.samples(
                of: .format(.q4_K), instructionSet: "", place: place, tokens: 8, rounds: 1,
                milliseconds: 0.2)
            // 4.5 bits for each weight, which meets eight tokens: multiplied, added.
            let ratio = samples.operationsPerSecond[0] / samples.bytesPerSecond[0]
            #expect(abs(ratio - 2 * 8 / (4.5 / 8)) < 1e-6)
        }
        let rows = try bench.samples(
            of: .format(.q4_K), instructionSet: "", place: .memory, tokens: 1, rounds: 1,
            milliseconds: 0.2)
        #expect(abs(rows.bytesPerSecond[0] / rows.rowsPerSecond[0] - 1152) < 1e-6)
    }

    @Test func whatCannotBeMeasuredIsRefused() throws {
        #expect(throws: MeasuringError.self) { try KernelBench(processors: []) }
        let cpu = KernelBenchTests.processor
        #expect(throws: MeasuringError.self) {
            try KernelBench(processors: [cpu], arenaBytes: 1000)
        }
        let bench = try KernelBench(processors: [cpu], arenaBytes: 2 << 20)
        #expect(throws: MeasuringError.self) {
            try bench.samples(
                of: .format(.q8_0), instructionSet: "mmx", place: .cache, tokens: 1, rounds: 1)
        }
        // Two experts of 4.7 million weights do not fit 2 MiB.
        #expect(throws: MeasuringError.self) {
            try bench.samples(
                of: .format(.q8_0), instructionSet: "", place: .experts, tokens: 1, rounds: 1)
        }
    }

    @Test func aPassIsDoneByTheThreadsAskedFor() throws {
        let cpu = KernelBenchTests.processor
        let threads = try MeasuringThreads(cpus: [cpu, cpu, cpu])
        let ran = UnsafeMutablePointer<Int>.allocate(capacity: 3)
        defer { unsafe ran.deallocate() }
        for count in [1, 3, 2, 1] {
            for worker in 0..<3 { unsafe ran[worker] = 0 }
            let seconds = threads.seconds(of: count) { unsafe ran[$0] += 1 }
            #expect(seconds > 0)
            let times = (0..<3).map { unsafe ran[$0] }
            #expect(times == (0..<3).map { $0 < count ? 1 : 0 })
        }
    }

    @Test func aReadMissesNoWord() {
        for count in [0, 1, 2, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 128, 500, 1024] {
            let words = (0..<count).map { UInt64($0 &* 2_654_435_761) << UInt64($0 % 30) }
            let sum = unsafe words.withUnsafeBytes { bytes in
                unsafe bytes.baseAddress.map { unsafe host_read_memory($0, bytes.count) } ?? 0
            }
            #expect(sum == words.reduce(0, &+), "\(count) words")
        }
    }
}
