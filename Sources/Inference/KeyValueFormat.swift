internal import CKernels

/// How keys and values are kept between tokens.
public enum KeyValueFormat: String, CaseIterable, Sendable {
    /// Half precision.
    case f16
    /// int8 with a half-precision scale for every 32, as in GGUF's Q8_0: 17/32 of the bytes.
    case q8_0
}

/// The rows of a key-value cache: one head's key or value at one position.
struct KeyValueRows: Sendable {
    /// Index into `sluice_kernels.cache`.
    let kernel: Int
    let byteCount: Int

    /// - Throws: `EngineError` for a head that blocks of 32 do not fit.
    init(_ format: KeyValueFormat, arithmetic: Arithmetic, headSize: Int) throws(EngineError) {
        switch (arithmetic, format) {
        case (.f32, _):
            kernel = Int(SLUICE_CACHE_F32)
            byteCount = headSize * 4
        case (.int8, .f16):
            kernel = Int(SLUICE_CACHE_F16)
            byteCount = headSize * 2
        case (.int8, .q8_0):
            guard headSize % 32 == 0 else {
                throw EngineError(
                    "--kv q8_0 keeps heads in blocks of 32, but the model's heads have \(headSize) "
                        + "elements; give --kv f16")
            }
            kernel = Int(SLUICE_CACHE_Q8_0)
            byteCount = headSize / 32 * 34
        }
    }
}
