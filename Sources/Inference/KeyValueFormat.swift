internal import CKernels

/// How keys and values are kept between tokens.
public enum KeyValueFormat: String, CaseIterable, Sendable {
    /// Half precision.
    case f16
    /// int8 with a half-precision scale for every 32, as in GGUF's Q8_0: 17/32 of the bytes.
    case q8_0
}

/// What a key-value cache keeps of a position: rows of each key-value head of each layer that looks
/// positions up.
struct KeyValueRows: Sendable {
    /// Index into `sluice_kernels.cache`.
    let kernel: Int
    /// Bytes of a key, and of a value.
    let keyBytes: Int
    let valueBytes: Int
    /// Whether values are the first elements of keys, and take no rows.
    let valuesAreKeys: Bool
    let layerCount: Int
    let headCount: Int

    /// - Throws: `EngineError` for a head that blocks of 32 do not fit.
    init(
        _ format: KeyValueFormat, arithmetic: Arithmetic, model: ModelDescription
    ) throws(EngineError) {
        layerCount = model.attentionLayerCount
        headCount = model.keyValueHeadCount
        valuesAreKeys = model.keepsLatents
        let bytes: (Int) -> Int
        switch (arithmetic, format) {
        case (.f32, _):
            kernel = Int(SLUICE_CACHE_F32)
            bytes = { $0 * 4 }
        case (.int8, .f16):
            kernel = Int(SLUICE_CACHE_F16)
            bytes = { $0 * 2 }
        case (.int8, .q8_0):
            for size in [model.headSize, model.valueSize] where size % 32 != 0 {
                throw EngineError(
                    "--kv q8_0 keeps heads in blocks of 32, but the model's \(valuesAreKeys ? "latents" : "heads") have "
                        + "\(size) elements; give --kv f16")
            }
            kernel = Int(SLUICE_CACHE_Q8_0)
            bytes = { $0 / 32 * 34 }
        }
        keyBytes = bytes(model.headSize)
        valueBytes = valuesAreKeys ? keyBytes : bytes(model.valueSize)
    }

    /// Bytes that the cache keeps of one position of a sequence.
    var bytesPerPosition: Int {
        layerCount * headCount * (valuesAreKeys ? keyBytes : keyBytes + valueBytes)
    }

    /// Where values begin, in a cache for so many positions.
    func valueOffset(positions: Int) -> Int {
        valuesAreKeys ? 0 : layerCount * headCount * keyBytes * positions
    }
}
