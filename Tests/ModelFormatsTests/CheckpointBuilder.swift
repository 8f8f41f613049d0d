// Checkpoints made up in memory, tensor by tensor.

/// A checkpoint in one file: numbered bytes for every tensor, so that each can be told from all others.
struct CheckpointBuilder {
    /// Members of config.json beside the class.
    var config: [String: String]
    let className: String
    private(set) var tensors: [(name: String, type: String, shape: [Int], bytes: [UInt8])] = []
    private var random = SplitMix64(seed: 17)

    init(_ className: String, _ config: [String: String]) {
        self.className = className
        self.config = config
    }

    /// Adds a tensor; without `bytes` it holds small numbers at random.
    mutating func add(
        _ name: String, _ shape: [Int], _ type: String = "F32", bytes: [UInt8]? = nil
    ) {
        let count = shape.reduce(1, *)
        let made: [UInt8]
        switch type {
        case "U8", "I8": made = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
        case "F32":
            made = (0..<count).flatMap { _ in
                let bits = Float.random(in: -1...1, using: &random).bitPattern
                return (0..<4).map { UInt8(truncatingIfNeeded: bits >> UInt32(8 * $0)) }
            }
        default:
            // No exponent of 16 bits is all ones here, in F16 or BF16.
            made = (0..<count).flatMap { _ in
                [
                    UInt8.random(in: 0...255, using: &random),
                    UInt8.random(in: 0...0x3B, using: &random),
                ]
            }
        }
        tensors.append((name, type, shape, bytes ?? made))
    }

    mutating func add(_ names: [String], _ shape: [Int], _ type: String = "F32") {
        for name in names { add(name, shape, type) }
    }

    /// The bytes of a tensor that was added.
    func bytes(_ name: String) -> [UInt8] { tensors.first { $0.name == name }!.bytes }

    var header: String {
        var entries: [String] = []
        var end = 0
        for tensor in tensors {
            entries.append(
                #""\#(tensor.name)":{"dtype":"\#(tensor.type)","shape":\#(tensor.shape),"data_offsets":[\#(end),\#(end + tensor.bytes.count)]}"#
            )
            end += tensor.bytes.count
        }
        return "{\(entries.joined(separator: ","))}"
    }

    var configuration: String {
        let members = config.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }
        return "{\"architectures\": [\"\(className)\"], \(members.joined(separator: ", "))}"
    }

    var files: [String: [UInt8]] {
        var weights = SafetensorsBuilder(header)
        weights.data = tensors.flatMap(\.bytes)
        return ["config.json": Array(configuration.utf8), "model.safetensors": weights.bytes]
    }
}
