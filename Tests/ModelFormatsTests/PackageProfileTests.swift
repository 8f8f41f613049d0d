// A package's profile can be changed, and whatever interrupts that leaves a package.

import Testing

@testable import ModelFormats

@Suite struct PackageProfileTests {
    /// A package in a file of its own, which goes when this goes.
    private struct PackageInFile: ~Copyable {
        private let directory: TemporaryDirectory
        var path: String { directory.file("model.sluice") }

        init(profile: [UInt8]?) throws {
            let directory = try TemporaryDirectory()
            try writeFile(directory.file("model.sluice"), PackageExample(profile: profile).bytes())
            self.directory = directory
        }

        var bytes: [UInt8] { get throws { try readFile(path) } }

        func write(_ bytes: [UInt8]) throws { try writeFile(path, bytes) }

        /// The profile, of a package in which nothing is damaged.
        func soundProfile() throws -> [UInt8]? {
            var verifier = try PackageVerifier(path: path)
            try verifier.run()
            #expect(verifier.damages.isEmpty)
            return try verifier.package.profile()
        }
    }

    private static func profile(_ letter: Character, _ count: Int) -> [UInt8] {
        [UInt8](repeating: letter.asciiValue!, count: count)
    }

    @Test(arguments: [nil, 1, 5000] as [Int?])
    func theLastProfileIsTheOneThatIsRead(first: Int?) throws {
        let file = try PackageInFile(
            profile: first.map { PackageProfileTests.profile("a", $0) })
        for (index, count) in [10, 5000, 4096, 20_000, 3, 4097, 4097].enumerated() {
            let letter = Character(Unicode.Scalar(UInt8(98 + index)))
            let profile = PackageProfileTests.profile(letter, count)
            try Package.setProfile(profile, at: file.path)
            #expect(try file.soundProfile() == profile)
        }
    }

    /// However often it changes, the file has room for three of the longest at most: one goes behind
    /// the old one only if it is longer than everything before that.
    @Test func changesDoNotAddUp() throws {
        let file = try PackageInFile(profile: nil)
        let size = try file.bytes.count
        for count in [9000, 9000, 9000, 9000, 8000, 8000, 9000] {
            try Package.setProfile(PackageProfileTests.profile("p", count), at: file.path)
            #expect(try file.bytes.count <= size + 3 * (9000 + 4096))
        }
    }

    /// The states of the file between the steps of a change: after each, old or new.
    @Test func interruptedChangesLeaveTheOldOrTheNewProfile() throws {
        let old = PackageProfileTests.profile("o", 5000)
        let new = PackageProfileTests.profile("n", 6000)
        let file = try PackageInFile(profile: old)
        let before = try file.bytes
        try Package.setProfile(new, at: file.path)
        let after = try file.bytes

        // The new one is written in part, or wholly, but no header names it.
        for written in [before.count + 1, before.count + 4096, after.count] {
            try file.write(before + after[before.count..<written])
            #expect(try file.soundProfile() == old)
            try Package.setProfile(new, at: file.path)
            #expect(try file.bytes == after)
        }
        // The header names a file that is not cut yet.
        try file.write(after + PackageProfileTests.profile("x", 3000))
        #expect(try file.soundProfile() == new)
    }

    @Test func whatIsNoPackageOrNoProfileIsRefused() throws {
        let file = try PackageInFile(profile: nil)
        let before = try file.bytes
        #expect(throws: OutputError.self) { try Package.setProfile([], at: file.path) }
        #expect(try file.bytes == before)
        try file.write(Array(before.dropLast()))
        #expect(throws: ModelFileError.self) { try Package.setProfile([1], at: file.path) }
        #expect(try file.bytes == Array(before.dropLast()))
    }
}
