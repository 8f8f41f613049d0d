import Testing

@testable import ExpertStreaming

@Suite struct SizesTests {

    @Test(arguments: [
        ("0", 0), ("4096", 4096), ("17B", 17), ("3G", 3 << 30), ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("1.5GiB", 3 << 29), ("0.25k", 256), ("2TB", 2 << 40), ("7kib", 7 << 10),
        ("9223372036854775807", Int.max), ("8191P", -1),
    ])
    func sizesAreReadAsWritten(text: String, bytes: Int) {
        #expect(ByteSize(text)?.bytes == (bytes < 0 ? nil : bytes))
    }

    @Test(arguments: [
        "", "G", "-1", "+1", "1 G", " 1G", "1G ", "1.5", "1.", ".5G", "1..5G", "1.5.5G", "1e3",
        "0x10",
        "nan", "infG", "1Z", "1GG", "9223372036854775808", "9999999999999999G", "8388608T", "1,5G",
        "１G",
        "1.5GiBB", "0x1p3K", "1_000",
    ])
    func rubbishIsNoSize(text: String) {
        #expect(ByteSize(text) == nil)
        #expect(CacheSize(text) == nil)
    }

    @Test(arguments: [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"), (1 << 20, "1.00 MiB"),
        ((1 << 20) - 1, "1023.99 KiB"), (3 << 30, "3.00 GiB"), (Int.max, "7.99 EiB"),
        (-2048, "-2.00 KiB"),
    ])
    func sizesAreWrittenRoundedDown(bytes: Int, text: String) {
        #expect(ByteSize(bytes: bytes).description == text)
    }

    @Test func cacheSizesAreRead() {
        #expect(CacheSize("512M") == .bytes(512 << 20))
        #expect(CacheSize("1.5G") == .bytes(3 << 29))
        #expect(CacheSize("50%") == .percent(50))
        #expect(CacheSize("12.5%") == .percent(12.5))
        #expect(CacheSize("100%") == .percent(100))
        #expect(CacheSize("all") == .percent(100))
        #expect(CacheSize("50 %") == .percent(50))
        #expect(CacheSize("2x") == .multiple(2))
        #expect(CacheSize("0.5X") == .multiple(0.5))
        #expect(CacheSize("auto") == .auto)
    }

    @Test(arguments: [
        "0", "0%", "0x", "-2x", "x", "%", "nanx", "inf%", "2xx", "50%%", "automatic", "1e2x",
    ])
    func rubbishIsNoCacheSize(text: String) {
        #expect(CacheSize(text) == nil)
    }
}
