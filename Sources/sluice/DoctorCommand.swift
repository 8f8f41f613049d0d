import ArgumentParser
import ExpertStreaming
import Glibc
import Inference
import Measuring
import ModelFormats

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Measures disk and memory, predicts a model's speed, and names what to fix.",
        discussion: """
            Reads the disk as experts are read (the size, the depth and the way of the model), and memory with as \
            many threads as compute. The prediction is a ceiling: the slower of all bytes of a token from memory and \
            of its missing experts from the disk. Nothing is changed on the machine.

            Exit status: 0 the model can run, 78 something keeps it from running.
            """)

    @OptionGroup var model: ModelArgument
    @OptionGroup var engine: EngineArguments

    @Option(
        help: ArgumentHelp(
            """
            Examine the disk that this file or folder is on, instead of the model's; in a folder 256 MiB are \
            written for that, and removed.
            """,
            valueName: "path"))
    var disk: String?

    @Option(help: ArgumentHelp("How long the disk is read, 0.1 to 600.", valueName: "seconds"))
    var seconds: Double = 4

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        if !(seconds >= 0.1 && seconds <= 600) {
            throw ValidationError("--seconds \(seconds) is not between 0.1 and 600.")
        }
    }

    func run() throws {
        try Failure.reporting {
            // Without a model there may be the bundled one, and without that the machine is
            // examined all the same.
            let named = model.model != nil
            let description: ModelDescription? =
                try named || disk == nil ? ModelLocation.open(model.model, reads: false) : nil
            var options = try description.map { try engine.options(for: $0) } ?? EngineOptions()
            if description == nil {
                options.memoryBytes = engine.memory?.bytes
                options.threads = engine.threads
                options.io = engine.io.mode
            }
            let place = try disk ?? description!.largestFile()
            let sample = try SampleFile(at: place)
            defer { sample.remove() }
            let diagnosis = try Diagnosis(
                file: sample.path, model: description, options: options, seconds: seconds
            ) { Console.progress("\($0) ...") }
            Console.out(
                json ? try JSONOutput.text(diagnosis) : DoctorText.of(diagnosis, description))
            if !diagnosis.canRun { throw Failure.configuration }
        }
    }
}

/// A file to read: the one that is named, or one made in a folder for the time of a measurement.
private struct SampleFile {
    let path: String
    private let isOurs: Bool

    private static let madeBytes = 256 << 20
    private static let pieceBytes = 4 << 20

    init(at place: String) throws {
        guard let resolved = unsafe realpath(place, nil) else {
            throw InputError(
                "\(place): cannot be opened: \(Console.reason())", code: Failure.noInput)
        }
        defer { unsafe free(resolved) }
        let absolute = unsafe String(cString: resolved)
        var status = stat()
        isOurs = unsafe stat(absolute, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        guard isOurs else {
            path = absolute
            return
        }
        path = "\(absolute)/.sluice-doctor-\(getpid())"
        try Self.make(path)
    }

    func remove() {
        if isOurs { unsafe unlink(path) }
    }

    /// Bytes that a drive or file system cannot compress or leave out.
    private static func make(_ path: String) throws {
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw InputError(
                "\(path): cannot be created: \(Console.reason())", code: Failure.cannotCreate)
        }
        defer { close(descriptor) }
        var words = [UInt64](repeating: 0, count: pieceBytes / 8)
        var bits: UInt64 = 1
        for _ in 0..<madeBytes / pieceBytes {
            for index in words.indices {
                bits = bits &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                words[index] = bits ^ bits >> 29
            }
            let written = unsafe words.withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress, $0.count)
            }
            guard written == pieceBytes else {
                let why = written < 0 ? Console.reason() : "the disk is full"
                unsafe unlink(path)
                throw InputError("\(path): cannot be written: \(why)", code: Failure.disk)
            }
        }
        guard fsync(descriptor) == 0 else {
            let why = Console.reason()
            unsafe unlink(path)
            throw InputError("\(path): cannot be written: \(why)", code: Failure.disk)
        }
    }
}
