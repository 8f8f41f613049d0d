// SHA-256 against the examples of NIST, and its two ways against each other.

import ModelFormats
import Testing

@testable import Packing

@Suite struct FileDigestTests {
    /// FIPS 180-4's examples as published with it (SHA256.pdf) and in the short-message vectors of the
    /// Secure Hash Algorithm Validation System.
    static let vectors: [(message: [UInt8], digest: String)] = [
        ([], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ([0xd3], "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"),
        (
            Array("abc".utf8),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ),
        (
            Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
    ]

    @Test(arguments: vectors.indices, [false, true])
    func digestsAreThoseOfNIST(index: Int, portable: Bool) {
        let (message, digest) = Self.vectors[index]
        #expect(FileDigest.sha256([message], portable: portable) == digest)
    }

    /// Lengths around a block's end and the length field, in pieces of any size.
    @Test func piecesAndWaysAgree() {
        let bytes = (0..<400).map { UInt8(truncatingIfNeeded: $0 * 37 + 11) }
        for length in 0...200 {
            let message = Array(bytes[..<length])
            let whole = FileDigest.sha256([message], portable: true)
            #expect(FileDigest.sha256([message]) == whole)
            for first in [0, 1, 55, 56, 63, 64, 65] where first <= length {
                let second = (length - first) / 2
                let pieces = [
                    Array(message[..<first]), Array(message[first..<first + second]),
                    Array(message[(first + second)...]),
                ]
                #expect(FileDigest.sha256(pieces) == whole, "\(length) bytes, \(first) first")
                #expect(FileDigest.sha256(pieces, portable: true) == whole)
            }
        }
    }

    @Test func filesAreReadFromEndToEnd() throws {
        let file = try TemporaryFile([UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000))
        let empty = try TemporaryFile()
        let sources = [try PackageSource(path: file.path), try PackageSource(path: empty.path)]
        var last = 0.0
        let digests = try FileDigest.sha256(of: sources) { last = $0 }
        #expect(digests == [Self.vectors[4].digest, Self.vectors[0].digest])
        #expect(last == 1)
    }
}
