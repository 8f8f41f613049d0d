import ExpertStreaming
import Glibc
import Serving
import TOMLKit

/// What is taken over of a board: its profile's settings and memory, and its drives' rates.
struct BoardLimits {
    struct Drive {
        /// "PCIe 2 x1".
        var link: String
        var bytesPerSecond: Double
    }

    /// Folder name in boards/.
    let name: String
    let title: String
    let memoryBytes: Int
    let threads: Int?
    /// Positions that the profile keeps; nil where it says nothing.
    let context: Int?
    /// The rest of the profile, in the words of settings; without the cache.
    let setting: String
    let drives: [Drive]

    /// The names of all boards that are known.
    static func names() throws -> [String] {
        guard let folder = folder(), let directory = unsafe opendir(folder) else {
            throw InputError(
                "--board: the boards' folder is not there; run from a checkout, or install the package",
                code: Failure.noInput)
        }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if unsafe access("\(folder)/\(name)/board.toml", R_OK) == 0 { names.append(name) }
        }
        return names.sorted()
    }

    init(_ name: String) throws {
        let known = try Self.names()
        guard let folder = Self.folder(), known.contains(name) else {
            throw InputError("--board '\(name)' is none of \(known.joined(separator: ", "))")
        }
        let path = "\(folder)/\(name)/board.toml"
        let bytes = try Console.readFile(path)
        let profile = try ServiceConfiguration(path: "\(folder)/\(name)/profile")
        let table: TOMLTable
        do { table = try TOMLTable(string: String(decoding: bytes, as: UTF8.self)) } catch {
            throw InputError("\(path): \(error)", code: Failure.configuration)
        }
        var drives: [Drive] = []
        for entry in table["nvme"]?.array ?? [] {
            guard let drive = entry.table, let link = drive["link"]?.string,
                let rate = drive["gbs"]?.double, rate > 0
            else {
                throw InputError(
                    "\(path): nvme is a list of link and gbs, above 0", code: Failure.configuration)
            }
            drives.append(Drive(link: link, bytesPerSecond: rate * 1e9))
        }
        guard let title = table["name"]?.string, !drives.isEmpty else {
            throw InputError("\(path): name and nvme are missing", code: Failure.configuration)
        }
        var options = profile.engine
        func take(_ option: String) -> String? {
            guard let place = options.firstIndex(where: { $0.name == option }) else { return nil }
            return options.remove(at: place).value
        }
        _ = take("cache")
        guard let memory = take("memory").flatMap({ ByteSize($0) }) else {
            throw InputError(
                "\(folder)/\(name)/profile: memory is missing", code: Failure.configuration)
        }
        self.name = name
        self.title = title
        self.drives = drives
        memoryBytes = memory.bytes
        threads = take("threads").flatMap { Int($0) }
        context = take("ctx").flatMap { Int($0) }
        setting = options.map { "\($0.name)=\($0.value)" }.joined(separator: " ")
    }

    /// In a checkout above the program, or where a package installs it.
    private static func folder() -> String? {
        ModelLocation.besideExecutable("boards", installed: "/usr/share/sluice/boards")
    }
}
