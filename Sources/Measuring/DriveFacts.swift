/// What a file lies on.
public struct DriveFacts: Sendable, Equatable, Encodable {
    public enum Kind: String, Sendable, Encodable {
        case nvme = "NVMe"
        case card = "SD card"
        case eMMC
        case spinning = "spinning disk"
        case solidState = "SATA or USB SSD"
        case virtual = "virtual disk"
        case network
        case memory
        case other
    }

    /// A PCI Express link: the transfers of a lane, and the lanes.
    public struct Link: Sendable, Equatable, Encodable {
        /// 10^9 transfers per second of one lane.
        public var gigatransfers: Double
        public var lanes: Int

        /// What the lanes carry, without the packets' own bytes: 8b/10b below 8 GT/s, then
        /// 128b/130b.
        public var bytesPerSecond: Double {
            gigatransfers * 1e9 / 8 * (gigatransfers < 8 ? 0.8 : 128 / 130) * Double(lanes)
        }
    }

    public var fileSystem: String
    /// Where the file system is mounted.
    public var mountPoint: String
    /// The block device's name: "nvme0n1p2"; nil for none.
    public var device: String?
    public var kind: Kind
    public var model: String?
    /// The link as it runs, of an NVMe drive that tells.
    public var link: Link?
    /// The most that the drive could do.
    public var driveLink: Link?

    /// - Parameter path: An absolute path without symbolic links.
    /// - Returns: nil where no file system is known to hold it.
    public init?(path: String) { self.init(path: path, files: SystemFiles()) }

    init?(path: String, files: SystemFiles) {
        guard let mount = DriveFacts.mount(of: path, in: files.text("/proc/self/mountinfo") ?? "")
        else { return nil }
        fileSystem = mount.fileSystem
        mountPoint = mount.point
        // A partition's own folder lies in that of its disk.
        var folder = "/sys/dev/block/\(mount.device)"
        if files.text("\(folder)/uevent") == nil, mount.source.hasPrefix("/dev/") {
            // Btrfs has a device number of its own.
            folder = "/sys/class/block/\(mount.source.dropFirst(5))"
        }
        device = files.value("DEVNAME", in: "\(folder)/uevent")
        let disk = files.text("\(folder)/partition") == nil ? folder : "\(folder)/.."
        let diskName = files.value("DEVNAME", in: "\(disk)/uevent") ?? ""
        model = files.line("\(disk)/device/model")
        kind = DriveFacts.kind(mount.fileSystem, disk: disk, name: diskName, files)
        guard kind == .nvme else { return }
        // The namespace's device is the controller, whose device is on the bus. Where the kernel
        // joins the paths of a drive it is found by its number instead.
        let number = diskName.dropFirst(4).prefix { $0.isNumber }
        for controller in ["\(disk)/device/device", "/sys/class/nvme/nvme\(number)/device"] {
            link = DriveFacts.link("\(controller)/current_link", files)
            driveLink = DriveFacts.link("\(controller)/max_link", files)
            if link != nil { return }
        }
    }

    private static func link(_ name: String, _ files: SystemFiles) -> Link? {
        // "8.0 GT/s PCIe"
        guard let speed = files.line("\(name)_speed")?.split(separator: " ").first,
            let gigatransfers = Double(speed), gigatransfers > 0, gigatransfers < 1000,
            let lanes = files.number("\(name)_width"), (1...64).contains(lanes)
        else { return nil }
        return Link(gigatransfers: gigatransfers, lanes: lanes)
    }

    private static func kind(
        _ fileSystem: String, disk: String, name: String, _ files: SystemFiles
    ) -> Kind {
        if ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs"].contains(fileSystem) {
            return .network
        }
        if ["tmpfs", "ramfs"].contains(fileSystem) { return .memory }
        if name.hasPrefix("nvme") { return .nvme }
        if name.hasPrefix("mmcblk") {
            return files.line("\(disk)/device/type") == "MMC" ? .eMMC : .card
        }
        if name.hasPrefix("vd") || name.hasPrefix("xvd") { return .virtual }
        guard name.hasPrefix("sd") || name.hasPrefix("hd") else { return .other }
        return files.number("\(disk)/queue/rotational") == 1 ? .spinning : .solidState
    }

    private struct Mount {
        var device: String
        var point: String
        var fileSystem: String
        var source: String
    }

    /// The mount that a path lies in: the one with the longest mount point, of several the last.
    private static func mount(of path: String, in mounts: String) -> Mount? {
        var best: Mount?
        for line in mounts.split(separator: "\n") {
            // id parent major:minor root point options [fields] - type source super-options
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 3 else {
                continue
            }
            let point = unescaped(fields[4])
            guard point == "/" || path == point || path.hasPrefix(point + "/"),
                point.utf8.count >= best?.point.utf8.count ?? 0
            else { continue }
            best = Mount(
                device: String(fields[2]), point: point, fileSystem: String(fields[dash + 1]),
                source: unescaped(fields[dash + 2]))
        }
        return best
    }

    /// Undoes mountinfo's octal escapes: "\040" is a space.
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let first = rest.popFirst() {
            let digits = rest.prefix(3)
            if first == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(first)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
