internal import CKernels

extension EngineState {
    /// Norms and turns queries and keys, and stores keys and values in the cache.
    func rotate(tokens: Range<Int>) {
        let queryWidth = unsafe headCount * headSize
        let keyWidth = unsafe keyValueHeadCount * headSize
        for token in tokens {
            let queries = unsafe query + token * queryWidth
            let keys = unsafe key + token * keyWidth
            let values = unsafe value + token * keyWidth
            if let queryNorm = unsafe layers[layer].queryNorm,
                let keyNorm = unsafe layers[layer].keyNorm
            {
                let whole = unsafe projectionNorm == .wholeProjection
                let span = unsafe kernels.table
                for head in unsafe 0..<(whole ? 1 : headCount) {
                    let row = unsafe queries + head * headSize
                    unsafe span.pointee.rms_norm(
                        row, queryNorm, UInt32(whole ? queryWidth : headSize), normEpsilon, row)
                }
                for head in unsafe 0..<(whole ? 1 : keyValueHeadCount) {
                    let row = unsafe keys + head * headSize
                    unsafe span.pointee.rms_norm(
                        row, keyNorm, UInt32(whole ? keyWidth : headSize), normEpsilon, row)
                }
            }
            let position = unsafe Int(positions[token])
            let sequence = unsafe Int(sequences[token])
            for head in unsafe 0..<headCount { unsafe turn(queries + head * headSize, position) }
            for head in unsafe 0..<keyValueHeadCount {
                unsafe turn(keys + head * headSize, position)
                let place =
                    unsafe cacheOffset(sequence: sequence, layer: layer, head: head)
                    + position * cacheRowBytes
                unsafe cacheKernels.pointee.store(
                    keys + head * headSize, UInt32(headSize), keyCache + place)
                unsafe cacheKernels.pointee.store(
                    values + head * headSize, UInt32(headSize), valueCache + place)
            }
        }
    }

    /// Copies the first `count` positions of one sequence's keys and values to another's.
    func copyPositions(_ count: Int, from source: Int, to target: Int) {
        let bytes = unsafe count * cacheRowBytes
        for layer in unsafe 0..<layerCount {
            for head in unsafe 0..<keyValueHeadCount {
                let from = unsafe cacheOffset(sequence: source, layer: layer, head: head)
                let to = unsafe cacheOffset(sequence: target, layer: layer, head: head)
                unsafe (keyCache + to).copyMemory(from: keyCache + from, byteCount: bytes)
                unsafe (valueCache + to).copyMemory(from: valueCache + from, byteCount: bytes)
            }
        }
    }

    /// The rows of a sequence's positions, each head's keys and then its values: where they lie in
    /// the cache, the bytes visited before, and how many these are.
    func visitRows(
        _ positions: Range<Int>, of sequence: Int,
        _ visit: (UnsafeMutableRawPointer, Int, Int) -> Void
    ) {
        let bytes = unsafe positions.count * cacheRowBytes
        var offset = 0
        for layer in unsafe 0..<layerCount {
            for head in unsafe 0..<keyValueHeadCount {
                let rows =
                    unsafe cacheOffset(sequence: sequence, layer: layer, head: head)
                    + positions.lowerBound * cacheRowBytes
                unsafe visit(keyCache + rows, offset, bytes)
                unsafe visit(valueCache + rows, offset + bytes, bytes)
                offset += 2 * bytes
            }
        }
    }

    /// Where a key-value head's rows begin in the cache, in bytes.
    func cacheOffset(sequence: Int, layer: Int, head: Int) -> Int {
        unsafe ((sequence * layerCount + layer) * keyValueHeadCount + head) * contextCapacity
            * cacheRowBytes
    }

    private func turn(_ x: UnsafeMutablePointer<Float>, _ position: Int) {
        let cosines = unsafe cosine + position * rotaryPairs
        let sines = unsafe sine + position * rotaryPairs
        let (step, partner) = unsafe rotatesNeighbours ? (2, 1) : (1, rotaryPairs)
        for pair in unsafe 0..<rotaryPairs {
            let low = pair * step
            let (a, b) = unsafe (x[low], x[low + partner])
            unsafe x[low] = a * cosines[pair] - b * sines[pair]
            unsafe x[low + partner] = b * cosines[pair] + a * sines[pair]
        }
    }
}
