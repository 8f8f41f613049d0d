private import CHost
private import CRing

/// Versions of the system libraries in use, for `--version`; nil for one that cannot be told.
public enum LibraryVersions {
    public static var liburing: String? { text(unsafe String(cString: ring_library_version())) }
    /// libnuma tells only the version in its file name, which is not its release.
    public static var libnuma: String? { text(unsafe String(cString: host_numa_version())) }
    public static var libzstd: String? { text(unsafe String(cString: host_zstd_version())) }

    private static func text(_ version: String) -> String? { version.isEmpty ? nil : version }
}
