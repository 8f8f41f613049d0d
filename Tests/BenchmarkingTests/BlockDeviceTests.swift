import Glibc
import Testing

@testable import Benchmarking

@Suite struct BlockDeviceTests {
    @Test func aPartitionIsLimitedByItsWholeDisk() throws {
        let system = Folder()
        for name in ["dev", "dev/block", "block", "block/nvme0n1", "block/nvme0n1/nvme0n1p2"] {
            system.make(name)
        }
        system.write("block/nvme0n1/dev", "259:0\n")
        system.write("block/nvme0n1/nvme0n1p2/dev", "259:2\n")
        system.write("block/nvme0n1/nvme0n1p2/partition", "2\n")
        let disk = "\(system.path)/block/nvme0n1"
        unsafe symlink(disk, "\(system.path)/dev/block/259:0")
        unsafe symlink("\(disk)/nvme0n1p2", "\(system.path)/dev/block/259:2")
        let part = try #require(BlockDevice(number: "259:2", system: system.path))
        #expect(part.number == "259:0" && part.name == "nvme0n1")
        #expect(part.readAheadPath == "\(disk)/queue/read_ahead_kb")
        #expect(BlockDevice(number: "259:0", system: system.path) == part)
        #expect(BlockDevice(number: "0:31", system: system.path) == nil)
    }

    @Test func aFileOnNoDiskHasNone() {
        #expect(BlockDevice(holding: "/proc/self/status") == nil)
        #expect(BlockDevice(holding: "/nowhere/at/all") == nil)
    }
}
