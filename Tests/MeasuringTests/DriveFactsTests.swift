import Testing

@testable import Measuring

@Suite struct DriveFactsTests {
    private static let mounts = """
        25 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
        26 25 259:1 / /mnt/my\\040disk rw shared:2 - ext4 /dev/nvme0n1p1 rw
        27 25 0:40 / /mnt/my\\040disk/net rw - nfs4 server:/export rw
        28 25 0:41 /@ /btr rw - btrfs /dev/sda1 rw
        29 25 0:42 / /run rw - tmpfs tmpfs rw
        broken line
        """

    /// A Raspberry Pi's: a card, and a drive of which one lane is connected.
    private static func board() throws -> FakeSystem {
        let bus = "/sys/devices/platform/pcie/0001:01:00.0"
        let disk = "\(bus)/nvme/nvme0/nvme0n1"
        let card = "/sys/devices/platform/mmc0/mmc0:aaaa/block/mmcblk0"
        let usb = "/sys/devices/platform/usb/block/sda"
        return try FakeSystem(
            [
                "/proc/self/mountinfo": mounts,
                "\(disk)/uevent": "MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk\n",
                "\(disk)/nvme0n1p1/uevent": "MAJOR=259\nMINOR=1\nDEVNAME=nvme0n1p1\n",
                "\(disk)/nvme0n1p1/partition": "1\n",
                "\(bus)/nvme/nvme0/model": "Fast Drive 500GB      \n",
                "\(bus)/current_link_speed": "5.0 GT/s PCIe\n",
                "\(bus)/current_link_width": "1\n",
                "\(bus)/max_link_speed": "16.0 GT/s PCIe\n",
                "\(bus)/max_link_width": "4\n",
                "\(card)/uevent": "DEVNAME=mmcblk0\n",
                "\(card)/mmcblk0p2/uevent": "DEVNAME=mmcblk0p2\n",
                "\(card)/mmcblk0p2/partition": "2\n",
                "/sys/devices/platform/mmc0/mmc0:aaaa/type": "SD\n",
                "\(usb)/uevent": "DEVNAME=sda\n", "\(usb)/queue/rotational": "1\n",
                "\(usb)/sda1/uevent": "DEVNAME=sda1\n", "\(usb)/sda1/partition": "1\n",
            ],
            links: [
                "/sys/dev/block/259:1": "\(disk)/nvme0n1p1",
                "\(disk)/device": "\(bus)/nvme/nvme0", "\(bus)/nvme/nvme0/device": bus,
                "/sys/dev/block/179:2": "\(card)/mmcblk0p2",
                "\(card)/device": "/sys/devices/platform/mmc0/mmc0:aaaa",
                "/sys/class/block/sda1": "\(usb)/sda1",
            ])
    }

    @Test func aDriveAndItsLinkAreFound() throws {
        let system = try Self.board()
        let drive = try #require(DriveFacts(path: "/mnt/my disk/m.gguf", files: system.files))
        #expect(drive.kind == .nvme && drive.fileSystem == "ext4")
        #expect(drive.mountPoint == "/mnt/my disk" && drive.device == "nvme0n1p1")
        #expect(drive.model == "Fast Drive 500GB")
        #expect(drive.link == DriveFacts.Link(gigatransfers: 5, lanes: 1))
        #expect(drive.driveLink == DriveFacts.Link(gigatransfers: 16, lanes: 4))
    }

    @Test(arguments: [
        ("/home/m.gguf", DriveFacts.Kind.card, "ext4"),
        ("/mnt/my disk/net/m.gguf", .network, "nfs4"), ("/btr/m.gguf", .spinning, "btrfs"),
        ("/run/m.gguf", .memory, "tmpfs"), ("/mnt/my disks/m.gguf", .card, "ext4"),
    ])
    func theMountWithTheLongestPathHolds(
        _ path: String, _ kind: DriveFacts.Kind, _ fileSystem: String
    ) throws {
        let system = try Self.board()
        let drive = try #require(DriveFacts(path: path, files: system.files))
        #expect(drive.kind == kind && drive.fileSystem == fileSystem)
    }

    @Test func withoutMountsNothingIsKnown() throws {
        #expect(DriveFacts(path: "/m.gguf", files: try FakeSystem([:]).files) == nil)
    }

    /// Of PCI Express 1 to 4: 250, 500, 985 and 1969 MB/s for each lane.
    @Test(arguments: [(2.5, 0.25), (5, 0.5), (8, 0.985), (16, 1.969)])
    func linksCarryWhatTheirCodesLeave(_ gigatransfers: Double, _ gigabytes: Double) {
        let link = DriveFacts.Link(gigatransfers: gigatransfers, lanes: 4)
        #expect(abs(link.bytesPerSecond / 4e9 - gigabytes) < 0.001)
    }

    private func problems(_ drive: DriveFacts, machine: String?) -> [String] {
        Finding.about(drive, machine: machine).map { "\($0.problem) -> \($0.remedy)" }
    }

    @Test func aPiIsToldOfItsSetting() throws {
        let system = try Self.board()
        var drive = try #require(DriveFacts(path: "/mnt/my disk/m.gguf", files: system.files))
        let told = problems(drive, machine: "Raspberry Pi 5 Model B Rev 1.0")
        #expect(told.count == 1 && told[0].contains("dtparam=pciex1_gen=3"))
        #expect(told[0].contains("PCIe 2 x1"))
        // At Gen 3 there is nothing more to be had from its one lane but the generation.
        drive.link = DriveFacts.Link(gigatransfers: 8, lanes: 1)
        drive.driveLink = DriveFacts.Link(gigatransfers: 8, lanes: 4)
        #expect(problems(drive, machine: "Raspberry Pi 5 Model B Rev 1.0") == [])
        let elsewhere = problems(drive, machine: "Some PC")
        #expect(elsewhere.count == 1 && elsewhere[0].contains("PCIe 3 x1"))
        #expect(elsewhere[0].contains("another slot"))
    }

    @Test func slowPlacesAreNamed() throws {
        let system = try Self.board()
        for (path, word) in [
            ("/home/m.gguf", "SD card"), ("/mnt/my disk/net/m.gguf", "network"),
            ("/run/m.gguf", "memory"), ("/btr/m.gguf", "btrfs"),
        ] {
            let drive = try #require(DriveFacts(path: path, files: system.files))
            #expect(problems(drive, machine: nil).contains { $0.contains(word) }, "\(path)")
        }
    }
}
