/// A tensor as the header describes it, before its place in the file is known.
struct GGUFTensorDescription {
    let name: String
    let shape: [Int]
    let format: BlockFormat
    /// From the start of the data.
    let offset: UInt64
    let byteCount: Int
    let elementCount: Int
    /// Where in the header the name and the offset stand, for errors.
    let nameAt: Int
    let offsetAt: Int

    /// Takes the description of tensor number `index`.
    init(_ cursor: inout GGUFCursor, index: UInt64) throws(ModelFileError) {
        nameAt = cursor.position
        let name = try cursor.takeName(
            limit: GGUFLimits.tensorNameBytes, "name of tensor \(index)")
        self.name = name
        let field = "tensor '\(name)'"

        let dimensionsAt = cursor.position
        let dimensions = try cursor.takeUInt32(field)
        guard dimensions <= GGUFLimits.dimensions else {
            throw cursor.error(
                field, at: dimensionsAt,
                "expected at most \(GGUFLimits.dimensions) dimensions, found \(dimensions)")
        }
        var shape: [Int] = []
        var elementCount = 1
        for dimension in 0..<dimensions {
            let at = cursor.position
            let length = try cursor.takeUInt64("\(field) dimension \(dimension)")
            guard length > 0, let length = Int(exactly: length) else {
                throw cursor.error(
                    "\(field) dimension \(dimension)", at: at,
                    "expected a length from 1 to \(Int.max), found \(length)")
            }
            let (product, overflow) = elementCount.multipliedReportingOverflow(by: length)
            guard !overflow else {
                throw cursor.error(
                    "\(field) dimension \(dimension)", at: at,
                    "\(elementCount) times \(length) elements are more than can be counted; "
                        + "the file is damaged")
            }
            shape.append(length)
            elementCount = product
        }
        self.shape = shape
        self.elementCount = elementCount

        let typeAt = cursor.position
        let type = try cursor.takeUInt32(field)
        guard let format = BlockFormat(rawValue: type) else {
            let found = ggmlTypeName(type).map { "\($0) (\(type))" } ?? "type number \(type)"
            throw cursor.error(
                field, at: typeAt,
                "\(found) is not supported; use a file with one of "
                    + BlockFormat.allCases.map(\.name).joined(separator: " "))
        }
        self.format = format

        let columns = shape.first ?? 1
        guard columns % format.elementsPerBlock == 0 else {
            throw cursor.error(
                field, at: dimensionsAt,
                "expected rows of a multiple of \(format.elementsPerBlock) elements for "
                    + "\(format.name), found \(columns)")
        }
        let (byteCount, overflow) = (elementCount / format.elementsPerBlock)
            .multipliedReportingOverflow(by: format.bytesPerBlock)
        guard !overflow else {
            throw cursor.error(
                field, at: dimensionsAt,
                "\(elementCount) elements of \(format.name) are more bytes than can be counted; "
                    + "the file is damaged")
        }
        self.byteCount = byteCount

        offsetAt = cursor.position
        offset = try cursor.takeUInt64(field)
    }
}
