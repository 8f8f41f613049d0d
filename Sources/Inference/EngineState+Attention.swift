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
                    unsafe cacheRow(sequence: sequence, layer: layer, head: head)
                    + position * headSize
                unsafe store(keys + head * headSize, keyCache, place)
                unsafe store(values + head * headSize, valueCache, place)
            }
        }
    }

    /// One (token, head) task: softmax(q . K / sqrt(head size)) V over its sequence's positions up
    /// to the token's own.
    func attend(tasks: Range<Int>, _ worker: Int) {
        let group = unsafe headCount / keyValueHeadCount
        let scale = unsafe 1 / Float(headSize).squareRoot()
        let weights = unsafe scores + worker * contextCapacity
        let table = unsafe kernels.table
        for task in tasks {
            let (token, head) = unsafe (task / headCount, task % headCount)
            let count = unsafe Int(positions[token]) + 1
            let queries = unsafe query + task * headSize
            let out = unsafe mixed.floats + task * headSize
            let place = unsafe cacheRow(
                sequence: Int(sequences[token]), layer: layer, head: head / group)
            let (size, stride) = unsafe (UInt32(headSize), headSize)
            if unsafe keyValueIsFloat {
                let keys = unsafe keyCache.assumingMemoryBound(to: Float.self) + place
                unsafe table.pointee.scores_f32(
                    queries, keys, stride, UInt32(count), size, scale, weights)
            } else {
                let keys = unsafe keyCache.assumingMemoryBound(to: UInt16.self) + place
                unsafe table.pointee.scores_f16(
                    queries, keys, stride, UInt32(count), size, scale, weights)
            }
            let sum = unsafe table.pointee.softmax_exp(weights, UInt32(count))
            for index in 0..<count { unsafe weights[index] /= sum }
            if unsafe keyValueIsFloat {
                let values = unsafe valueCache.assumingMemoryBound(to: Float.self) + place
                unsafe table.pointee.mix_f32(weights, values, stride, UInt32(count), size, out)
            } else {
                let values = unsafe valueCache.assumingMemoryBound(to: UInt16.self) + place
                unsafe table.pointee.mix_f16(weights, values, stride, UInt32(count), size, out)
            }
        }
    }

    /// Copies the first `count` positions of one sequence's keys and values to another's.
    func copyPositions(_ count: Int, from source: Int, to target: Int) {
        let elementBytes = unsafe keyValueIsFloat ? 4 : 2
        for layer in unsafe 0..<layerCount {
            for head in unsafe 0..<keyValueHeadCount {
                let from = unsafe cacheRow(sequence: source, layer: layer, head: head)
                let to = unsafe cacheRow(sequence: target, layer: layer, head: head)
                let bytes = unsafe count * headSize * elementBytes
                unsafe (keyCache + to * elementBytes).copyMemory(
                    from: keyCache + from * elementBytes, byteCount: bytes)
                unsafe (valueCache + to * elementBytes).copyMemory(
                    from: valueCache + from * elementBytes, byteCount: bytes)
            }
        }
    }

    /// First element of a key-value head's rows in the cache.
    private func cacheRow(sequence: Int, layer: Int, head: Int) -> Int {
        unsafe ((sequence * layerCount + layer) * keyValueHeadCount + head) * contextCapacity
            * headSize
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

    private func store(
        _ row: UnsafeMutablePointer<Float>, _ cache: UnsafeMutableRawPointer, _ place: Int
    ) {
        if unsafe keyValueIsFloat {
            let target = unsafe cache.assumingMemoryBound(to: Float.self) + place
            unsafe target.update(from: row, count: headSize)
        } else {
            let target = unsafe cache.assumingMemoryBound(to: UInt16.self) + place
            unsafe kernels.table.pointee.to_f16(row, UInt32(headSize), target)
        }
    }
}
