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
    /// Where groups can be made at once they are, and removed again, so that a limit which the
    /// kernel refuses is known before a sweep begins.
    public static func obstacle(_ limits: Limits) -> String? {
        obstacle(limits, places: .ofThisMachine())
    }

    static func obstacle(_ limits: Limits, places: ControlGroupPlaces) -> String? {
        do throws(BenchmarkingError) {
            for plan in try ControlGroup.plans(limits, places: places) {
                if plan.place.version == 2,
                    plan.place.isOwn || !plan.controllersToEnable.isEmpty
                {
                    continue
                }
                let group = try ControlGroup(making: plan, folders: places.folders)
                try group.remove()
            }
            return nil
        } catch {
            return error.description
        }
    }
}
