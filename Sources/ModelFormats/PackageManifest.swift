internal import FoundationEssentials

/// The manifest of a package: what it holds, where it came from, and the shapes from which places
/// follow. PACKAGE.md says the same in words; keys of the JSON are these names in snake_case.
public struct PackageManifest: Sendable, Equatable, Codable {
    /// The model's architecture and name, for people: the metadata decide.
    public var architecture: String
    public var name: String
    /// Who made the package, as in `sluice 0.1.0`.
    public var packedBy: String
    /// Bits of the planes, as in `2+2`; `none` where experts lie in their formats as they are.
    public var planes: String
    /// True where a prefix of the planes is a coarser version of the same weights; false where plane 0
    /// is a whole version of lower precision, and plane 1 the full one.
    public var nested: Bool
    /// Experts of every layer.
    public var expertCount: Int
    /// Layers with experts, in order.
    public var layers: [Layer]
    /// The tensors of the resident region, by place.
    public var tensors: [Tensor]
    /// The files that were packed.
    public var sources: [Source]

    /// A layer's experts, which are all of one shape.
    public struct Layer: Sendable, Equatable, Codable {
        /// Number of the transformer block.
        public var block: Int
        /// Gate, up and down.
        public var parts: [Part]
        /// How an expert's record is laid out.
        public var planes: [Plane]

        public init(block: Int, parts: [Part], planes: [Plane]) {
            self.block = block
            self.parts = parts
            self.planes = planes
        }

        /// Bytes of an expert's record: its planes, each padded to a page.
        var recordBytes: Int {
            planes.reduce(0) { $0 + PackageFormat.padded($1.bytes, to: PackageFormat.page) }
        }
    }

    /// One matrix of a layer's experts.
    public struct Part: Sendable, Equatable, Codable {
        public var role: String
        /// The block format that it is at full width.
        public var format: String
        public var rows: Int
        public var columns: Int
        /// Bits of its planes, most significant first; absent where it is not cut.
        public var bits: [Int]?
        /// The format of the coarser version in plane 0, in packages whose planes do not nest.
        public var lowFormat: String?

        public init(
            role: String, format: String, rows: Int, columns: Int, bits: [Int]?,
            lowFormat: String? = nil
        ) {
            self.role = role
            self.format = format
            self.rows = rows
            self.columns = columns
            self.bits = bits
            self.lowFormat = lowFormat
        }
    }

    /// One plane of an expert's record.
    public struct Plane: Sendable, Equatable, Codable {
        /// From the first byte of its first part to the last of its last part.
        public var bytes: Int
        /// As many as the layer has; a part without bytes in this plane has 0.
        public var parts: [Piece]

        /// Lays parts of so many bytes one after the other, at multiples of a cache line.
        public init(partBytes: [Int]) {
            bytes = 0
            parts = []
            for count in partBytes {
                let offset = PackageFormat.padded(bytes, to: PackageFormat.line)
                parts.append(Piece(offset: count == 0 ? 0 : offset, bytes: count))
                if count > 0 { bytes = offset + count }
            }
        }
    }

    /// A part's share of a plane.
    public struct Piece: Sendable, Equatable, Codable {
        /// From the plane's first byte.
        public var offset: Int
        public var bytes: Int
    }

    /// A tensor of the resident region.
    public struct Tensor: Sendable, Equatable, Codable {
        public var name: String
        public var format: String
        /// Dimensions, the fastest-moving first.
        public var shape: [Int]
        /// Its first byte, from the start of the file.
        public var offset: UInt64
        /// Bytes of it, uncompressed.
        public var bytes: Int
        /// Bytes of its zstd frames; absent where it is not compressed.
        public var frames: [Int]?
        /// CRC-32C of its bytes in the file.
        public var crc32c: UInt32
    }

    /// A file that was packed.
    public struct Source: Sendable, Equatable, Codable {
        /// Its name, without folders.
        public var name: String
        public var bytes: UInt64
        /// SHA-256 of its bytes, in hexadecimal.
        public var sha256: String

        public init(name: String, bytes: UInt64, sha256: String) {
            self.name = name
            self.bytes = bytes
            self.sha256 = sha256
        }
    }

    /// Planes of an expert: of the layer that has most.
    public var planeCount: Int { layers.map(\.planes.count).max() ?? 0 }
}

extension PackageManifest {
    /// The manifest as JSON; equal manifests give equal bytes.
    var encoded: [UInt8] {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return Array(try encoder.encode(self))
        }
    }

    /// Reads the JSON of the section at `offset`; nothing in it is believed yet.
    init(_ json: [UInt8], path: String, offset: UInt64) throws(ModelFileError) {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            self = try decoder.decode(PackageManifest.self, from: Data(json))
        } catch {
            throw ModelFileError(
                path: path, field: "manifest", offset: offset, message: Self.explanation(error))
        }
    }

    /// What is wrong with the JSON, in words that name the place.
    private static func explanation(_ error: any Error) -> String {
        func place(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String {
            (context.codingPath + (key.map { [$0] } ?? [])).map { key in
                key.intValue.map { "[\($0)]" } ?? ".\(key.stringValue)"
            }.joined()
        }
        return switch error {
        case DecodingError.keyNotFound(let key, let context): "\(place(context, key)) is missing"
        case DecodingError.typeMismatch(_, let context),
            DecodingError.valueNotFound(_, let context):
            "\(place(context)) has the wrong type: \(context.debugDescription)"
        case DecodingError.dataCorrupted(let context):
            "\(place(context)) cannot be read: \(context.debugDescription)"
        default: "not readable as JSON"
        }
    }
}
