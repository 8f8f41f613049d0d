// Dot products of the quantised formats with AVX2.
//
// vpmaddubsw multiplies unsigned by signed bytes and adds pairs into 16 bits, saturating; every
// pair formed here stays within 16 bits, with the interval beside it. Weights that are small by
// nature stay unsigned, by an offset whose share is taken off again through the sums of the
// activations; weights that use all eight bits lend their sign to the activation instead. All of it
// is exact integers.

SLUICE_INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

SLUICE_INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

// 16 bytes in both halves.
SLUICE_INLINE __m256i both(__m128i v) { return _mm256_broadcastsi128_si256(v); }

// 16 bytes of nibbles as 32: the low ones, then the high ones. [0 .. 15]
SLUICE_INLINE __m256i nibbles_of(__m128i v) {
    __m256i joined = _mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1);
    return _mm256_and_si256(joined, _mm256_set1_epi8(15));
}

// The sums of the lanes of a, b, c and d, one after the other.
SLUICE_INLINE __m128i add_lanes(__m256i a, __m256i b, __m256i c, __m256i d) {
    __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

// The sums of the lanes of eight vectors.
SLUICE_INLINE __m256i add_eight(const __m256i v[8]) {
    __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(
        _mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

// Products of signed weights, |w| <= 128, summed in pairs: within 2 * 128 * 127 = 32512.
SLUICE_INLINE __m256i signed_pairs(__m256i w, __m256i q) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}

// s plus the sums of four products of unsigned by signed bytes; without VNNI, of pairs within 16
// bits.
SLUICE_INLINE __m256i add_dots(__m256i s, __m256i w, __m256i q) {
#if SLUICE_VNNI
    return _mm256_dpbusd_avx_epi32(s, w, q);
#else
    __m256i pairs = _mm256_maddubs_epi16(w, q);
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

// s plus the sums of two products of 16-bit numbers.
SLUICE_INLINE __m256i add_scaled_pairs(__m256i s, __m256i pairs, __m256i factors) {
#if SLUICE_VNNI
    return _mm256_dpwssd_avx_epi32(s, pairs, factors);
#else
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, factors));
#endif
}

// MARK: Planes

// Bits of a where the mask has ones, of b elsewhere.
SLUICE_INLINE __m256i choose(__m256i mask, __m256i a, __m256i b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
}

// The integers of a unit of row r, 32 in each vector, in order: plane after plane moves up to make
// room for the next one's bits.
SLUICE_INLINE void planar_weights(
    const tile_planes *planes, uint32_t shape, int r, uint32_t unit, __m256i u[8]) {
    uint32_t merged = planes_to_merge(shape);
    for (int k = 0; k < 8; k++) u[k] = _mm256_setzero_si256();
    if (merged != 0) {
        __m256i low[2];
        if (merged == 2) {
            for (int h = 0; h < 2; h++) {
                low[h] = load_256(planes->row[1][r] + (size_t)unit * 64 + 32 * h);
            }
        } else {
            __m256i high_bit = load_256(planes->row[1][r] + (size_t)unit * 32);
            __m256i low_bit = load_256(planes->row[2][r] + (size_t)unit * 32);
            const __m256i even = _mm256_set1_epi8(0x55);
            low[0] = choose(even, low_bit, _mm256_add_epi8(high_bit, high_bit));
            low[1] = choose(even, _mm256_srli_epi16(low_bit, 1), high_bit);
        }
        const __m256i pairs = _mm256_set1_epi8(0x33), nibbles = _mm256_set1_epi8(15);
        for (int h = 0; h < 2; h++) {
            __m256i high = load_256(planes->row[0][r] + (size_t)unit * 64 + 32 * h);
            __m256i even = choose(pairs, low[h], _mm256_slli_epi16(high, 2));
            __m256i odd = choose(pairs, _mm256_srli_epi16(low[h], 2), high);
            u[h] = _mm256_and_si256(even, nibbles);
            u[2 + h] = _mm256_and_si256(odd, nibbles);
            u[4 + h] = _mm256_and_si256(_mm256_srli_epi16(even, 4), nibbles);
            u[6 + h] = _mm256_and_si256(_mm256_srli_epi16(odd, 4), nibbles);
        }
    }
    SLUICE_FOR_PLANES(shape, merged, p, bits) {
        const uint8_t *plane = planes->row[p][r] + (size_t)unit * 32 * bits;
        if (bits == 4) {
            for (int k = 0; k < 8; k++) {
                __m256i v = _mm256_srli_epi16(load_256(plane + 32 * (k % 4)), 4 * (k / 4));
                v = _mm256_and_si256(v, _mm256_set1_epi8(15));
                u[k] = _mm256_or_si256(_mm256_slli_epi16(u[k], 4), v);
            }
        } else if (bits == 2) {
            for (int k = 0; k < 8; k++) {
                __m256i v = _mm256_srli_epi16(load_256(plane + 32 * (k % 2)), 2 * (k / 2));
                v = _mm256_and_si256(v, _mm256_set1_epi8(3));
                u[k] = _mm256_or_si256(_mm256_slli_epi16(u[k], 2), v);
            }
        } else {
            __m256i v = load_256(plane);
            for (int k = 0; k < 8; k++) {
                __m256i bit = _mm256_and_si256(_mm256_srli_epi16(v, k), _mm256_set1_epi8(1));
                u[k] = _mm256_or_si256(_mm256_add_epi8(u[k], u[k]), bit);
            }
        }
    }
}

// MARK: Blocks of 32: Q4_0, Q8_0, MXFP4

// Eight blocks are taken at a time, as there are eight accumulators.
enum { eight_q4_0, eight_q8_0, eight_mxfp4, eight_planar };

// Of planes only the scales are in one piece with those of the next block.
SLUICE_INLINE size_t eight_stride(int format) {
    return format == eight_q4_0     ? 18
           : format == eight_q8_0   ? 34
           : format == eight_planar ? 2
                                    : 17;
}

// Q8_0, and planes that may add up to it, are left signed.
SLUICE_INLINE int is_signed(int format) { return format == eight_q8_0 || format == eight_planar; }

// What was added to the weights to make them unsigned.
SLUICE_INLINE int eight_offset(int format) {
    return format == eight_q4_0 ? 8 : is_signed(format) ? 0 : 12;
}

SLUICE_INLINE __m256i eight_weights(int format, const uint8_t *block) {
    if (format == eight_q8_0) return load_256(block + 2);
    if (format == eight_q4_0) return nibbles_of(load_128(block + 2));  // [0 .. 15]
    const __m256i table =
        both(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    return _mm256_shuffle_epi8(table, nibbles_of(load_128(block + 1)));  // [0 .. 24]
}

// Pairs within 2 * 24 * 127 for unsigned weights.
SLUICE_INLINE __m256i eight_products(int format, __m256i w, __m256i q) {
    __m256i pairs = is_signed(format) ? signed_pairs(w, q) : _mm256_maddubs_epi16(w, q);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

SLUICE_INLINE __m256 eight_scales(int format, const uint8_t *w) {
    size_t stride = eight_stride(format);
    if (format == eight_planar) return _mm256_cvtph_ps(load_128(w));
    if (format == eight_mxfp4) {
        float d[8];
        for (int b = 0; b < 8; b++) d[b] = e8m0_half_to_float(w[b * stride]);
        return _mm256_loadu_ps(d);
    }
    uint16_t d[8];
    for (int b = 0; b < 8; b++) memcpy(&d[b], w + b * stride, 2);
    return _mm256_cvtph_ps(_mm_setr_epi16(
        (short)d[0], (short)d[1], (short)d[2], (short)d[3], (short)d[4], (short)d[5], (short)d[6],
        (short)d[7]));
}

// Adds eight blocks of four rows against `tokens` activations; q and scale are those of the first
// token.
SLUICE_INLINE void eight_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, size_t x_stride, int tokens, size_t ahead,
    __m256 a[4][4]) {
    __m256i offset[4];
    __m256 dx[4];
    int offset_factor = eight_offset(format);
    __m128i shift = _mm_setzero_si128();
    if (format == eight_planar) {
        offset_factor = -planes->middle;  // [-127 .. 0]
        shift = _mm_cvtsi32_si128(planes->shift);
    }
    for (int t = 0; t < tokens; t++) {
        dx[t] = _mm256_loadu_ps(
            (const float *)(const void *)((const uint8_t *)scale + (size_t)t * x_stride));
        offset[t] = _mm256_setzero_si256();
        if (offset_factor != 0) {
            __m256i sums[8];
            for (int b = 0; b < 8; b++) {
                sums[b] = eight_products(
                    format, _mm256_set1_epi8((char)offset_factor),
                    load_256(q + (size_t)t * x_stride + 32 * b));
            }
            offset[t] = add_eight(sums);
        }
    }
    for (int r = 0; r < 4; r++) {
        if (tokens == 1) prefetch(w[r], ahead, 8 * eight_stride(format));
        __m256 d = eight_scales(format, w[r]);
        __m256i weights[8];
        if (format == eight_planar) {
            if (tokens == 1) prefetch_planes(planes, shape, r, unit);
            planar_weights(planes, shape, r, unit, weights);
            for (int b = 0; b < 8; b++) {
                weights[b] = _mm256_sub_epi8(weights[b], _mm256_set1_epi8((char)planes->centre));
            }
        } else {
            for (int b = 0; b < 8; b++) {
                weights[b] = eight_weights(format, w[r] + (size_t)b * eight_stride(format));
            }
        }
        for (int t = 0; t < tokens; t++) {
            __m256i products[8];
            for (int b = 0; b < 8; b++) {
                products[b] =
                    eight_products(format, weights[b], load_256(q + (size_t)t * x_stride + 32 * b));
            }
            __m256i total = add_eight(products);
            if (format == eight_planar) total = _mm256_sll_epi32(total, shift);
            if (offset_factor != 0) total = _mm256_sub_epi32(total, offset[t]);
            __m256 s = _mm256_cvtepi32_ps(total);
            if (format == eight_planar) s = _mm256_mul_ps(s, _mm256_set1_ps(0.5f));
            a[t][r] = _mm256_add_ps(a[t][r], _mm256_mul_ps(_mm256_mul_ps(d, dx[t]), s));
        }
    }
}

SLUICE_INLINE void eight_tile(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape,
    const uint8_t *x, size_t x_stride, uint32_t n, int tokens, size_t ahead, float (*out)[4]) {
    size_t stride = eight_stride(format);
    record_a32 record = as_a32(x, n);
    uint32_t blocks = n / 32, b = 0;
    __m256 a[4][4];
    for (int t = 0; t < tokens; t++) {
        for (int r = 0; r < 4; r++) a[t][r] = _mm256_setzero_ps();
    }
    for (; b + 8 <= blocks; b += 8) {
        const uint8_t *at[4];
        for (int r = 0; r < 4; r++) at[r] = w[r] + b * stride;
        eight_add(
            format, at, planes, shape, b / 8, record.q + (size_t)b * 32, record.scale + b, x_stride,
            tokens, ahead, a);
    }
    if (b < blocks) {
        // The last blocks, padded to eight with zeros: those add +0, which changes nothing.
        uint8_t rows[4][8 * 34] = {{0}};
        struct {
            int8_t q[256];
            float scale[8];
        } rest[4];
        const uint8_t *at[4];
        memset(rest, 0, sizeof rest);
        for (int r = 0; r < 4; r++) {
            memcpy(rows[r], w[r] + b * stride, (blocks - b) * stride);
            at[r] = rows[r];
        }
        for (int t = 0; t < tokens; t++) {
            memcpy(rest[t].q, record.q + (size_t)t * x_stride + (size_t)b * 32, (blocks - b) * 32);
            memcpy(
                rest[t].scale, (const uint8_t *)(record.scale + b) + (size_t)t * x_stride,
                (blocks - b) * sizeof(float));
        }
        eight_add(
            format, at, planes, shape, b / 8, rest[0].q, rest[0].scale, sizeof rest[0], tokens, 0,
            a);
    }
    for (int t = 0; t < tokens; t++) {
        for (int r = 0; r < 4; r++) out[t][r] = vf_fold(a[t][r]);
    }
}

// MARK: Super-blocks of 256: Q4_K, Q5_K, Q6_K, IQ4_XS

// The elements of sub-blocks 2c and 2c + 1, 32 each.
SLUICE_INLINE void super_weights(int format, const uint8_t *w, int c, __m256i pair[2]) {
    const __m256i low_bits = _mm256_set1_epi8(15);
    if (has_minimum(format)) {
        __m256i v = load_256(w + (format == super_q4_K ? 16 : 48) + 32 * c);
        pair[0] = _mm256_and_si256(v, low_bits);
        pair[1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low_bits);  // [0 .. 15]
        if (format == super_q5_K) {
            __m256i fifth = load_256(w + 16), bit = _mm256_set1_epi8(16);
            // The bit 2c or 2c + 1 goes to bit 4 of its byte; what crosses bytes is masked off.
            __m256i even =
                c < 2 ? _mm256_slli_epi16(fifth, 4 - 2 * c) : _mm256_srli_epi16(fifth, 2 * c - 4);
            __m256i odd =
                c < 2 ? _mm256_slli_epi16(fifth, 3 - 2 * c) : _mm256_srli_epi16(fifth, 2 * c - 3);
            pair[0] = _mm256_or_si256(pair[0], _mm256_and_si256(even, bit));
            pair[1] = _mm256_or_si256(pair[1], _mm256_and_si256(odd, bit));  // [0 .. 31]
        }
    } else if (format == super_q6_K) {
        const __m256i high_bits = _mm256_set1_epi8(48);
        __m256i high = load_256(w + 128 + 32 * (c / 2));
        for (int i = 0; i < 2; i++) {
            __m256i low = load_256(w + 64 * (c / 2) + 32 * i);
            if (c % 2 == 1) low = _mm256_srli_epi16(low, 4);
            // Run 2 (c % 2) + i has its upper two bits at 2 * run; they go to bits 4 and 5.
            int run = 2 * (c % 2) + i;
            __m256i upper = run < 2 ? _mm256_slli_epi16(high, 4 - 2 * run)
                                    : _mm256_srli_epi16(high, 2 * run - 4);
            pair[i] = _mm256_or_si256(
                _mm256_and_si256(low, low_bits), _mm256_and_si256(upper, high_bits));  // [0 .. 63]
        }
    } else {
        const __m256i values = both(_mm_setr_epi8(SLUICE_IQ4_VALUES));
        for (int i = 0; i < 2; i++) {
            __m256i indices = nibbles_of(load_128(w + 8 + 32 * c + 16 * i));
            pair[i] = _mm256_shuffle_epi8(values, indices);  // [-127 .. 113]
        }
    }
}

// The eight scales, then the eight minima of a block, from its first 16 bytes.
SLUICE_INLINE __m128i k_scale_bytes(__m128i head) {
    const __m128i low = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m128i high = _mm_setr_epi8(4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11);
    __m128i a = _mm_srlv_epi32(_mm_shuffle_epi8(head, low), _mm_setr_epi32(0, 0, 0, 4));
    __m128i b = _mm_srli_epi32(_mm_shuffle_epi8(head, high), 2);
    a = _mm_and_si128(a, _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
    b = _mm_and_si128(b, _mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    return _mm_or_si128(a, b);
}

// The scales of the eight sub-blocks of an IQ4_XS block, [-32 .. 31], as 16-bit numbers.
SLUICE_INLINE __m128i iq4_scales(const uint8_t *w) {
    int32_t packed;
    uint16_t packed_high;
    memcpy(&packed, w + 4, 4);
    memcpy(&packed_high, w + 2, 2);
    __m256i low = _mm256_srlv_epi32(
        _mm256_set1_epi32(packed), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    __m256i high = _mm256_srlv_epi32(
        _mm256_set1_epi32(packed_high), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    low = _mm256_and_si256(low, _mm256_set1_epi32(15));
    high = _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4);
    __m256i wide = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
    return _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
}

// Four half-precision numbers, `at` bytes into each row.
SLUICE_INLINE __m128 four_halves(const uint8_t *const w[4], size_t at) {
    uint64_t four = 0;
    for (int r = 0; r < 4; r++) {
        uint16_t half;
        memcpy(&half, w[r] + at, 2);
        four |= (uint64_t)half << 16 * r;
    }
    return _mm_cvtph_ps(_mm_cvtsi64_si128((long long)four));
}

// Adds one block of four rows against `tokens` activations.
SLUICE_INLINE void super_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, const int16_t *sum, size_t x_stride, int tokens,
    size_t ahead, __m128 a[4]) {
    __m256i s[4][4];       // by token and row; eight lanes that add up to S
    __m128i m[4][4];       // four lanes that add up to M
    __m256i middle[4][4];  // of planes, what the middle and the offset add to S
    __m128i shift = _mm_setzero_si128();
    int middle_factor = 0;
    if (is_planar(format)) {
        shift = _mm_cvtsi32_si128(planes->shift);
        middle_factor = planes->middle;
        if (!has_minimum(format)) middle_factor -= planes->centre << planes->shift;
    }
    for (int r = 0; r < 4; r++) {
        if (tokens == 1) {
            prefetch(w[r], ahead, super_bytes(format));
            if (is_planar(format)) prefetch_planes(planes, shape, r, unit);
        }
        __m256i scales = _mm256_setzero_si256();  // the 16-bit scales: of sub-blocks in both halves
        __m128i minima = _mm_setzero_si128();
        if (has_minimum(format)) {
            __m128i bytes = k_scale_bytes(load_128(w[r]));
            scales = both(_mm_cvtepu8_epi16(bytes));
            minima = _mm_cvtepu8_epi16(_mm_unpackhi_epi64(bytes, bytes));
        } else if (has_scales_of_16(format)) {
            // 0 to 7, 8 to 15
            scales = _mm256_cvtepi8_epi16(load_128(w[r] + (is_planar(format) ? 0 : 192)));
        } else {
            scales = both(iq4_scales(w[r]));
        }
        for (int t = 0; t < tokens; t++) {
            s[t][r] = _mm256_setzero_si256();
            __m256i sums = load_256((const uint8_t *)sum + (size_t)t * x_stride);
            if (has_minimum(format)) {
                // Neighbouring runs of 16 make a sub-block: [-4064 .. 4064].
                __m256i wide = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
                __m128i by_sub_block = _mm_packs_epi32(
                    _mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
                m[t][r] = _mm_madd_epi16(minima, by_sub_block);
                if (middle_factor != 0) {
                    __m128i lanes = _mm_madd_epi16(_mm256_castsi256_si128(scales), by_sub_block);
                    lanes = _mm_mullo_epi32(lanes, _mm_set1_epi32(middle_factor));
                    middle[t][r] = _mm256_zextsi128_si256(lanes);
                }
            } else if (is_planar(format)) {
                middle[t][r] = _mm256_mullo_epi32(
                    _mm256_madd_epi16(scales, sums), _mm256_set1_epi32(middle_factor));
            } else if (format == super_q6_K) {
                // The weights' offset of 32 comes off again.
                __m256i over = _mm256_slli_epi32(_mm256_madd_epi16(scales, sums), 5);
                s[t][r] = _mm256_sub_epi32(_mm256_setzero_si256(), over);
            }
        }
        __m256i planar[8];
        if (is_planar(format)) planar_weights(planes, shape, r, unit, planar);
        for (int c = 0; c < 4; c++) {
            __m256i weights[2];
            if (is_planar(format)) {
                memcpy(weights, planar + 2 * c, sizeof weights);
            } else {
                super_weights(format, w[r], c, weights);
            }
            for (int i = 0; i < 2; i++) {
                __m256i factor;
                if (has_scales_of_16(format)) {
                    // Two scales, each for 16 elements: the 16-bit numbers 4c + 2i and the next.
                    __m256i half = _mm256_permute4x64_epi64(scales, 0x00);
                    if (c == 1) half = _mm256_permute4x64_epi64(scales, 0x55);
                    if (c == 2) half = _mm256_permute4x64_epi64(scales, 0xaa);
                    if (c == 3) half = _mm256_permute4x64_epi64(scales, 0xff);
                    int first = 0x0100 + 0x0202 * 2 * i, next = first + 0x0202;
                    factor = _mm256_shuffle_epi8(
                        half, _mm256_set_m128i(
                                  _mm_set1_epi16((short)next), _mm_set1_epi16((short)first)));
                } else {
                    int j = 2 * c + i;
                    factor = _mm256_shuffle_epi8(
                        scales, _mm256_set1_epi16((short)(0x0100 + 0x0202 * j)));
                }
                for (int t = 0; t < tokens; t++) {
                    __m256i v = load_256(q + (size_t)t * x_stride + 64 * c + 32 * i);
                    // Pairs within 2 * 63 * 127 for unsigned weights.
                    __m256i pairs = format == super_iq4_xs ? signed_pairs(weights[i], v)
                                                           : _mm256_maddubs_epi16(weights[i], v);
                    s[t][r] = add_scaled_pairs(s[t][r], pairs, factor);
                }
            }
        }
    }
    __m128 d = four_halves(w, super_d_offset(format));
    for (int t = 0; t < tokens; t++) {
        float dx_value;
        memcpy(&dx_value, (const uint8_t *)scale + (size_t)t * x_stride, 4);
        __m128 dx = _mm_set1_ps(dx_value);
        if (is_planar(format)) {
            for (int r = 0; r < 4; r++) {
                s[t][r] = _mm256_sll_epi32(s[t][r], shift);
                if (middle_factor != 0) s[t][r] = _mm256_add_epi32(s[t][r], middle[t][r]);
            }
        }
        __m128i total = add_lanes(s[t][0], s[t][1], s[t][2], s[t][3]);
        __m128 s_value = _mm_cvtepi32_ps(total);
        if (is_planar(format)) s_value = _mm_mul_ps(s_value, _mm_set1_ps(0.5f));
        __m128 term = _mm_mul_ps(_mm_mul_ps(d, dx), s_value);
        if (has_minimum(format)) {
            __m128i minimum =
                _mm_hadd_epi32(_mm_hadd_epi32(m[t][0], m[t][1]), _mm_hadd_epi32(m[t][2], m[t][3]));
            __m128 dmin = four_halves(w, 2);
            term = _mm_sub_ps(term, _mm_mul_ps(_mm_mul_ps(dmin, dx), _mm_cvtepi32_ps(minimum)));
        }
        a[t] = _mm_add_ps(a[t], term);
    }
}

SLUICE_INLINE void super_tile(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape,
    const uint8_t *x, size_t x_stride, uint32_t n, int tokens, size_t ahead, float (*out)[4]) {
    record_a256 record = as_a256(x, n);
    __m128 a[4];
    for (int t = 0; t < tokens; t++) a[t] = _mm_setzero_ps();
    for (uint32_t b = 0; b < n / 256; b++) {
        const uint8_t *at[4];
        for (int r = 0; r < 4; r++) at[r] = w[r] + b * super_bytes(format);
        super_add(
            format, at, planes, shape, b, record.q + (size_t)b * 256, record.scale + b,
            record.sum + (size_t)b * 16, x_stride, tokens, ahead, a);
    }
    for (int t = 0; t < tokens; t++) _mm_storeu_ps(out[t], a[t]);
}

#include "avx2_wide.h"
#include "avx2_narrow.h"

#define SLUICE_BLOCK_GEMM(format, kind)                                                       \
    SLUICE_INLINE void tile_##format(                                                         \
        const uint8_t *const w[4], const uint8_t *x, size_t x_stride, uint32_t n, int tokens, \
        size_t ahead, float (*out)[4]) {                                                      \
        kind##_tile(kind##_##format, w, NULL, 0, x, x_stride, n, tokens, ahead, out);         \
    }                                                                                         \
    SLUICE_TILED_GEMM(format, 4)

SLUICE_BLOCK_GEMM(q4_0, eight)
SLUICE_BLOCK_GEMM(q8_0, eight)
SLUICE_BLOCK_GEMM(mxfp4, eight)
SLUICE_BLOCK_GEMM(q4_K, super)
SLUICE_BLOCK_GEMM(q5_K, super)
SLUICE_BLOCK_GEMM(q6_K, super)
SLUICE_BLOCK_GEMM(iq4_xs, super)

SLUICE_PLANAR_KERNEL(32, eight, eight_planar, 4, 0x422, 0x44)
SLUICE_PLANAR_KERNEL(k, super, super_planar_k, 4, 0x122, 0x14)
SLUICE_PLANAR_KERNEL(q6_K, super, super_planar_q6_K, 4, 0x222, 0x24)
