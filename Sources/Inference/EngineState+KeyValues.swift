internal import CKernels

// The cache of keys and values, of the layers that look positions up:
//
//   keys    (sequences, layers with attention, key-value heads, context) rows of `keyRowBytes`
//   values  the same, with rows of `valueRowBytes`
//
// Latent attention has no values of their own: they are the first elements of the rows of keys.
extension EngineState {
    /// Completes the projections of a layer's input and puts what they are of a position into the
    /// cache.
    func rotate(tokens: Range<Int>) {
        switch unsafe layers[layer].attention {
        case .none: break
        case .heads(let heads):
            for token in tokens { unsafe rotate(token, heads) }
        case .latent(let latent):
            for token in tokens { unsafe keep(token, latent) }
        }
    }

    /// Norms and turns a token's queries and keys, and stores keys and values in the cache.
    private func rotate(_ token: Int, _ heads: HeadAttention) {
        let table = unsafe kernels.table
        let stride = unsafe layers[layer].lookup.queryStride
        let (queryWidth, keyWidth, valueWidth) = unsafe (
            headCount * stride, keyValueHeadCount * headSize, keyValueHeadCount * valueSize
        )
        let queries = unsafe query + token * queryWidth
        let keys = unsafe key + token * keyWidth
        let values = unsafe value + token * valueWidth
        unsafe add(heads.queryBias, queryWidth, to: queries)
        unsafe add(heads.keyBias, keyWidth, to: keys)
        unsafe add(heads.valueBias, valueWidth, to: values)
        if let queryNorm = unsafe heads.queryNorm, let keyNorm = unsafe heads.keyNorm {
            let whole = unsafe heads.norm == .wholeProjection
            for head in unsafe 0..<(whole ? 1 : headCount) {
                let row = unsafe queries + head * stride
                unsafe table.pointee.rms_norm(
                    row, queryNorm, UInt32(whole ? queryWidth : headSize), normEpsilon, row)
            }
            for head in unsafe 0..<(whole ? 1 : keyValueHeadCount) {
                let row = unsafe keys + head * headSize
                unsafe table.pointee.rms_norm(
                    row, keyNorm, UInt32(whole ? keyWidth : headSize), normEpsilon, row)
            }
        }
        let position = unsafe Int(positions[token])
        if unsafe heads.rotates {
            for head in unsafe 0..<headCount { unsafe turn(queries + head * stride, position) }
            for head in unsafe 0..<keyValueHeadCount {
                unsafe turn(keys + head * headSize, position)
            }
        }
        for head in unsafe 0..<keyValueHeadCount {
            let row =
                unsafe position
                + cacheRow(
                    sequence: Int(sequences[token]), layer: layers[layer].lookup.cacheIndex,
                    head: head)
            unsafe cacheKernels.pointee.store(
                keys + head * headSize, UInt32(headSize), keyCache + row * keyRowBytes)
            unsafe cacheKernels.pointee.store(
                values + head * valueSize, UInt32(valueSize), valueCache + row * valueRowBytes)
        }
    }

    /// Copies the first `count` positions of one sequence's keys and values to another's.
    func copyPositions(_ count: Int, from source: Int, to target: Int) {
        for layer in unsafe 0..<attentionLayerCount {
            for head in unsafe 0..<keyValueHeadCount {
                let from = unsafe cacheRow(sequence: source, layer: layer, head: head)
                let to = unsafe cacheRow(sequence: target, layer: layer, head: head)
                unsafe (keyCache + to * keyRowBytes).copyMemory(
                    from: keyCache + from * keyRowBytes, byteCount: count * keyRowBytes)
                if unsafe valuesAreKeys { continue }
                unsafe (valueCache + to * valueRowBytes).copyMemory(
                    from: valueCache + from * valueRowBytes, byteCount: count * valueRowBytes)
            }
        }
    }

    /// The rows of a sequence's positions, each head's keys and then its values: where they lie in
    /// the cache, the bytes visited before, and how many these are.
    func visitRows(
        _ positions: Range<Int>, of sequence: Int,
        _ visit: (UnsafeMutableRawPointer, Int, Int) -> Void
    ) {
        let (keyBytes, valueBytes) = unsafe (
            positions.count * keyRowBytes, valuesAreKeys ? 0 : positions.count * valueRowBytes
        )
        var offset = 0
        for layer in unsafe 0..<attentionLayerCount {
            for head in unsafe 0..<keyValueHeadCount {
                let row =
                    unsafe cacheRow(sequence: sequence, layer: layer, head: head)
                    + positions.lowerBound
                unsafe visit(keyCache + row * keyRowBytes, offset, keyBytes)
                offset += keyBytes
                if valueBytes == 0 { continue }
                unsafe visit(valueCache + row * valueRowBytes, offset, valueBytes)
                offset += valueBytes
            }
        }
    }

    /// The first of a key-value head's rows in the cache.
    ///
    /// - Parameter layer: among those that look positions up.
    func cacheRow(sequence: Int, layer: Int, head: Int) -> Int {
        unsafe ((sequence * attentionLayerCount + layer) * keyValueHeadCount + head)
            * contextCapacity
    }

    /// Turns the first elements of a head by its position.
    func turn(_ x: UnsafeMutablePointer<Float>, _ position: Int) {
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

    /// x += bias, where there is one.
    func add(_ bias: UnsafePointer<Float>?, _ count: Int, to x: UnsafeMutablePointer<Float>) {
        guard let bias = unsafe bias else { return }
        unsafe kernels.table.pointee.add_scaled(bias, 1, UInt32(count), x)
    }
}
