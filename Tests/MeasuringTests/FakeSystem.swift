import Glibc

@testable import Measuring

/// A folder that stands for a machine's root, and goes away with its owner.
final class FakeSystem {
    let root: String
    /// Files, links and folders, each after the one it lies in.
    private var made: [String] = []

    /// - Parameters:
    ///   - texts: Files, by path.
    ///   - links: What symbolic links point to, by path.
    init(_ texts: [String: String], links: [String: String] = [:]) throws {
        var template = Array("/var/tmp/sluice-system-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw Failed(errno: errno) }
        root = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        for (path, text) in texts {
            makeFolders(above: path)
            guard let file = unsafe fopen(root + path, "w") else { throw Failed(errno: errno) }
            unsafe fputs(text, file)
            unsafe fclose(file)
            made.append(root + path)
        }
        for (path, target) in links {
            makeFolders(above: path)
            guard unsafe symlink(root + target, root + path) == 0 else {
                throw Failed(errno: errno)
            }
            made.append(root + path)
        }
    }

    deinit {
        for path in made.reversed() { unsafe remove(path) }
        unsafe rmdir(root)
    }

    var files: SystemFiles { SystemFiles(root: root) }

    struct Failed: Error {
        var errno: Int32
    }

    private func makeFolders(above path: String) {
        var folder = root
        for name in path.split(separator: "/").dropLast() {
            folder += "/\(name)"
            if unsafe mkdir(folder, 0o755) == 0 { made.append(folder) }
        }
    }
}
