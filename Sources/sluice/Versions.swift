import ExpertStreaming
import Inference

/// What `sluice --version` prints: ours, the libraries linked, and the kernels this machine can
/// run.
enum Versions {
    static let number = "0.1.0"

    static var text: String {
        """
        sluice \(number)
        liburing \(LibraryVersions.liburing ?? "?"), libnuma \(LibraryVersions.libnuma ?? "?"), \
        libzstd \(LibraryVersions.libzstd ?? "?")
        kernels: \(InstructionSet.available.joined(separator: ", "))
        """
    }
}
