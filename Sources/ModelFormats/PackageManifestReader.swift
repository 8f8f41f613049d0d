/// Checks what a manifest says, before anything is used: every number in its range, every size what
/// follows from the shapes, every tensor in its region.
struct PackageManifestReader {
    let manifest: PackageManifest
    let path: String
    /// The manifest's place in the file.
    let offset: UInt64

    /// Checks everything but the tensors.
    func checkShapes() throws(ModelFileError) {
        guard (1...PackageLimits.experts).contains(manifest.expertCount) else {
            throw failure(
                "expert_count",
                "expected 1 to \(PackageLimits.experts), found \(manifest.expertCount)")
        }
        guard (1...PackageLimits.layers).contains(manifest.layers.count),
            manifest.layers.count * manifest.expertCount <= PackageLimits.records
        else {
            throw failure(
                "layers",
                "\(manifest.layers.count) layers of \(manifest.expertCount) experts: at most "
                    + "\(PackageLimits.layers) layers and \(PackageLimits.records) experts are allowed"
            )
        }
        var previousBlock = -1
        for (index, layer) in manifest.layers.enumerated() {
            guard layer.block > previousBlock, layer.block < PackageLimits.layers else {
                throw failure(
                    "layers[\(index)].block",
                    "expected more than \(previousBlock) and less than "
                        + "\(PackageLimits.layers), found \(layer.block)")
            }
            previousBlock = layer.block
            try check(layer, "layers[\(index)]")
        }
    }

    private func check(
        _ layer: PackageManifest.Layer, _ place: String
    ) throws(ModelFileError) {
        guard layer.parts.map(\.role) == ["gate", "up", "down"] else {
            throw failure("\(place).parts", "expected gate, up and down")
        }
        guard (1...PackageLimits.planes).contains(layer.planes.count) else {
            throw failure(
                "\(place).planes",
                "expected 1 to \(PackageLimits.planes), found \(layer.planes.count)")
        }
        for (index, plane) in layer.planes.enumerated() {
            try check(plane, parts: layer.parts.count, "\(place).planes[\(index)]")
        }
        for (index, part) in layer.parts.enumerated() {
            let place = "\(place).parts[\(index)]"
            let format = try format(part.format, "\(place).format")
            for length in [part.rows, part.columns] {
                guard (1...PackageLimits.dimension).contains(length) else {
                    throw failure(
                        place,
                        "\(part.rows) rows of \(part.columns): expected 1 to "
                            + "\(PackageLimits.dimension)")
                }
            }
            guard part.columns % format.elementsPerBlock == 0 else {
                throw failure(
                    place,
                    "\(part.columns) columns are no multiple of \(format.elementsPerBlock), as "
                        + "\(format.name) needs")
            }
            guard manifest.nested ? part.lowFormat == nil : part.bits == nil else {
                throw failure(
                    place,
                    "has \(manifest.nested ? "a low_format" : "bits"), although 'nested' is "
                        + "\(manifest.nested)")
            }
            let pieces = layer.planes.map { $0.parts[index].bytes }
            if let bits = part.bits {
                let used = pieces.prefix { $0 > 0 }.count
                guard bits.count == used, bits.allSatisfy({ (1...8).contains($0) }),
                    pieces[used...].allSatisfy({ $0 == 0 })
                else {
                    throw failure(
                        place, "bits \(bits) do not fit pieces of \(pieces) bytes in the planes")
                }
            } else {
                // No overflow: 2^24 rows of 2^24 columns are below 2^51 bytes.
                let whole = format.byteCount(elements: part.columns) * part.rows
                var expected = [whole] + [Int](repeating: 0, count: pieces.count - 1)
                if !manifest.nested {
                    let low = try self.format(part.lowFormat ?? "", "\(place).low_format")
                    guard part.columns % low.elementsPerBlock == 0 else {
                        throw failure(
                            place,
                            "\(part.columns) columns are no multiple of \(low.elementsPerBlock), as "
                                + "\(low.name) needs")
                    }
                    expected = [low.byteCount(elements: part.columns) * part.rows, whole]
                }
                guard pieces == expected else {
                    throw failure(
                        place,
                        "\(part.rows) rows of \(part.columns) in \(format.name) need \(expected) "
                            + "bytes in the planes, which have \(pieces)")
                }
            }
        }
    }

    private func check(
        _ plane: PackageManifest.Plane, parts: Int, _ place: String
    ) throws(ModelFileError) {
        guard plane.parts.count == parts else {
            throw failure("\(place).parts", "expected \(parts), found \(plane.parts.count)")
        }
        guard (0...PackageLimits.planeBytes).contains(plane.bytes) else {
            throw failure(
                "\(place).bytes",
                "expected 0 to \(PackageLimits.planeBytes), found \(plane.bytes)")
        }
        for piece in plane.parts {
            guard (0...PackageLimits.planeBytes).contains(piece.bytes) else {
                throw failure(
                    "\(place).parts",
                    "expected 0 to \(PackageLimits.planeBytes) bytes, found \(piece.bytes)")
            }
        }
        // The places follow from the sizes: stated all the same, for readers in other languages.
        let expected = PackageManifest.Plane(partBytes: plane.parts.map(\.bytes))
        guard plane == expected else {
            throw failure(
                place,
                "parts of \(plane.parts.map(\.bytes)) bytes lie at "
                    + "\(expected.parts.map(\.offset)) in \(expected.bytes) bytes, not at "
                    + "\(plane.parts.map(\.offset)) in \(plane.bytes)")
        }
    }

    /// The resident tensors; each lies in `region`, behind the one before it.
    func tensors(in region: PackageExtent) throws(ModelFileError) -> [GGUFTensor] {
        guard manifest.tensors.count <= PackageLimits.tensors else {
            throw failure(
                "tensors",
                "expected at most \(PackageLimits.tensors), found \(manifest.tensors.count)")
        }
        var names: Set<String> = []
        var tensors: [GGUFTensor] = []
        tensors.reserveCapacity(manifest.tensors.count)
        var end = region.offset
        for (index, entry) in manifest.tensors.enumerated() {
            let place = "tensors[\(index)]"
            guard (1...Int(GGUFLimits.tensorNameBytes)).contains(entry.name.utf8.count),
                names.insert(entry.name).inserted
            else {
                throw failure(
                    "\(place).name",
                    "expected a name of 1 to \(GGUFLimits.tensorNameBytes) bytes that appears once")
            }
            let tensor = try tensor(entry, place)
            let stored = UInt64(tensor.storage?.storedBytes(tensor.byteCount) ?? 0)
            guard entry.offset % UInt64(PackageFormat.line) == 0, entry.offset >= end,
                entry.offset <= region.end, stored <= region.end - entry.offset
            else {
                throw failure(
                    "\(place).offset",
                    "tensor '\(entry.name)', \(stored) bytes at \(entry.offset), does not lie at a "
                        + "multiple of \(PackageFormat.line) between \(end) and the end of the resident "
                        + "region at \(region.end)")
            }
            end = entry.offset + stored
            tensors.append(tensor)
        }
        return tensors
    }

    private func tensor(
        _ entry: PackageManifest.Tensor, _ place: String
    ) throws(ModelFileError) -> GGUFTensor {
        let format = try format(entry.format, "\(place).format")
        guard entry.shape.count <= Int(GGUFLimits.dimensions), entry.shape.allSatisfy({ $0 > 0 })
        else {
            throw failure("\(place).shape", "expected at most 4 lengths above 0")
        }
        var elements = 1
        for length in entry.shape {
            let (product, overflow) = elements.multipliedReportingOverflow(by: length)
            guard !overflow else {
                throw failure("\(place).shape", "more elements than can be counted")
            }
            elements = product
        }
        let (bytes, overflow) = (elements / format.elementsPerBlock)
            .multipliedReportingOverflow(by: format.bytesPerBlock)
        guard !overflow, (entry.shape.first ?? 1) % format.elementsPerBlock == 0,
            bytes == entry.bytes
        else {
            throw failure(
                "\(place).bytes",
                "shape \(entry.shape) in \(format.name) does not have \(entry.bytes) "
                    + "bytes")
        }
        if let frames = entry.frames {
            let count = (bytes - 1) / TensorStorage.frameBytes + 1
            guard frames.count == count,
                frames.allSatisfy({ (1...PackageLimits.frameBytes).contains($0) })
            else {
                throw failure(
                    "\(place).frames", "expected \(count) of 1 to \(PackageLimits.frameBytes) bytes"
                )
            }
        }
        return GGUFTensor(
            name: entry.name, shape: entry.shape, format: format, fileIndex: 0,
            fileOffset: entry.offset, byteCount: bytes, elementCount: elements,
            storage: TensorStorage(checksum: entry.crc32c, frames: entry.frames ?? []))
    }

    private func format(_ name: String, _ place: String) throws(ModelFileError) -> BlockFormat {
        guard let format = BlockFormat.allCases.first(where: { $0.name == name }) else {
            throw failure(
                place,
                "'\(name)' is not supported; use a package with one of "
                    + BlockFormat.allCases.map(\.name).joined(separator: " "))
        }
        return format
    }

    private func failure(_ place: String, _ message: String) -> ModelFileError {
        ModelFileError(
            path: path, field: "manifest \(place)", offset: offset, message: message)
    }
}
