import CHost
import Glibc

/// What a measured process may use of the machine.
public struct Limits: Sendable, Equatable {
    /// All memory, page cache included; nil for no limit. There is no swap.
    public var memoryBytes: Int?
    /// Bytes read per second; nil for no limit.
    public var diskBytesPerSecond: Double?
    /// A file on the disk that is limited.
    public var diskPath: String

    public init(
        memoryBytes: Int? = nil, diskBytesPerSecond: Double? = nil, diskPath: String
    ) {
        self.memoryBytes = memoryBytes
        self.diskBytesPerSecond = diskBytesPerSecond
        self.diskPath = diskPath
    }
}

/// Whether this process may limit others.
public enum Confinement {
    /// What keeps limits from being set, and the remedy, in one line; nil if they can be.
    ///
    /// Groups are made and removed again, so that a limit which the kernel refuses is known before a
    /// sweep begins.
    ///
    /// - Parameter guardian: sees that they are removed also if this process is killed meanwhile.
    ///   Without one, the next harness would; and version 2 is tried only as far as nothing needs to
    ///   be changed for it.
    public static func obstacle(_ limits: Limits, guardian: Guardian? = nil) -> String? {
        do throws(BenchmarkingError) {
            guard let guardian else { return obstacle(limits, places: .ofThisMachine()) }
            try guardian.remove(try guardian.makeGroups(limits))
            return nil
        } catch { return error.description }
    }

    static func obstacle(_ limits: Limits, places: ControlGroupPlaces) -> String? {
        do throws(BenchmarkingError) {
            for plan in try ControlGroup.plans(limits, places: places)
            where plan.controllersToEnable.isEmpty {
                let group = try ControlGroup(making: plan, folders: places.folders)
                try group.remove()
            }
            return nil
        } catch { return error.description }
    }
}
