import ArgumentParser
import ExpertStreaming
import Glibc
import Inference
import ModelFormats
import Packing
import Quantization

struct PackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pack",
        abstract: "Makes a package of a model: one file made for streaming its experts.",
        discussion: """
            Interrupted, it goes on where it stopped when run again; FILE.partial and its journal hold what \
            is done. Experts stay bit for bit what they are, in whatever planes; formats that cannot be cut \
            into planes stay whole. With --calibrate the package gets a profile, made of that text.
            """)

    @OptionGroup var model: ModelArgument

    @Option(
        name: .shortAndLong, help: ArgumentHelp("The package to write.", valueName: "file.sluice"))
    var output: String

    @Option(
        help: ArgumentHelp(
            """
            Bits of the planes that experts are cut into, so that a prefix can be read alone: 2+2, \
            2+1+1, 4+4, or none; default: 2+2, and none with --low-record.
            """, valueName: "bits"))
    var planes: PlanesArgument?

    @Option(
        help: ArgumentHelp(
            "Put a coarser version beside each expert, in Q2_K, Q4_0 or Q8_0, for formats without planes.",
            valueName: "format"))
    var lowRecord: LowRecordArgument?

    @Flag(help: "Compress the weights that every token needs, where that saves 3 % or more.")
    var zstd = false

    @Option(help: "How hard --zstd tries, 1 to 19.")
    var zstdLevel = 9

    @Option(
        help: ArgumentHelp(
            """
            File with text to profile the package on, to measure what prefixes of its experts cost, and to choose \
            the settings of --miss fallback.
            """, valueName: "file"))
    var calibrate: String?

    @Option(
        help: ArgumentHelp("Most tokens of that text to take.", valueName: "count"))
    var calibrationTokens = 2048

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard calibrationTokens >= 2 else {
            throw ValidationError("--calibration-tokens \(calibrationTokens) calibrate nothing")
        }
        guard (1...19).contains(zstdLevel) else {
            throw ValidationError("--zstd-level \(zstdLevel) is not between 1 and 19")
        }
        guard lowRecord == nil || planes?.widths == nil else {
            throw ValidationError("--low-record and --planes exclude each other")
        }
    }

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model)
            try refuseSource(description)
            // A text that will not do is better refused before the packing than after.
            if calibrate != nil { try description.requireRouters() }
            let windows = try calibrate.map {
                try Calibration.windows($0, model: description, tokens: calibrationTokens)
            }
            var options = PackingOptions(packedBy: "sluice \(Versions.number)")
            options.planes =
                (planes ?? (lowRecord == nil ? PlanesArgument.standard : PlanesArgument.none))
                .widths
            options.lowRecord = lowRecord?.format
            options.compressionLevel = zstd ? zstdLevel : nil
            var hashing = ProgressBar("reading \(description.name)", showsTimeLeft: true)
            var packing = ProgressBar("packing \(description.name)", showsTimeLeft: true)
            let job = PackingJob(model: description, options: options)
            let report: PackingReport
            do {
                defer { packing.end() }
                report = try job.run(to: output) { phase, share in
                    switch phase {
                    case .hashing: hashing.show(share)
                    case .packing: packing.show(share)
                    }
                }
            }
            var facts = PackFacts(report, path: output, model: description)
            facts.calibration = try windows.map {
                try Calibration(model: ModelLocation.open(output), windows: $0).run()
            }
            Console.out(json ? try JSONOutput.text(facts) : facts.table)
        }
    }

    /// The package must not take the place of what it is made of.
    private func refuseSource(_ description: ModelDescription) throws {
        var target = stat()
        guard unsafe stat(output, &target) == 0 else { return }
        guard target.st_mode & S_IFMT == S_IFREG else {
            throw InputError(
                "\(output): not a regular file; name the package to write",
                code: Failure.cannotCreate)
        }
        for path in description.file.paths {
            var source = stat()
            guard unsafe stat(path, &source) == 0 else { continue }
            guard source.st_dev != target.st_dev || source.st_ino != target.st_ino else {
                throw InputError("\(output): is the model itself; give the package another name")
            }
        }
    }
}

/// Bits of planes on the command line.
struct PlanesArgument: ExpressibleByArgument {
    let widths: PlaneWidths?

    static let none = PlanesArgument(widths: nil)
    /// Half the bits of the usual formats: the first plane is worth having, and two reads an expert are
    /// few.
    static let standard = PlanesArgument(argument: "2+2")!

    init?(argument: String) {
        if argument == "none" {
            self = .none
            return
        }
        guard let widths = PlaneWidths(argument), widths.bits.count > 1 else { return nil }
        self.widths = widths
    }

    private init(widths: PlaneWidths?) { self.widths = widths }

    var defaultValueDescription: String { widths?.description ?? "none" }
}

/// A format on the command line.
struct LowRecordArgument: ExpressibleByArgument {
    let format: BlockFormat

    init?(argument: String) {
        guard let format = BlockEncoder.formats.first(where: { $0.name == argument }) else {
            return nil
        }
        self.format = format
    }
}

/// What packing did, in figures. Bytes, and shares of 1.
struct PackFacts: Encodable {
    struct Prefix: Encodable {
        var layer: Int?
        var format: String
        var lowFormat: String?
        var bits: Int
        var ofBits: Int
        var relativeRmsError: Double
    }

    struct Trial: Encodable {
        var format: String
        var saved: Double
    }

    var path: String
    var fileBytes: UInt64
    var sourceBytes: UInt64
    /// Tensors and experts that an interrupted run had left.
    var foundTensors: Int
    var foundExperts: Int
    var prefixes: [Prefix]
    var prefixesByLayer: [Prefix]
    var expertCompression: [Trial]
    var calibration: CalibrationFigures?

    init(_ report: PackingReport, path: String, model: ModelDescription) {
        self.path = path
        fileBytes = report.fileBytes
        sourceBytes = model.file.fileSizes.reduce(0, +)
        foundTensors = report.foundTensors
        foundExperts = report.foundExperts
        func prefix(_ row: PrefixQuality.Row, layer: Int?) -> Prefix {
            Prefix(
                layer: layer, format: row.format.name, lowFormat: row.lowFormat?.name,
                bits: row.bits, ofBits: row.fullBits,
                relativeRmsError: row.relativeRMS)
        }
        prefixes = report.quality.overall.map { prefix($0, layer: nil) }
        prefixesByLayer = report.quality.rows.map { prefix($0, layer: $0.layer) }
        expertCompression = report.compression.formats.map { format, sizes in
            Trial(
                format: format.name, saved: 1 - Double(sizes.compressed) / Double(sizes.bytes))
        }.sorted { $0.format < $1.format }
    }

    var table: String {
        let size = { (bytes: UInt64) in ByteSize(bytes: Int(clamping: bytes)).description }
        var rows = [
            ("package", path), ("size", "\(size(fileBytes)), made of \(size(sourceBytes))"),
        ]
        if foundTensors + foundExperts > 0 {
            rows.append(
                ("continued", "\(foundTensors) tensors and \(foundExperts) experts were there"))
        }
        rows += expertCompression.map {
            (
                "zstd",
                "would save \(fixed($0.saved * 100, 1)) % of \($0.format) experts; they are kept as they are"
            )
        }
        let calibrated = calibration.map(\.rows) ?? []
        guard !prefixes.isEmpty else { return TextTable.twoColumns(rows + calibrated) }
        let error = { (row: Prefix) in "RMS error \(fixed(row.relativeRmsError * 100, 2)) %" }
        rows += prefixes.map { row in
            let layers = prefixesByLayer.filter { $0.format == row.format && $0.bits == row.bits }
            let errors = layers.map { $0.relativeRmsError * 100 }
            let range = "\(fixed(errors.min() ?? 0, 2)) to \(fixed(errors.max() ?? 0, 2)) by layer"
            return (
                row.lowFormat.map { "\(row.format) as \($0)" }
                    ?? "\(row.format), \(row.bits) of \(row.ofBits) bits",
                "\(error(row)) of the weights' RMS (\(range))"
            )
        }
        return TextTable.twoColumns(rows + calibrated)
    }
}

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Reads every byte of a package and names what is damaged.",
        discussion: "Exit status 65 if anything is.")

    @Argument(help: "The package.")
    var package: String

    func run() throws {
        try Failure.reporting {
            guard unsafe access(package, R_OK) == 0 else {
                throw InputError(
                    "\(package): cannot be opened: \(Console.reason())", code: Failure.noInput)
            }
            var verifier = try PackageVerifier(path: package)
            var bar = ProgressBar("verifying \(package)", showsTimeLeft: true)
            do {
                defer { bar.end() }
                try verifier.run { bar.show($0) }
            }
            for damage in verifier.damages { Console.error("sluice: \(damage)") }
            guard verifier.damages.isEmpty else { throw Failure.badData }
            let manifest = verifier.package.manifest
            Console.out(
                "\(package): sound, \(ByteSize(bytes: Int(clamping: verifier.package.fileSize))) in "
                    + "\(manifest.tensors.count) tensors and "
                    + "\(manifest.layers.count * manifest.expertCount) experts\n")
        }
    }
}
