// swift-tools-version: 6.2 Fuzz targets: libFuzzer feeds them bytes, the address sanitizer watches,
// and the coverage of Swift and C code steers. A package of its own, since without the sanitizer's
// flag they do not link.
//
// From this directory, with the committed fixtures as first corpus:
//
//     export SWIFT_BACKTRACE=enable=no     # or a crash hangs in the backtracer for ever
//     swift build -c release --sanitize fuzzer --sanitize address \
//         -Xswiftc -sanitize=fuzzer,address --product FuzzGGUF
//     mkdir -p .build/corpus
//     .build/release/FuzzGGUF -max_total_time=60 -max_len=16384 -rss_limit_mb=1024 \
//         .build/corpus ../Fixtures/gguf
//
// The corpus of FuzzTokenizer is ../Fixtures/tokenizers, with -max_len=32768; that of
// FuzzHuggingFace ../Fixtures/huggingface/models/mixtral-f32, ../Fixtures/huggingface/tokenizers
// and others beside them. FuzzRequest and FuzzAnswer begin with nothing, and learn from
// -dict=Sources/FuzzRequest/words and -dict=Sources/FuzzAnswer/words. The corpus of FuzzTemplate is
// any folder of chat templates. FuzzConstraints needs none, with -max_len=512 -timeout=20
// and ASAN_OPTIONS=detect_leaks=0 (globals of Swift look like leaks); the schemas of ../Fixtures/constraints, one a
// file and each after a byte such as "b", make it see more of them. FuzzPackage wants packages that
// `sluice pack` has made of small models, with -max_len=524288.
//
// The third flag is not a repetition: of two separate ones swiftc obeys the last, and without
// coverage of Swift code the fuzzer is blind. It says at the start how many PCs it sees: thousands,
// not dozens.
//
// New inputs go to .build/corpus; one that crashes, hangs or takes too much memory is written to
// the working directory and can be given as the only argument to see it again.
import PackageDescription

/// One fuzz target, over these libraries.
func fuzzer(_ name: String, _ libraries: String...) -> Target {
    .executableTarget(
        name: name,
        dependencies: libraries.map { .product(name: $0, package: "sluice") },
        swiftSettings: [
            .swiftLanguageMode(.v6),
            // libFuzzer brings its own main.
            .unsafeFlags(["-parse-as-library"]),
        ])
}

let package = Package(
    name: "fuzz",
    dependencies: [.package(name: "sluice", path: "../..")],
    targets: [
        fuzzer("FuzzAnswer", "Chat", "OpenAIAPI"),
        fuzzer("FuzzConstraints", "Constraints", "JSONTree"),
        fuzzer("FuzzGGUF", "ModelFormats"),
        fuzzer("FuzzHuggingFace", "ModelFormats", "Tokenization"),
        fuzzer("FuzzPackage", "ModelFormats"),
        fuzzer("FuzzRequest", "Chat", "JSONTree", "OpenAIAPI"),
        fuzzer("FuzzTemplate", "ChatTemplates"),
        fuzzer("FuzzTokenizer", "ModelFormats", "Tokenization"),
    ]
)
