extension Finding {
    /// File systems that other programs implement, or that copy on every read.
    private static let slowFileSystems = ["fuse", "ntfs", "exfat", "vfat", "ecryptfs"]

    /// What is to be said of what a model lies on.
    ///
    /// - Parameter machine: The board's name, for remedies that differ.
    public static func about(_ drive: DriveFacts, machine: String?) -> [Finding] {
        var findings: [Finding] = []
        let place = "\(drive.mountPoint) (\(drive.kind.rawValue))"
        switch drive.kind {
        case .card, .eMMC, .spinning:
            findings.append(
                Finding(
                    .costly, "the model lies on \(place)",
                    cost: "a tenth to a third of an NVMe drive's reads, and of its tokens",
                    remedy: "move it to an NVMe drive: mv MODEL /mnt/nvme/"))
        case .network:
            findings.append(
                Finding(
                    .costly, "the model lies on \(place), \(drive.fileSystem)",
                    cost: "every miss goes over the network",
                    remedy: "copy it to a drive of this machine"))
        case .memory:
            findings.append(
                Finding(
                    .costly, "the model lies in memory, on \(place)",
                    cost: "it takes the memory that caches its experts",
                    remedy: "copy it to a drive"))
        case .nvme, .solidState, .virtual, .other: break
        }
        if drive.fileSystem == "btrfs" || drive.fileSystem == "zfs" {
            findings.append(
                Finding(
                    .costly, "\(drive.mountPoint) is \(drive.fileSystem)",
                    cost: "checksums and compression make direct reads buffered ones",
                    remedy: "put models on ext4 or XFS"
                        + (drive.fileSystem == "btrfs"
                            ? ", or in a folder made with: chattr +C FOLDER, before copying" : "")))
        }
        if slowFileSystems.contains(where: { drive.fileSystem.hasPrefix($0) }) {
            findings.append(
                Finding(
                    .costly, "\(drive.mountPoint) is \(drive.fileSystem)",
                    cost: "reads are copied once more, and few go side by side",
                    remedy: "put models on ext4 or XFS"))
        }
        if let link = drive.link, let most = drive.driveLink {
            findings += about(link: link, of: most, machine: machine)
        }
        return findings
    }

    private static func about(
        link: DriveFacts.Link, of most: DriveFacts.Link, machine: String?
    ) -> [Finding] {
        func text(_ link: DriveFacts.Link) -> String {
            let generation = [2.5: 1, 5: 2, 8: 3, 16: 4, 32: 5, 64: 6][link.gigatransfers]
            return generation.map { "PCIe \($0) x\(link.lanes)" }
                ?? "PCIe \(link.gigatransfers) GT/s x\(link.lanes)"
        }
        func rate(_ link: DriveFacts.Link) -> String {
            let hundredths = Int((link.bytesPerSecond / 1e7).rounded())
            return "\(hundredths / 100).\(hundredths % 100 / 10) GB/s"
        }
        let cost = "at most \(rate(link)) of the \(rate(most)) that the drive could give"
        let isPi = machine?.hasPrefix("Raspberry Pi 5") ?? false
        if isPi, link.gigatransfers < 8 {
            return [
                Finding(
                    .costly, "the drive's link is \(text(link))",
                    cost: "half of what the Pi's connector can do, \(rate(link))",
                    remedy: "add dtparam=pciex1_gen=3 to /boot/firmware/config.txt and restart")
            ]
        }
        // A Pi has one lane, whatever the drive has.
        if link.gigatransfers < most.gigatransfers || (link.lanes < most.lanes && !isPi) {
            return [
                Finding(
                    .note, "the drive's link is \(text(link)), and the drive can \(text(most))",
                    cost: cost,
                    remedy: "another slot, or the slot's speed in the firmware's settings")
            ]
        }
        return []
    }
}
