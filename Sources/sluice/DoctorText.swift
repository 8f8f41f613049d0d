import ExpertStreaming
import Inference
import Measuring

/// A diagnosis for people.
enum DoctorText {
    static func of(_ diagnosis: Diagnosis, _ model: ModelDescription?) -> String {
        var text = TextTable.twoColumns(machine(diagnosis))
        text += "\n" + TextTable.aligned(disk(diagnosis))
        if let prediction = diagnosis.prediction {
            text += "\n" + speed(prediction, name: model?.name ?? "the model")
        }
        text += "\n"
        for finding in diagnosis.findings {
            text += """
                \(finding.weight.rawValue): \(finding.problem)
                    cost:   \(finding.cost)
                    remedy: \(finding.remedy)

                """
        }
        if diagnosis.findings.isEmpty { text += "nothing to fix\n" }
        return text
    }

    private static func machine(_ diagnosis: Diagnosis) -> [(String, String)] {
        let host = diagnosis.host
        let size = { (bytes: Int) in ByteSize(bytes: bytes).description }
        var rows: [(String, String)] = []
        if let machine = host.machine { rows.append(("machine", machine)) }
        rows.append(
            (
                "processors",
                "\(host.processors)" + (host.processor.map { " of \($0)" } ?? "")
                    + ", \(host.computeThreads) for computing"
            ))
        rows.append(("kernels for", host.instructionSets.joined(separator: ", ")))
        rows.append(("Linux", "\(host.kernel), pages of \(size(host.pageBytes))"))
        if !host.governors.isEmpty {
            rows.append(("clock governor", host.governors.joined(separator: ", ")))
        }
        if let temperature = host.temperatureCelsius {
            rows.append(("temperature", "\(fixed(temperature, 0)) °C"))
        }
        rows.append(
            (
                "memory",
                "\(size(host.memoryAvailableBytes)) of \(size(host.memoryTotalBytes)) available"
            ))
        rows.append(("may be used", "\(size(host.memoryLimitBytes)): \(host.memoryLimitReason)"))
        rows.append(
            ("may be locked", host.memoryLockLimitBytes.map { size($0) } ?? "without limit"))
        rows.append(("huge pages", host.hugePages ?? "none"))
        rows.append(
            (
                "memory reads",
                "\(rate(diagnosis.memoryBytesPerSecondOneThread)) by one thread, "
                    + "\(rate(diagnosis.memoryBytesPerSecond)) by all that compute"
            ))
        rows.append(("file", diagnosis.file))
        if let drive = diagnosis.drive {
            rows.append(
                (
                    "disk",
                    [drive.kind.rawValue, drive.model, drive.device].compactMap { $0 }
                        .joined(separator: ", ") + ", \(drive.fileSystem) on \(drive.mountPoint)"
                ))
            if let link = drive.link {
                rows.append(
                    (
                        "link",
                        "\(fixed(link.gigatransfers, 1)) GT/s x\(link.lanes), at most "
                            + rate(link.bytesPerSecond)
                    ))
            }
        }
        if let mode = diagnosis.ioMode { rows.append(("read by", mode)) }
        return rows
    }

    private static func disk(_ diagnosis: Diagnosis) -> [[String]] {
        guard !diagnosis.reads.isEmpty else { return [] }
        return [["disk reads", "in flight", "rate", "median ms", "worst ms"]]
            + diagnosis.reads.map { reads in
                [
                    ByteSize(bytes: reads.pieceBytes).description,
                    "\(reads.depth)" + (reads.isAsExpertsAreRead ? ", as experts are read" : ""),
                    rate(reads.bytesPerSecond), fixed(reads.medianLatencySeconds * 1e3, 2),
                    fixed(reads.worstLatencySeconds * 1e3, 2),
                ]
            }
    }

    private static func speed(_ prediction: SpeedPrediction, name: String) -> String {
        let size = { (bytes: Int) in ByteSize(bytes: bytes).description }
        func speed(_ row: SpeedPrediction.Row) -> String { fixed(row.tokensPerSecond, 1) }
        let lines =
            [["hits", "read per token", "tok/s", "bound by"]]
            + prediction.rows.map { row in
                [
                    "\(fixed(row.hitRate * 100, 0)) %", size(row.missedBytesPerToken), speed(row),
                    row.bound.rawValue,
                ]
            }
        let (least, greatest) = (prediction.least, prediction.greatest)
        let expected =
            least == greatest
            ? "\(fixed(least.hitRate * 100, 0)) % hits: \(speed(least)) tok/s"
            : "\(fixed(least.hitRate * 100, 0)) to \(fixed(greatest.hitRate * 100, 0)) % hits on "
                + "published traces: \(speed(least)) to \(speed(greatest)) tok/s"
        return "\(name): a token touches \(size(prediction.residentBytesPerToken)) of weights and "
            + "\(size(prediction.activeSetBytes)) of experts; at most\n" + TextTable.aligned(lines)
            + "expert cache of \(fixed(prediction.cacheMultiple, 2))x a token's experts, "
            + "\(expected)\n"
    }

    private static func rate(_ bytesPerSecond: Double) -> String {
        "\(fixed(bytesPerSecond / 1e9, 2)) GB/s"
    }
}
