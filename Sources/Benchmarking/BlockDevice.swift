import CHost
import Glibc

/// The whole disk that a file lies on: what a control group throttles, and what reads ahead.
public struct BlockDevice: Sendable, Equatable {
    /// Major and minor number: "259:0".
    public var number: String
    /// "nvme0n1", "vda", "dm-0".
    public var name: String
    /// The setting, in KiB, of how far the kernel reads ahead of buffered reads.
    public var readAheadPath: String

    /// Nil for a file that is not there, or that lies on no block device (tmpfs, overlay, network).
    public init?(holding path: String) {
        var major: UInt32 = 0
        var minor: UInt32 = 0
        guard unsafe host_device_of_file(path, &major, &minor) == 0 else { return nil }
        self.init(number: "\(major):\(minor)", system: "/sys")
    }

    /// - Parameter system: /sys, or what stands for it in a test.
    init?(number: String, system: String) {
        guard let place = unsafe realpath("\(system)/dev/block/\(number)", nil) else { return nil }
        defer { unsafe free(place) }
        var folder = unsafe String(cString: place)
        // A partition lies in the folder of its disk.
        if SystemFile.exists("\(folder)/partition") {
            folder = String(folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)])
        }
        guard let whole = SystemFile.line("\(folder)/dev"), !whole.isEmpty else { return nil }
        self.number = whole
        name = String(folder.split(separator: "/").last ?? "")
        readAheadPath = "\(folder)/queue/read_ahead_kb"
    }
}
