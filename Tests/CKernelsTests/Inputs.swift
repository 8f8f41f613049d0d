/// What the weights of a case look like.
enum WeightKind: CaseIterable {
    /// Random quants under a usual scale.
    case usual
    /// Quants with all bits clear, all set, or only their highest set, under a usual scale.
    case lowest, highest, negative
    /// Random quants under scales that are NaN, infinite, denormal, the largest, or zero.
    case extremeScales
    /// Blocks of random bytes, of zeros and of ones: nothing about them is usual.
    case randomBytes, zeros, ones
}

/// What the activations of a case look like.
enum ActivationKind: CaseIterable {
    case usual, zeros, largestOfBothSigns, allEqual, tiny, huge, withNaN, withInfinity, mixed
}

let extremeHalves: [UInt16] = [
    0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff,
]

let extremeFloats: [Float] = [
    0, -0.0, .leastNonzeroMagnitude, -Float.leastNormalMagnitude / 3, .leastNormalMagnitude,
    .greatestFiniteMagnitude,
    -.greatestFiniteMagnitude, .infinity, -.infinity, .nan, 1e-38, 1e-30, -0.99e-30, 88, -87, 1,
]

/// Fills `bytes` with whole blocks of `format`.
func fillWeights(
    _ bytes: Region<UInt8>, _ format: WeightFormat, _ kind: WeightKind,
    _ random: inout Seeded
) {
    for i in 0..<bytes.count {
        switch kind {
        case .lowest, .zeros: bytes[i] = 0
        case .highest, .ones: bytes[i] = 0xff
        case .negative: bytes[i] = 0x80
        case .usual, .extremeScales, .randomBytes:
            bytes[i] = UInt8(truncatingIfNeeded: random.next() >> 32)
        }
    }
    if kind == .randomBytes || kind == .zeros || kind == .ones { return }

    func put(_ half: UInt16, at offset: Int) {
        bytes[offset] = UInt8(truncatingIfNeeded: half)
        bytes[offset + 1] = UInt8(truncatingIfNeeded: half >> 8)
    }
    let extreme = kind == .extremeScales
    for block in stride(from: 0, to: bytes.count, by: format.bytesPerBlock) {
        let word = random.next() >> 16
        switch format {
        case .f32:
            let value = extreme ? extremeFloats[Int(word % 16)] : random.unit()
            put(UInt16(truncatingIfNeeded: value.bitPattern), at: block)
            put(UInt16(truncatingIfNeeded: value.bitPattern >> 16), at: block + 2)
        case .f16:
            put(extreme ? extremeHalves[Int(word % 12)] : UInt16(word % 0x1000) + 0x2c00, at: block)
        case .bf16:
            let value = extreme ? extremeFloats[Int(word % 16)] : random.unit()
            put(UInt16(value.bitPattern >> 16), at: block)
        case .mxfp4:
            bytes[block] = UInt8(
                extreme ? [0, 1, 2, 126, 254, 255][Int(word % 6)] : 120 + word % 8)
        case .q4_0, .q8_0, .q4_K, .q5_K, .q6_K, .iq4_xs:
            for scale in format.halfScales {
                put(
                    extreme
                        ? extremeHalves[Int((random.next() >> 16) % 12)]
                        : UInt16((random.next() >> 16) % 0x800) + 0x1c00,
                    at: block + scale)
            }
        }
    }
}

/// Fills `x` with activations.
func fillActivations(
    _ x: Region<Float>, _ kind: ActivationKind, _ random: inout Seeded
) {
    for i in 0..<x.count {
        let word = random.next() >> 16
        let unit = random.unit()
        x[i] =
            switch kind {
            case .usual: unit * 4
            case .zeros: 0
            case .largestOfBothSigns: word % 2 == 0 ? 3 : -3
            case .allEqual: -5
            case .tiny: unit * 1e-38
            case .huge: unit * 3e38
            case .withNaN: word % 61 == 0 ? .nan : unit
            case .withInfinity: word % 61 == 0 ? (word % 2 == 0 ? .infinity : -.infinity) : unit
            case .mixed: word % 3 == 0 ? extremeFloats[Int(word / 3 % 16)] : unit
            }
    }
}
