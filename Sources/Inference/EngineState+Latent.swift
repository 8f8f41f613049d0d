internal import CKernels
internal import ModelFormats
internal import Quantization

// Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): of a position one vector is kept,
// the latent c, from which every head's keys and values follow, and one part of a key that is turned
// and serves all heads. Keys and values are never made. With U the head's key rows, W its value rows,
//
//   q . (U c) = (transposed U q) . c      and      sum of p (W c) = W (sum of p c)
//
// so each query is brought into the latent space, where all heads meet the same rows, and so is the
// result brought back:
//
//   cache row    [ c, normed (rank) | key part, turned ]      its first elements serve as the value
//   query        [ transposed U q   | query part, turned ]    of each head
//   answer       sum of softmax(...) c                        (T, heads, rank)
//   mixed        W answer                                     (T, heads x value size)
extension EngineState {
    /// Rows of keys that are decoded at once, where a file has them untransposed.
    static let decodedRows = 16

    /// Norms the latents of a token's query and of its position, turns the key part and stores both.
    func keep(_ token: Int, _ latent: LatentHeads) {
        let table = unsafe kernels.table
        if let queryNorm = unsafe latent.queryNorm {
            let row = unsafe queryLatent.floats + token * queryLatent.length
            unsafe table.pointee.rms_norm(
                row, queryNorm, UInt32(queryLatent.length), normEpsilon, row)
            unsafe queryLatent.quantise(token, table)
        }
        let row = unsafe key + token * headSize
        unsafe table.pointee.rms_norm(
            row, latent.keyValueNorm, UInt32(latent.rank), normEpsilon, row)
        let position = unsafe Int(positions[token])
        unsafe turn(row + latent.rank, position)
        let place =
            unsafe position
            + cacheRow(
                sequence: Int(sequences[token]), layer: layers[layer].lookup.cacheIndex, head: 0)
        unsafe cacheKernels.pointee.store(row, UInt32(headSize), keyCache + place * keyRowBytes)
    }

    /// Queries from their latents, where they have some.
    func latentQuery(_ worker: Int) {
        guard case .latent(let latent) = unsafe layers[layer].attention else { return }
        while let unit = unsafe queue.take(worker) {
            unsafe multiply(latent.query, unit, queryLatent, headQueries, worker)
        }
    }

    /// Brings the queries of all tokens into the latent space and turns them, head by head.
    func absorb(_ worker: Int) {
        guard case .latent(let latent) = unsafe layers[layer].attention else { return }
        while let head = unsafe queue.take(worker) {
            for token in unsafe 0..<tokens {
                let task = unsafe token * headCount + head
                let own = unsafe headQueries + task * (latent.plainSize + latent.turnedSize)
                let turned = unsafe query + task * headSize + latent.rank
                unsafe turned.update(from: own + latent.plainSize, count: latent.turnedSize)
                unsafe turn(turned, Int(positions[token]))
            }
            switch unsafe latent.keyUp {
            case .transposed(let matrix):
                unsafe absorb(head, latent, transposed: matrix, worker)
            case .rows(let matrix, let stride):
                unsafe absorb(head, latent, rows: matrix.rows(from: head * stride), worker)
            }
        }
    }

    private func absorb(
        _ head: Int, _ latent: LatentHeads, transposed matrix: Matrix, _ worker: Int
    ) {
        for token in unsafe 0..<tokens {
            let task = unsafe token * headCount + head
            unsafe (plainQueries.floats + task * latent.plainSize).update(
                from: headQueries + task * (latent.plainSize + latent.turnedSize),
                count: latent.plainSize)
            unsafe plainQueries.quantise(task, kernels.table)
        }
        let kind = unsafe matrix.path.input
        unsafe matrix.rows(from: head * latent.rank).multiply(
            kernels, rows: 0..<latent.rank, x: plainQueries.row(kind, head),
            xStride: headCount * plainQueries.strideBytes(kind), tokens: tokens,
            y: query + head * headSize, yStride: headCount * headSize,
            rowBuffer: rowBuffers + worker * rowBufferLength)
    }

    /// query = sum of plain query[i] x row i, in order of i: each row is decoded once for all tokens.
    private func absorb(_ head: Int, _ latent: LatentHeads, rows matrix: Matrix, _ worker: Int) {
        let stride = unsafe headCount * headSize
        let target = unsafe query + head * headSize
        let width = unsafe latent.plainSize + latent.turnedSize
        let own = unsafe headQueries + head * width
        for token in unsafe 0..<tokens {
            unsafe (target + token * stride).update(repeating: 0, count: latent.rank)
        }
        // Sums of rows by weight are what attention makes of values; formats that a cache may have
        // are read as they are.
        let direct: UnsafePointer<sluice_cache_kernels>? =
            switch unsafe matrix.format {
            case .f32: unsafe kernels.cache + Int(SLUICE_CACHE_F32)
            case .f16: unsafe kernels.cache + Int(SLUICE_CACHE_F16)
            case .q8_0: unsafe kernels.cache + Int(SLUICE_CACHE_Q8_0)
            default: nil
            }
        if let direct = unsafe direct {
            unsafe direct.pointee.mix(
                own, headCount * width, UInt32(tokens), matrix.weights, matrix.rowBytes,
                UInt32(latent.plainSize), UInt32(latent.rank), target, stride)
            return
        }
        let floats = unsafe kernels.cache + Int(SLUICE_CACHE_F32)
        let buffer = unsafe rowBuffers + worker * rowBufferLength
        for first in unsafe Swift.stride(
            from: 0, to: latent.plainSize, by: EngineState.decodedRows)
        {
            let count = unsafe min(EngineState.decodedRows, latent.plainSize - first)
            for row in 0..<count {
                unsafe BlockDecoder.decode(
                    matrix.format, from: matrix.weights + (first + row) * matrix.rowBytes,
                    elements: latent.rank, into: buffer + row * latent.rank)
            }
            unsafe floats.pointee.mix(
                own + first, headCount * width, UInt32(tokens), buffer, latent.rank * 4,
                UInt32(count), UInt32(latent.rank), target, stride)
        }
    }

    /// Brings the answers of all tokens back from the latent space, head by head.
    func expand(_ worker: Int) {
        guard case .latent(let latent) = unsafe layers[layer].attention else { return }
        let kind = unsafe latent.valueUp.path.input
        while let head = unsafe queue.take(worker) {
            for token in unsafe 0..<tokens {
                unsafe latentAnswers.quantise(token * headCount + head, kernels.table)
            }
            unsafe latent.valueUp.rows(from: head * latent.valueUpStride).multiply(
                kernels, rows: 0..<latent.valueSize, x: latentAnswers.row(kind, head),
                xStride: headCount * latentAnswers.strideBytes(kind), tokens: tokens,
                y: mixed.floats + head * latent.valueSize, yStride: mixed.length,
                rowBuffer: rowBuffers + worker * rowBufferLength)
        }
    }
}
