internal import Glibc
internal import Tokenization

/// Logarithms of probabilities, from logits as the model gives them.
struct Logprobs {
    let tokenizer: Tokenizer
    /// Spells control tokens out, as the text does.
    let rendersSpecial: Bool

    /// The logprob of `id` and of the `top` likeliest tokens: log softmax, in double precision. A
    /// logit that is not a number counts as minus infinity.
    func of(_ id: Int32, top count: Int, _ logits: UnsafeBufferPointer<Float>) -> TokenLogprob {
        var largest = -Float.infinity
        for index in 0..<logits.count where unsafe logits[index] > largest {
            largest = unsafe logits[index]
        }
        var total = 0.0
        if largest.isFinite {
            for index in 0..<logits.count where unsafe !logits[index].isNaN {
                total += unsafe exp(Double(logits[index]) - Double(largest))
            }
        }
        let shift = Double(largest) + log(total)
        func logprob(_ id: Int32) -> Float {
            let value = unsafe Double(logits[Int(id)]) - shift
            // What JSON cannot say is said as the smallest float.
            return value.isFinite ? Float(value) : -.greatestFiniteMagnitude
        }
        var ranked: [Int32] = []
        for index in 0..<logits.count where unsafe !logits[index].isNaN {
            if ranked.count == count {
                guard let last = ranked.last, unsafe logits[index] > logits[Int(last)] else {
                    continue
                }
                ranked.removeLast()
            }
            let place =
                ranked.lastIndex { unsafe logits[Int($0)] >= logits[index] }.map { $0 + 1 } ?? 0
            ranked.insert(Int32(index), at: place)
        }
        return TokenLogprob(
            id: id, bytes: bytes(of: id), logprob: logprob(id),
            top: ranked.map {
                TokenLogprob.Alternative(id: $0, bytes: bytes(of: $0), logprob: logprob($0))
            })
    }

    private func bytes(of id: Int32) -> [UInt8] {
        tokenizer.bytes(of: id, renderSpecial: rendersSpecial)
    }
}
