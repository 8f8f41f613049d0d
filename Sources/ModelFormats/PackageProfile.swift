// Changing the profile of a finished package, which is all that ever changes in one.
//
//   ... | manifest | profile          before
//   ... | manifest | dead  | profile  after a change that had to go behind the old one
//   ... | manifest | profile          after the next, if it fits before that one
//
// The new profile goes where nothing lies that the header names; when it is on the device, the header page
// is replaced, and then the file is cut to its new end. Whatever interrupts this, the package has the
// old profile or the new one, and at most the other one's bytes beside it.

extension Package {
    /// Puts `profile` in the place of the profile of the package at `path`.
    ///
    /// The header is one page, written at once: a crash leaves the old one or the new one on every
    /// device that writes 4096 bytes as a whole.
    ///
    /// - Throws: `ModelFileError` where the file is no package, `OutputError` where it cannot be
    ///   written; then its old profile stays.
    public static func setProfile(_ profile: [UInt8], at path: String) throws {
        var header = try PackageHeader(try FileSource(path: path))
        guard !profile.isEmpty, profile.count <= PackageSection.profile.limit else {
            throw OutputError(
                path: path,
                "a profile of \(profile.count) bytes; it may have 1 to \(PackageSection.profile.limit)"
            )
        }
        let oldSize = header.fileSize
        let old = header[.profile]
        var start = PackageFormat.padded(Int(header[.manifest].end), to: PackageFormat.page)
        if old.byteCount > 0, start + profile.count > Int(old.offset) {
            start = PackageFormat.padded(Int(old.end), to: PackageFormat.page)
        }
        header.sections[.profile] = PackageExtent(
            offset: UInt64(start), byteCount: UInt64(profile.count),
            checksum: checksum32C(profile[...]))
        header.fileSize = UInt64(start + profile.count)

        let file = try OutputFile(path: path)
        do {
            // What an interrupted change left behind the end is not ours to keep.
            try file.resize(oldSize)
            try file.write(profile, at: UInt64(start))
            try file.synchronise()
        } catch {
            try? file.resize(oldSize)
            throw error
        }
        try file.write(header.encoded, at: 0)
        try file.synchronise()
        try file.resize(header.fileSize)
        try file.synchronise()
    }
}
