import Benchmarking
import Inference
import ModelFormats

/// A model of a sweep, with the recording that drives its choice of experts.
struct SweptModel {
    let path: String
    let description: ModelDescription
    let trace: String?
    /// As commands name it: without its folder, so that they can be run anywhere.
    let name: String

    init(_ argument: String, trace: String?) throws {
        path = try ModelLocation.path(argument)
        description = try ModelLocation.open(path)
        fileBytes = try description.file.paths.reduce(0) { try $0 + fileSize($1) }
        self.trace = trace
        name = argument == "demo" ? "demo" : lastPart(path)
        if let trace { try Console.requireReadable(trace) }
    }

    let fileBytes: Int

    var traceName: String? { trace.map(lastPart) }
}

/// Of a path, what is behind its last slash.
func lastPart(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
}
