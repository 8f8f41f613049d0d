/// How a model is split into files, as one of them tells: by `split.no` (from 0), `split.count` and
/// `split.tensors.count`, and by its name, `PREFIX-00001-of-00003.gguf` (from 1).
struct GGUFSplit {
    static let numberKey = "split.no"
    static let countKey = "split.count"
    static let tensorCountKey = "split.tensors.count"

    /// The number of the file that tells, from 0.
    let number: Int
    /// All the files, in order.
    let paths: [String]

    /// What `part` tells; nil when it is a whole model.
    init?(of part: GGUFPart) throws(ModelFileError) {
        let metadata = part.metadata
        guard let count = try metadata.integer(Self.countKey) else { return nil }
        guard count >= 0, count <= 99_999 else {
            throw metadata.error(Self.countKey, "expected 0 to 99999, found \(count)")
        }
        let number = try metadata.integer(Self.numberKey)
        if count <= 1 {
            guard number ?? 0 == 0 else {
                throw metadata.error(Self.numberKey, "expected 0 in a model of one file")
            }
            return nil
        }
        guard let number, number >= 0, number < count else {
            throw metadata.error(
                Self.numberKey,
                "expected 0 to \(count - 1) in a model of \(count) files, found "
                    + (number.map { String($0) } ?? "none"))
        }
        let ending = Self.ending(number: number, count: count)
        let bytes = part.path.utf8
        guard bytes.suffix(ending.utf8.count).elementsEqual(ending.utf8) else {
            throw metadata.error(
                Self.numberKey,
                "file \(number + 1) of \(count) must have a name that ends in \(ending); "
                    + "give the files their names back")
        }
        self.number = number
        let prefix = String(bytes.dropLast(ending.utf8.count)) ?? ""
        paths = (0..<count).map { prefix + Self.ending(number: $0, count: count) }
    }

    /// Refuses `part` unless it is number `number` of this model.
    func check(_ part: GGUFPart, number: Int) throws(ModelFileError) {
        let metadata = part.metadata
        let count = try metadata.integer(Self.countKey)
        guard count == paths.count else {
            throw metadata.error(
                Self.countKey,
                "expected \(paths.count) as in the other files, found "
                    + (count.map { String($0) } ?? "none"))
        }
        let found = try metadata.integer(Self.numberKey)
        guard found == number else {
            throw metadata.error(
                Self.numberKey,
                "expected \(number) in this file, found " + (found.map { String($0) } ?? "none"))
        }
    }

    /// Refuses files that together do not have as many tensors as they say.
    func checkTensorCount(of parts: [GGUFPart]) throws(ModelFileError) {
        let total = parts.reduce(0) { $0 + $1.tensors.count }
        for part in parts {
            guard let stated = try part.metadata.integer(Self.tensorCountKey) else { continue }
            guard stated == total else {
                throw part.metadata.error(
                    Self.tensorCountKey,
                    "expected the \(total) tensors of the \(parts.count) files, found \(stated)")
            }
        }
    }

    private static func ending(number: Int, count: Int) -> String {
        "-\(fiveDigits(number + 1))-of-\(fiveDigits(count)).gguf"
    }

    private static func fiveDigits(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
}
