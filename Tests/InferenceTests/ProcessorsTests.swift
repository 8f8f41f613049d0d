import Foundation
import Testing

@testable import Inference

@Suite struct ProcessorsTests {
    /// A directory like /sys/devices/system that holds `files`, removed at the end.
    private static func with<T>(_ files: [String: String], _ body: (String) throws -> T) throws -> T
    {
        let root = FileManager.default.temporaryDirectory.appending(path: "cpus-\(UUID())")
        defer { try? FileManager.default.removeItem(at: root) }
        for (path, text) in files {
            let file = root.appending(path: path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data((text + "\n").utf8).write(to: file)
        }
        return try body(root.path)
    }

    /// An RK3588: four small cores, then four big ones.
    @Test func bigCoresComeFirstAndAloneCount() throws {
        var files: [String: String] = [:]
        for cpu in 0..<8 {
            files["cpu/cpu\(cpu)/cpu_capacity"] = cpu < 4 ? "414" : "1024"
            files["cpu/cpu\(cpu)/topology/thread_siblings_list"] = "\(cpu)"
        }
        try ProcessorsTests.with(files) { root in
            let all = Processors(allowed: Array(0..<8), system: root)
            #expect(all.ordered == [4, 5, 6, 7, 0, 1, 2, 3])
            #expect(all.recommended == 4)
            let small = Processors(allowed: [1, 3], system: root)
            #expect(small == Processors(allowed: [1, 3], system: "/nowhere"))
            #expect(small.recommended == 2)
        }
    }

    /// Two threads per core: 0 and 2 are one core, 1 and 3 the other.
    @Test func aCoreCountsOnce() throws {
        var files: [String: String] = [:]
        for cpu in 0..<4 {
            files["cpu/cpu\(cpu)/topology/thread_siblings_list"] = "\(cpu % 2),\(cpu % 2 + 2)"
            // Equal cores differ a little in clock rate.
            files["cpu/cpu\(cpu)/cpufreq/cpuinfo_max_freq"] = cpu % 2 == 0 ? "5000000" : "5100000"
        }
        try ProcessorsTests.with(files) { root in
            let all = Processors(allowed: [0, 1, 2, 3], system: root)
            #expect(all.ordered == [1, 0, 3, 2])
            #expect(all.recommended == 2)
            // A thread whose sibling is taken away stands for its core.
            #expect(Processors(allowed: [2, 3], system: root).recommended == 2)
            #expect(Processors(allowed: [1, 3], system: root).recommended == 1)
        }
    }

    @Test func oneNodeComesBeforeTheOther() throws {
        let files = ["node/node0/cpulist": "0-1,6", "node/node1/cpulist": "2-5"]
        try ProcessorsTests.with(files) { root in
            let all = Processors(allowed: Array(0..<7), system: root)
            #expect(all.ordered == [2, 3, 4, 5, 0, 1, 6])
            #expect(all.recommended == 4)
            // Of two nodes with as many, the first.
            #expect(Processors(allowed: [0, 1, 2, 3], system: root).ordered == [0, 1, 2, 3])
        }
    }

    @Test func withoutAnyFactsAllAreEqual() {
        #expect(Processors(allowed: [5, 9], system: "/nowhere").ordered == [5, 9])
        #expect(Processors(allowed: [5, 9], system: "/nowhere").recommended == 2)
        #expect(Processors(allowed: [], system: "/nowhere").ordered == [0])
    }

    @Test func listsAreReadWithoutTrust() {
        #expect(Processors.list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11])
        #expect(Processors.list("") == [])
        #expect(Processors.list("x,3-1,-,7-,0-99999999,2") == [7, 2])
    }

    @Test func thisMachineHasSome() {
        let here = Processors.ofThisProcess()
        #expect(!here.ordered.isEmpty)
        #expect((1...here.ordered.count).contains(here.recommended))
    }
}
