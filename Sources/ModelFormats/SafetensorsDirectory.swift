/// The safetensors files of a model directory: `model.safetensors`, or several that
/// `model.safetensors.index.json` names, with all their tensors.
struct SafetensorsDirectory {
    /// The files' names in the directory, in order.
    let names: [String]
    /// The files, in the order of their names.
    let paths: [String]
    /// Bytes of each when it was opened.
    let fileSizes: [UInt64]
    /// Tensors by name, each with the file that holds it, an index into `paths`.
    let tensors: [String: (tensor: SafetensorsTensor, fileIndex: Int)]

    private static let single = "model.safetensors"
    private static let index = "model.safetensors.index.json"
    /// Files of one model; the largest known have 163.
    private static let fileLimit = 4096

    /// Reads the headers of the files in `directory`.
    init(_ directory: HuggingFaceDirectory) throws(ModelFileError) {
        var names = [Self.single]
        var places: [String: String]?
        if !directory.has(Self.single) {
            guard let cursor = try directory.document(Self.index) else {
                throw ModelFileError(
                    path: directory.path,
                    message: "neither \(Self.single) nor \(Self.index) is there; give a directory "
                        + "with weights in safetensors, or a GGUF file")
            }
            let map = try Self.weightMap(cursor)
            names = Set(map.values).sorted()
            places = map
        }

        var paths: [String] = []
        var fileSizes: [UInt64] = []
        var tensors: [String: (tensor: SafetensorsTensor, fileIndex: Int)] = [:]
        for (fileIndex, name) in names.enumerated() {
            let file = try SafetensorsFile(source: try directory.source(name))
            paths.append(file.path)
            fileSizes.append(file.fileSize)
            for tensor in file.tensors {
                func error(_ message: String) -> ModelFileError {
                    ModelFileError(
                        path: file.path, field: "tensor '\(tensor.name)'",
                        offset: tensor.fileOffset, message: message)
                }
                if let places, places[tensor.name] != name {
                    throw error(
                        "\(Self.index) places it in "
                            + (places[tensor.name].map { "'\($0)'" } ?? "no file")
                            + "; the files are not those of one model: fetch them again")
                }
                guard tensors.updateValue((tensor, fileIndex), forKey: tensor.name) == nil else {
                    throw error("this name appears twice")
                }
            }
        }
        // The smallest, so that the same damage always gives the same message.
        let absent = places?.keys.filter { tensors[$0] == nil }.min()
        if let places, let absent, let name = places[absent] {
            throw ModelFileError(
                path: directory.path(of: Self.index), field: "tensor '\(absent)'",
                message: "it is not in '\(name)', where it should be; fetch the files again")
        }
        self.names = names
        self.paths = paths
        self.fileSizes = fileSizes
        self.tensors = tensors
    }

    /// The file of each tensor, as the index has it.
    private static func weightMap(
        _ document: JSONCursor
    ) throws(ModelFileError) -> [String: String] {
        var cursor = document
        var map: [String: String] = [:]
        var files: Set<String> = []
        try cursor.takeObject("the document") { cursor, name, _ throws(ModelFileError) in
            guard name == "weight_map" else { return try cursor.skip("'\(name)'") }
            try cursor.takeObject("'weight_map'") { cursor, tensor, _ throws(ModelFileError) in
                let field = "tensor '\(tensor)'"
                let at = cursor.offset
                let file = try cursor.takeString(field)
                guard isPlainName(file) else {
                    throw cursor.error(
                        field, at: at,
                        "expected the name of a .safetensors file in this directory, found '\(file)'"
                    )
                }
                files.insert(file)
                guard files.count <= fileLimit, map.count < 1 << 22 else {
                    throw cursor.error(
                        field, at: at, "expected at most \(fileLimit) files of a model, found more")
                }
                map[tensor] = file
            }
        }
        try cursor.finish()
        guard !map.isEmpty else {
            throw cursor.error("'weight_map'", at: 0, "expected files of tensors, found none")
        }
        return map
    }

    /// Whether `name` is the name of a safetensors file and leads nowhere else.
    private static func isPlainName(_ name: String) -> Bool {
        name.hasSuffix(".safetensors") && name.utf8.count <= 255
            && !name.utf8.contains { $0 == UInt8(ascii: "/") || $0 == 0 }
    }
}
