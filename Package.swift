// swift-tools-version: 6.2
import PackageDescription

// SLUICE_STRICT=1 (set by tools/test) turns every warning of our own targets into an error. It is not
// the default, so that a compiler newer than ours can still build a release.
let strict = Context.environment["SLUICE_STRICT"] == "1"

let swiftSettings: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .strictMemorySafety(),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
    ] + (strict ? [.treatAllWarnings(as: .error)] : [])

// -O3 in debug builds too: tests of kernels crawl at -O0. No contraction of a*b+c into one rounding:
// every instruction set must round alike.
let kernelSettings: [CSetting] = [.unsafeFlags(["-O3", "-ffp-contract=off", "-Wall", "-Wextra"])]

let package = Package(
    name: "sluice",
    products: [
        .executable(name: "sluice", targets: ["sluice"]),
        .library(name: "Chat", targets: ["Chat"]),
        .library(name: "ChatTemplates", targets: ["ChatTemplates", "JSONTree"]),
        .library(name: "Constraints", targets: ["Constraints"]),
        .library(name: "ExpertStreaming", targets: ["ExpertStreaming"]),
        .library(name: "JSONTree", targets: ["JSONTree"]),
        .library(name: "ModelFormats", targets: ["ModelFormats"]),
        .library(name: "OpenAIAPI", targets: ["OpenAIAPI"]),
        .library(name: "SluiceClient", targets: ["SluiceClient"]),
        .library(name: "Tokenization", targets: ["Tokenization"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CLibURing", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
        .systemLibrary(name: "CLibNUMA", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]),
        .systemLibrary(name: "CLibZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),

        .target(name: "CKernels", cSettings: kernelSettings),
        .target(name: "CRing", dependencies: ["CLibURing"]),
        .target(name: "CHost", dependencies: ["CLibNUMA", "CLibZstd"]),

        .target(
            name: "ModelFormats", dependencies: ["CHost"], exclude: ["PACKAGE.md"],
            swiftSettings: swiftSettings),
        .target(
            name: "Quantization", dependencies: ["CKernels", "ModelFormats"],
            swiftSettings: swiftSettings),
        .target(name: "Tokenization", dependencies: ["ModelFormats"], swiftSettings: swiftSettings),
        .target(
            name: "ExpertStreaming", dependencies: ["CHost", "CRing"], swiftSettings: swiftSettings),
        .target(
            name: "Inference",
            dependencies: ["CHost", "CKernels", "ExpertStreaming", "ModelFormats", "Quantization"],
            swiftSettings: swiftSettings),
        .target(
            name: "Packing",
            dependencies: [
                "CHost", "ExpertStreaming", "Inference", "ModelFormats", "Quantization",
            ],
            swiftSettings: swiftSettings),
        .target(
            name: "Generation",
            dependencies: ["CHost", "Constraints", "Inference", "Tokenization"],
            swiftSettings: swiftSettings),
        .target(
            name: "Profiling",
            dependencies: ["CHost", "ExpertStreaming", "Inference", "ModelFormats"],
            swiftSettings: swiftSettings),
        .target(
            name: "Measuring",
            dependencies: [
                "CHost", "CKernels", "ExpertStreaming", "Inference", "ModelFormats", "Quantization",
            ],
            swiftSettings: swiftSettings),
        .target(name: "Benchmarking", dependencies: ["CHost"], swiftSettings: swiftSettings),
        .target(name: "JSONTree", swiftSettings: swiftSettings),
        .target(name: "ChatTemplates", dependencies: ["JSONTree"], swiftSettings: swiftSettings),
        .target(name: "Constraints", dependencies: ["JSONTree"], swiftSettings: swiftSettings),
        .target(name: "OpenAIAPI", dependencies: ["JSONTree"], swiftSettings: swiftSettings),
        .target(
            name: "Chat", dependencies: ["ChatTemplates", "Constraints", "JSONTree", "OpenAIAPI"],
            swiftSettings: swiftSettings),
        .target(
            name: "Serving",
            dependencies: [
                "CHost", "Chat", "Constraints", "ExpertStreaming", "Generation", "Inference",
                "JSONTree", "ModelFormats", "OpenAIAPI", "Tokenization",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: swiftSettings),
        .target(
            name: "SluiceClient",
            dependencies: [
                "JSONTree", "OpenAIAPI",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "sluice",
            dependencies: [
                "Benchmarking", "CHost", "ChatTemplates", "ExpertStreaming", "Generation",
                "Inference", "JSONTree", "Measuring", "ModelFormats", "Packing", "Profiling",
                "Quantization", "Serving",
                "SluiceClient", "Tokenization",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: swiftSettings),

        .testTarget(
            name: "CKernelsTests", dependencies: ["CKernels"], swiftSettings: swiftSettings),
        .testTarget(
            name: "ModelFormatsTests", dependencies: ["ModelFormats"], swiftSettings: swiftSettings),
        .testTarget(
            name: "QuantizationTests", dependencies: ["Quantization", "ModelFormats", "CKernels"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "TokenizationTests", dependencies: ["Tokenization", "ModelFormats"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ExpertStreamingTests",
            dependencies: ["ExpertStreaming", "CAllocationCounter", "CHost"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "InferenceTests",
            dependencies: [
                "CKernels", "Inference", "CAllocationCounter", "ExpertStreaming", "ModelFormats",
                "Packing", "Quantization",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "PackingTests",
            dependencies: [
                "ExpertStreaming", "Inference", "ModelFormats", "Packing", "Quantization",
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "GenerationTests",
            dependencies: [
                "CAllocationCounter", "Constraints", "ExpertStreaming", "Generation", "Inference",
                "ModelFormats", "Tokenization",
            ], swiftSettings: swiftSettings),
        .testTarget(
            name: "JSONTreeTests", dependencies: ["JSONTree"], swiftSettings: swiftSettings),
        .testTarget(
            name: "ChatTemplatesTests", dependencies: ["ChatTemplates", "JSONTree"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ConstraintsTests", dependencies: ["Constraints", "JSONTree"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "OpenAIAPITests", dependencies: ["JSONTree", "OpenAIAPI"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ChatTests",
            dependencies: ["Chat", "ChatTemplates", "Constraints", "JSONTree", "OpenAIAPI"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ServingTests",
            dependencies: [
                "ExpertStreaming", "Generation", "Inference", "JSONTree", "ModelFormats", "Serving",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "SluiceClientTests",
            dependencies: [
                "JSONTree", "OpenAIAPI", "SluiceClient",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "BenchmarkingTests", dependencies: ["Benchmarking", "CHost"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "MeasuringTests",
            dependencies: [
                "CHost", "ExpertStreaming", "Inference", "Measuring", "ModelFormats",
                "Quantization",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "ProfilingTests",
            dependencies: ["Profiling", "ExpertStreaming", "Inference", "ModelFormats"],
            swiftSettings: swiftSettings),

        // Replaces malloc by one that counts, in the test binary only.
        .target(name: "CAllocationCounter", path: "Tests/Support/CAllocationCounter"),
    ]
)

// SLUICE_ROOMS=ExpertStreamingTests,... keeps these targets and what they stand on, and nothing else:
// for builds under a sanitizer, which are slow.
if let rooms = Context.environment["SLUICE_ROOMS"] {
    var wanted = Set(rooms.split(separator: ",").map(String.init))
    for _ in package.targets {
        for target in package.targets where wanted.contains(target.name) {
            for case .byNameItem(let name, _) in target.dependencies { wanted.insert(name) }
        }
    }
    package.targets.removeAll { !wanted.contains($0.name) }
    package.products = []
}
