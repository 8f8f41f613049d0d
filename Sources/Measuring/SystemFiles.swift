internal import CHost

/// Small text files of /proc and /sys, below a directory that a test may choose.
struct SystemFiles {
    /// What stands before "/proc" and "/sys"; empty for this machine.
    var root = ""

    /// The whole text; nil if it cannot be read.
    func text(_ path: String) -> String? {
        var length: Int64 = 0
        let capacity = 1 << 20
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            length = unsafe buffer.withMemoryRebound(to: CChar.self) { text in
                unsafe host_read_text(root + path, text.baseAddress, capacity)
            }
            count = max(0, Int(length))
        }
        return length < 0 ? nil : String(decoding: bytes, as: UTF8.self)
    }

    /// The first line, without spaces and zero bytes at its ends; nil if there is none.
    func line(_ path: String) -> String? {
        guard let first = text(path)?.split(separator: "\n", maxSplits: 1).first else { return nil }
        var line = first[...]
        func isBlank(_ character: Character) -> Bool {
            character.isWhitespace || character == "\0"
        }
        while let last = line.last, isBlank(last) { line.removeLast() }
        while let first = line.first, isBlank(first) { line.removeFirst() }
        return line.isEmpty ? nil : String(line)
    }

    func number(_ path: String) -> Int? { line(path).flatMap { Int($0) } }

    /// The word in brackets of a line such as "always [madvise] never"; nil if none is.
    func chosen(_ path: String) -> String? {
        guard let line = line(path), let open = line.firstIndex(of: "["),
            let close = line[open...].firstIndex(of: "]")
        else { return nil }
        return String(line[line.index(after: open)..<close])
    }

    /// The rest of the first line that begins with `name`, behind colon, equals sign and blanks;
    /// nil if no line does.
    func value(_ name: String, in path: String) -> String? {
        for line in (text(path) ?? "").split(separator: "\n") where line.hasPrefix(name) {
            let rest = line.dropFirst(name.count)
                .drop { $0 == " " || $0 == "\t" || $0 == ":" || $0 == "=" }
            if rest.count < line.count - name.count { return String(rest) }
        }
        return nil
    }
}
