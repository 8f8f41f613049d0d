import ArgumentParser
import ExpertStreaming
import Inference
import Measuring
import ModelFormats

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Says what a model file holds, and whether it suits streaming.")

    @OptionGroup var model: ModelArgument

    @Option(
        help: ArgumentHelp(
            "Routing recorded of it, by which it is judged, too: SRP and the knee.",
            valueName: "file"))
    var trace: String?

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        try Failure.reporting {
            let description = try ModelLocation.open(model.model, reads: false)
            let routing = try trace.map { path in
                let trace = try RoutingTrace(path: path)
                try description.check(trace.shape, name: path)
                return try RoutingStatistics(
                    trace, segment: StreamingSuitability.segment,
                    rhos: StreamingSuitability.multiples)
            }
            let facts = ModelFacts(
                description, StreamingSuitability(description, routing: routing))
            Console.out(json ? try JSONOutput.text(facts) : facts.table)
        }
    }
}

/// A model file in figures. Bytes are those of the file, without the slack that memory adds.
struct ModelFacts: Encodable {
    struct Role: Encodable {
        var role: String
        var tensors: Int
        var formats: [String]
        var bytes: Int
    }

    var path: String
    var files: Int
    var fileBytes: UInt64
    var format: String
    var ggufVersion: UInt32?
    /// Bits of the planes of a package's experts, as in 2+2, or none.
    var planes: String?
    var packedBy: String?
    var sources: [PackageManifest.Source]?
    var name: String
    var architecture: String
    var layers: Int
    var embeddingLength: Int
    /// What mixes positions, in how many layers.
    var attention: String
    var heads: Int
    var keyValueHeads: Int
    var headSize: Int
    var experts: Int
    var expertsPerToken: Int
    var expertWidth: Int
    var normalisesGateWeights: Bool
    /// How gate weights come about.
    var routing: String
    /// Layers that have experts; the others are dense.
    var expertLayers: Int
    var vocabulary: Int
    var contextLength: Int
    var ropeBase: Double
    var tiedEmbeddings: Bool
    var tensors: [Role]
    var residentBytes: Int
    var expertBytesPerLayer: [Int]
    var expertBytes: Int
    /// Bytes of experts that one token uses.
    var activeSetBytes: Int
    var streaming: StreamingSuitability

    init(_ model: ModelDescription, _ streaming: StreamingSuitability) {
        self.streaming = streaming
        path = model.file.paths[0]
        files = model.file.paths.count
        fileBytes = model.file.fileSizes.reduce(0, +)
        format = model.file.formatName
        if case .gguf(let version) = model.file.kind { ggufVersion = version }
        if let manifest = model.file.package?.manifest {
            planes = manifest.planes
            packedBy = manifest.packedBy
            sources = manifest.sources
        }
        name = model.name
        architecture = model.architecture.name
        layers = model.layerCount
        embeddingLength = model.embeddingLength
        attention = Self.mixers(of: model)
        heads = model.headCount
        keyValueHeads = model.keyValueHeadCount
        headSize = model.headSize
        experts = model.expertCount
        expertsPerToken = model.expertsPerToken
        expertWidth = model.expertWidth
        normalisesGateWeights = model.routing.normalises
        routing = model.routing.description
        expertLayers = model.expertLayerCount
        vocabulary = model.vocabularyCount
        contextLength = model.contextLength
        ropeBase = model.rotary.base
        tiedEmbeddings = model.tiesEmbeddings
        func role(_ name: String, _ tensors: [GGUFTensor]) -> Role {
            Role(
                role: name, tensors: tensors.count,
                formats: Set(tensors.map(\.format.name)).sorted(),
                bytes: tensors.reduce(0) { $0 + $1.byteCount })
        }
        func expertRole(_ name: String, _ part: Int) -> Role {
            let parts = (0..<model.expertLayerCount).map { model.expertParts(layer: $0)[part] }
            return Role(
                role: name, tensors: parts.reduce(0) { $0 + max(1, $1.tensors.count) },
                formats: Set(parts.map(\.format.name)).sorted(),
                bytes: parts.reduce(0) { $0 + $1.byteCount } * model.expertCount)
        }
        tensors =
            model.roles.map { role($0.role.rawValue, $0.tensors) }
            + [
                expertRole("expert gate", 0), expertRole("expert up", 1),
                expertRole("expert down", 2),
            ].filter { $0.tensors > 0 }
        residentBytes = model.residentTensors.reduce(0) { $0 + $1.byteCount }
        expertBytesPerLayer = (0..<model.expertLayerCount).map { model.expertBytes(layer: $0) }
        expertBytes = expertBytesPerLayer.reduce(0, +)
        activeSetBytes = model.activeSetBytes
    }

    private static func mixers(of model: ModelDescription) -> String {
        var counts: [(text: String, layers: Int)] = []
        for layer in model.layers {
            let text =
                switch layer.mixer {
                case .attention(let attention):
                    "\(model.headCount) heads of \(model.headSize), \(model.keyValueHeadCount) for "
                        + "keys and values"
                        + (attention.window.map { ", over the last \($0) positions" } ?? "")
                case .latent(let latent):
                    "\(model.headCount) heads over latents of \(latent.rank) + \(latent.turnedSize)"
                case .convolution(let short): "convolution over \(short.taps) positions"
                case .deltaNet(let net):
                    "gated delta net, \(net.valueHeadCount) heads of \(net.keySize) x \(net.valueSize)"
                }
            if let known = counts.firstIndex(where: { $0.text == text }) {
                counts[known].layers += 1
            } else {
                counts.append((text, 1))
            }
        }
        if counts.count == 1 { return counts[0].text }
        return counts.map { "\($0.text) in \($0.layers) layers" }.joined(separator: "; ")
    }

    private var layerText: String {
        let dense = layers - expertLayers
        return "\(layers)\(dense > 0 ? " (\(dense) without experts)" : ""), embedding "
            + "\(embeddingLength)"
    }

    var table: String {
        let size = { (bytes: Int) in ByteSize(bytes: bytes).description }
        let perLayer = Set(expertBytesPerLayer).sorted().map(size).joined(separator: " or ")
        var rows = [
            ("path", path + (files > 1 ? " and \(files - 1) more" : "")),
            ("size", size(Int(clamping: fileBytes)) + ", \(format)"),
            ("name", name),
            ("architecture", architecture),
            ("layers", layerText),
            ("attention", attention),
            ("rotary base", "\(ropeBase)"),
            (
                "experts",
                experts == 1
                    ? "none: dense, width \(expertWidth)"
                    : "\(experts) per layer, \(expertsPerToken) per token, width \(expertWidth), \(routing)"
            ),
            ("vocabulary", "\(vocabulary)" + (tiedEmbeddings ? ", embedding used as head" : "")),
            ("context", "\(contextLength)"),
            ("resident", size(residentBytes)),
            ("experts", "\(size(expertBytes)), \(perLayer) per layer"),
            ("active set", "\(size(activeSetBytes)) of experts per token"),
        ]
        if let planes, let packedBy, let sources {
            rows += [("planes", planes), ("packed by", packedBy)]
            rows += sources.map {
                (
                    "packed from",
                    "\($0.name), \(size(Int(clamping: $0.bytes))), SHA-256 \($0.sha256)"
                )
            }
        }
        rows += tensors.map {
            ($0.role, "\($0.tensors) x \($0.formats.joined(separator: ", ")), \(size($0.bytes))")
        }
        rows.append(("streaming", "suits it \(streaming.verdict.rawValue)"))
        rows += streaming.reasons.map { ("", $0) }
        return TextTable.twoColumns(rows)
    }
}

/// Plain aligned text.
enum TextTable {
    static func twoColumns(_ rows: [(String, String)]) -> String {
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { row in
            row.0 + String(repeating: " ", count: width - row.0.count + 2) + row.1 + "\n"
        }.joined()
    }

    /// Columns: the first to the left, the others to the right.
    static func aligned(_ lines: [[String]]) -> String {
        var widths: [Int] = []
        for line in lines {
            for (column, cell) in line.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return lines.map { line in
            line.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }.joined(separator: "  ") + "\n"
        }.joined()
    }
}
