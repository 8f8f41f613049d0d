// Dot products of the quantised formats with AVX-512 VNNI.
//
// vpdpbusd multiplies unsigned by signed bytes, so weights are kept unsigned by an offset, and the
// offset times the sum of the activations is taken off again: exact, as all of it is integers that
// fit 32 bits. Four lanes of products fall into one 32-bit lane; the sums of a tile's four rows, or
// of eight blocks, are reduced together in one tree.

SLUICE_INLINE __m512i load_512(const void *p) { return _mm512_loadu_si512(p); }

SLUICE_INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

SLUICE_INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

// In each 128-bit part: the sums over that part of a, b, c and d.
SLUICE_INLINE __m512i add_parts(__m512i a, __m512i b, __m512i c, __m512i d) {
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// The sums of the lanes of a, b, c and d.
SLUICE_INLINE __m128i add_lanes(__m512i a, __m512i b, __m512i c, __m512i d) {
    __m512i parts = add_parts(a, b, c, d);
    __m256i halves =
        _mm256_add_epi32(_mm512_castsi512_si256(parts), _mm512_extracti64x4_epi64(parts, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

// The same for halves: the sums of the lower halves of v[0 ... 3], then of the upper halves.
SLUICE_INLINE __m256i add_halves(const __m512i v[4]) {
    __m512i parts = add_parts(v[0], v[1], v[2], v[3]);
    __m512i even = _mm512_shuffle_i32x4(parts, parts, 0x88);
    __m512i odd = _mm512_shuffle_i32x4(parts, parts, 0xdd);
    return _mm512_castsi512_si256(_mm512_add_epi32(even, odd));
}

// The parts of a 512-bit vector, each filled with one 32-bit number.
SLUICE_INLINE __m512i parts_of(int a, int b, int c, int d) {
    return _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
}

// MARK: Planes

// The integers of a unit of row r, 64 in each vector, in order: plane after plane moves up to make
// room for the next one's bits.
SLUICE_INLINE void planar_weights(
    const tile_planes *planes, uint32_t shape, int r, uint32_t unit, __m512i u[4]) {
    uint32_t merged = planes_to_merge(shape);
    for (int k = 0; k < 4; k++) u[k] = _mm512_setzero_si512();
    if (merged != 0) {
        __m512i high = load_512(planes->row[0][r] + (size_t)unit * 64), low;
        if (merged == 2) {
            low = load_512(planes->row[1][r] + (size_t)unit * 64);
        } else {
            __m256i high_bit = load_256(planes->row[1][r] + (size_t)unit * 32);
            __m256i low_bit = load_256(planes->row[2][r] + (size_t)unit * 32);
            const __m256i even = _mm256_set1_epi8(0x55);
            __m256i first =
                _mm256_ternarylogic_epi32(even, low_bit, _mm256_add_epi8(high_bit, high_bit), 0xca);
            __m256i second =
                _mm256_ternarylogic_epi32(even, _mm256_srli_epi16(low_bit, 1), high_bit, 0xca);
            low = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
        }
        // Ternary logic 0xca takes bits of its second argument where the first has ones, of its
        // third elsewhere.
        const __m512i pairs = _mm512_set1_epi8(0x33), nibbles = _mm512_set1_epi8(15);
        __m512i even = _mm512_ternarylogic_epi32(pairs, low, _mm512_slli_epi16(high, 2), 0xca);
        __m512i odd = _mm512_ternarylogic_epi32(pairs, _mm512_srli_epi16(low, 2), high, 0xca);
        u[0] = _mm512_and_si512(even, nibbles);
        u[1] = _mm512_and_si512(odd, nibbles);
        u[2] = _mm512_and_si512(_mm512_srli_epi16(even, 4), nibbles);
        u[3] = _mm512_and_si512(_mm512_srli_epi16(odd, 4), nibbles);
    }
    SLUICE_FOR_PLANES(shape, merged, p, bits) {
        const uint8_t *plane = planes->row[p][r] + (size_t)unit * 32 * bits;
        if (bits == 4) {
            for (int k = 0; k < 4; k++) {
                __m512i v = load_512(plane + 64 * (k % 2));
                if (k >= 2) v = _mm512_srli_epi16(v, 4);
                v = _mm512_and_si512(v, _mm512_set1_epi8(15));
                u[k] = _mm512_or_si512(_mm512_slli_epi16(u[k], 4), v);
            }
        } else if (bits == 2) {
            for (int k = 0; k < 4; k++) {
                __m512i v = _mm512_srlv_epi16(load_512(plane), _mm512_set1_epi16((short)(2 * k)));
                v = _mm512_and_si512(v, _mm512_set1_epi8(3));
                u[k] = _mm512_or_si512(_mm512_slli_epi16(u[k], 2), v);
            }
        } else {
            __m512i twice = _mm512_broadcast_i64x4(load_256(plane));
            for (int k = 0; k < 4; k++) {
                int even = 2 * k * 0x00010001, odd = (2 * k + 1) * 0x00010001;
                __m512i v = _mm512_srlv_epi16(twice, parts_of(even, even, odd, odd));
                v = _mm512_and_si512(v, _mm512_set1_epi8(1));
                u[k] = _mm512_or_si512(_mm512_slli_epi16(u[k], 1), v);
            }
        }
    }
}

// MARK: Blocks of 32: Q4_0, Q8_0, MXFP4

// Eight blocks are taken at a time, as there are eight accumulators. Vector k < 4 holds block k in
// its lower half and block k + 4 in its upper half, so that `add_halves` gives block sums in order.
// Of planes it holds blocks 2k and 2k + 1, and the sums are put in order afterwards.
enum { eight_q4_0, eight_q8_0, eight_mxfp4, eight_planar };

// Of planes only the scales are in one piece with those of the next block.
SLUICE_INLINE size_t eight_stride(int format) {
    return format == eight_q4_0     ? 18
           : format == eight_q8_0   ? 34
           : format == eight_planar ? 2
                                    : 17;
}

// What was added to the weights to make them unsigned.
SLUICE_INLINE int eight_offset(int format) {
    return format == eight_q4_0 ? 8 : format == eight_q8_0 ? 128 : 12;
}

SLUICE_INLINE __m512i eight_weights(int format, const uint8_t *w, int k) {
    size_t stride = eight_stride(format);
    const uint8_t *low = w + (size_t)k * stride, *high = w + (size_t)(k + 4) * stride;
    if (format == eight_q8_0) {
        __m512i v =
            _mm512_inserti64x4(_mm512_castsi256_si512(load_256(low + 2)), load_256(high + 2), 1);
        return _mm512_xor_si512(v, _mm512_set1_epi8(-128));  // [0 .. 255]
    }
    size_t quants = format == eight_q4_0 ? 2 : 1;
    __m512i v = _mm512_broadcast_i32x4(load_128(low + quants));
    v = _mm512_mask_broadcast_i32x4(v, 0xff00, load_128(high + quants));
    const __m512i shift = parts_of(0, 0x00040004, 0, 0x00040004);
    v = _mm512_and_si512(_mm512_srlv_epi16(v, shift), _mm512_set1_epi8(15));  // [0 .. 15]
    if (format == eight_q4_0) return v;
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    return _mm512_shuffle_epi8(table, v);  // [0 .. 24]
}

// The eight scales, picked as 16-bit words out of the blocks' first bytes.
SLUICE_INLINE __m256 eight_scales(int format, const uint8_t *w) {
    if (format == eight_planar) return _mm256_cvtph_ps(load_128(w));
    if (format == eight_q4_0) {
        const __m512i words = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 36, 45, 54, 63));
        __m512i d = _mm512_permutex2var_epi16(load_512(w), words, load_512(w + 64));
        return _mm256_cvtph_ps(_mm512_castsi512_si128(d));
    }
    if (format == eight_q8_0) {
        const __m512i first = _mm512_castsi128_si512(_mm_setr_epi16(0, 17, 34, 51, 0, 0, 0, 0));
        const __m512i second = _mm512_castsi128_si512(_mm_setr_epi16(4, 21, 38, 55, 0, 0, 0, 0));
        __m512i low = _mm512_permutex2var_epi16(load_512(w), first, load_512(w + 64));
        __m512i high = _mm512_permutex2var_epi16(load_512(w + 128), second, load_512(w + 192));
        return _mm256_cvtph_ps(
            _mm_unpacklo_epi64(_mm512_castsi512_si128(low), _mm512_castsi512_si128(high)));
    }
    // Byte 17k is the low half of a word for even k and the high half for odd k.
    const __m512i words = _mm512_castsi128_si512(_mm_setr_epi16(0, 8, 17, 25, 34, 42, 51, 59));
    __m512i pairs = _mm512_permutex2var_epi16(load_512(w), words, load_512(w + 64));
    __m256i e = _mm256_cvtepu16_epi32(_mm512_castsi512_si128(pairs));
    e = _mm256_srlv_epi32(e, _mm256_setr_epi32(0, 8, 0, 8, 0, 8, 0, 8));
    e = _mm256_and_si256(e, _mm256_set1_epi32(255));
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i denormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    __mmask8 small = _mm256_cmplt_epu32_mask(e, _mm256_set1_epi32(2));
    return _mm256_castsi256_ps(_mm256_mask_mov_epi32(normal, small, denormal));
}

// Adds eight blocks of four rows against `tokens` activations; q and scale are those of the first
// token.
SLUICE_INLINE void eight_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, size_t x_stride, int tokens, size_t ahead,
    __m256 a[4][4]) {
    __m512i weights[4][4];
    __m256 d[4];
    for (int r = 0; r < 4; r++) {
        if (tokens == 1) prefetch(w[r], ahead, 8 * eight_stride(format));
        if (format == eight_planar) {
            if (tokens == 1) prefetch_planes(planes, shape, r, unit);
            planar_weights(planes, shape, r, unit, weights[r]);
        } else {
            for (int k = 0; k < 4; k++) weights[r][k] = eight_weights(format, w[r], k);
        }
        d[r] = eight_scales(format, w[r]);
    }
    int offset_factor = eight_offset(format);
    __m128i shift = _mm_setzero_si128();
    if (format == eight_planar) {
        offset_factor = (planes->centre << planes->shift) - planes->middle;
        shift = _mm_cvtsi32_si128(planes->shift);
    }
    for (int t = 0; t < tokens; t++) {
        const int8_t *qt = q + (size_t)t * x_stride;
        __m512i activations[4], sums[4];
        for (int k = 0; k < 4; k++) {
            activations[k] =
                format == eight_planar
                    ? load_512(qt + 64 * k)
                    : _mm512_inserti64x4(
                          _mm512_castsi256_si512(load_256(qt + 32 * k)),
                          load_256(qt + 32 * (k + 4)), 1);
            sums[k] =
                _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), activations[k]);
        }
        __m256i offset =
            _mm256_mullo_epi32(add_halves(sums), _mm256_set1_epi32(offset_factor));
        __m256 dx = _mm256_loadu_ps(
            (const float *)(const void *)((const uint8_t *)scale + (size_t)t * x_stride));
        for (int r = 0; r < 4; r++) {
            __m512i products[4];
            for (int k = 0; k < 4; k++) {
                products[k] =
                    _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights[r][k], activations[k]);
            }
            __m256i total = add_halves(products);
            if (format == eight_planar) total = _mm256_sll_epi32(total, shift);
            __m256 s = _mm256_cvtepi32_ps(_mm256_sub_epi32(total, offset));
            if (format == eight_planar) {
                // The even blocks, then the odd ones.
                s = _mm256_permutevar8x32_ps(s, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                s = _mm256_mul_ps(s, _mm256_set1_ps(0.5f));
            }
            a[t][r] = _mm256_add_ps(a[t][r], _mm256_mul_ps(_mm256_mul_ps(d[r], dx), s));
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
        for (int r = 0; r < 4; r++) {
            __m128 v =
                _mm_add_ps(_mm256_castps256_ps128(a[t][r]), _mm256_extractf128_ps(a[t][r], 1));
            v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            out[t][r] = _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
        }
    }
}

// MARK: Super-blocks of 256: Q4_K, Q5_K, Q6_K, IQ4_XS

// Elements 64k ..< 64k + 64 in order, k < 4, as unsigned bytes.
SLUICE_INLINE __m512i super_weights(int format, const uint8_t *w, int k) {
    const __m512i low_bits = _mm512_set1_epi8(15);
    const __m512i half_shift = parts_of(0, 0, 0x00040004, 0x00040004);
    if (format == super_q4_K) {
        __m512i v = _mm512_broadcast_i64x4(load_256(w + 16 + 32 * k));
        return _mm512_and_si512(_mm512_srlv_epi16(v, half_shift), low_bits);  // [0 .. 15]
    }
    if (format == super_q5_K) {
        __m512i v = _mm512_broadcast_i64x4(load_256(w + 48 + 32 * k));
        v = _mm512_and_si512(_mm512_srlv_epi16(v, half_shift), low_bits);
        __m512i fifth = _mm512_broadcast_i64x4(load_256(w + 16));
        int even = 0x01010101 << 2 * k, odd = (int)(0x02020202u << 2 * k);
        __mmask64 set = _mm512_test_epi8_mask(fifth, parts_of(even, even, odd, odd));
        return _mm512_mask_add_epi8(v, set, v, _mm512_set1_epi8(16));  // [0 .. 31]
    }
    if (format == super_q6_K) {
        __m512i low = load_512(w + 64 * (k / 2));
        __m512i high = _mm512_broadcast_i64x4(load_256(w + 128 + 32 * (k / 2)));
        if (k % 2 == 0) {
            high =
                _mm512_sllv_epi16(high, parts_of(0x00040004, 0x00040004, 0x00020002, 0x00020002));
        } else {
            low = _mm512_srli_epi16(low, 4);
            high = _mm512_srlv_epi16(high, parts_of(0, 0, 0x00020002, 0x00020002));
        }
        // (low & 15) | (high & ~15), then the two upper bits off: [0 .. 63]
        __m512i joined = _mm512_ternarylogic_epi32(low_bits, low, high, 0xca);
        return _mm512_and_si512(joined, _mm512_set1_epi8(63));
    }
    const __m512i twice = _mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3);
    const __m512i shift = parts_of(0, 0x00040004, 0, 0x00040004);
    __m512i v = _mm512_permutexvar_epi64(twice, _mm512_castsi256_si512(load_256(w + 8 + 32 * k)));
    v = _mm512_and_si512(_mm512_srlv_epi16(v, shift), low_bits);
    const __m128i values = _mm_setr_epi8(SLUICE_IQ4_VALUES);
    const __m128i unsigned_values = _mm_xor_si128(values, _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(unsigned_values), v);  // [1 .. 241]
}

// The eight scales and the eight minima of four rows: a 128-bit part per row, scales in its lower
// half. `heads` has the rows' first 16 bytes: d, dmin, then the packed twelve.
SLUICE_INLINE __m512i four_k_scales(__m512i heads) {
    const __m512i low = _mm512_broadcast_i32x4(
        _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m512i high =
        _mm512_broadcast_i32x4(_mm_setr_epi8(4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11));
    __m512i a = _mm512_srlv_epi32(
        _mm512_shuffle_epi8(heads, low), _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4)));
    __m512i b = _mm512_srli_epi32(_mm512_shuffle_epi8(heads, high), 2);
    a = _mm512_and_si512(
        a, _mm512_broadcast_i32x4(_mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)));
    b = _mm512_and_si512(b, _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
    return _mm512_or_si512(a, b);
}

// The sums of the activations by sub-block, [-4064 .. 4064], times the scales or the minima of four
// rows, as `four_k_scales` gives them.
SLUICE_INLINE __m128i four_k_sums(__m512i k_scale, int minima, const uint8_t *sum) {
    __m128i by_sub_block =
        _mm256_cvtepi32_epi16(_mm256_madd_epi16(load_256(sum), _mm256_set1_epi16(1)));
    const __m128i lower =
        _mm_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1, 6, -1, 7, -1);
    const __m128i upper =
        _mm_setr_epi8(8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1);
    __m512i factors =
        _mm512_shuffle_epi8(k_scale, _mm512_broadcast_i32x4(minima ? upper : lower));
    __m512i m = _mm512_madd_epi16(factors, _mm512_broadcast_i32x4(by_sub_block));
    m = _mm512_add_epi32(m, _mm512_shuffle_epi32(m, _MM_PERM_BADC));
    m = _mm512_add_epi32(m, _mm512_shuffle_epi32(m, _MM_PERM_CDAB));
    const __m512i firsts = _mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12));
    return _mm512_castsi512_si128(_mm512_permutexvar_epi32(firsts, m));
}

// The scales of the eight sub-blocks of an IQ4_XS block, [-32 .. 31].
SLUICE_INLINE __m256i iq4_scales(const uint8_t *w) {
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
    return _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
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

// Row r's part of `scales` in every part.
SLUICE_INLINE __m512i row_part(__m512i scales, int r) {
    __m512i part =
        _mm512_setr_epi64(2 * r, 2 * r + 1, 2 * r, 2 * r + 1, 2 * r, 2 * r + 1, 2 * r, 2 * r + 1);
    return _mm512_permutexvar_epi64(part, scales);
}

// Adds one block of four rows against `tokens` activations.
SLUICE_INLINE void super_add(
    int format, const uint8_t *const w[4], const tile_planes *planes, uint32_t shape, uint32_t unit,
    const int8_t *q, const float *scale, const int16_t *sum, size_t x_stride, int tokens,
    size_t ahead, __m128 a[4]) {
    __m512i s[4][4], k_scale = _mm512_setzero_si512();
    __m256i middle[4][4];
    __m128i shift = _mm_setzero_si128();
    int middle_factor = 0;
    if (is_planar(format)) {
        shift = _mm_cvtsi32_si128(planes->shift);
        middle_factor = planes->middle;
        if (!has_minimum(format)) middle_factor -= planes->centre << planes->shift;
    }
    if (has_minimum(format)) {
        __m512i heads = _mm512_castsi128_si512(load_128(w[0]));
        heads = _mm512_inserti32x4(heads, load_128(w[1]), 1);
        heads = _mm512_inserti32x4(heads, load_128(w[2]), 2);
        heads = _mm512_inserti32x4(heads, load_128(w[3]), 3);
        k_scale = four_k_scales(heads);
    }
    for (int r = 0; r < 4; r++) {
        if (tokens == 1) {
            prefetch(w[r], ahead, super_bytes(format));
            if (is_planar(format)) prefetch_planes(planes, shape, r, unit);
        }
        __m512i scales[4];
        __m256i offset_scales = _mm256_setzero_si256();
        if (has_minimum(format)) {
            // Sub-block scales as 16-bit numbers in the low halves of the lanes, 0 in the high
            // ones.
            __m512i row = row_part(k_scale, r);
            for (int k = 0; k < 4; k++) {
                int even = (int)0x80808000 | 2 * k, odd = (int)0x80808000 | (2 * k + 1);
                scales[k] = _mm512_shuffle_epi8(row, parts_of(even, even, odd, odd));
            }
        } else if (has_scales_of_16(format)) {
            __m128i bytes = load_128(w[r] + (is_planar(format) ? 0 : 192));
            __m512i wide = _mm512_and_si512(_mm512_cvtepi8_epi32(bytes), _mm512_set1_epi32(0xffff));
            for (int k = 0; k < 4; k++) {
                scales[k] = _mm512_permutexvar_epi32(
                    parts_of(4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3), wide);
            }
            offset_scales = _mm256_cvtepi8_epi16(bytes);
        } else {
            __m256i eight = iq4_scales(w[r]);
            for (int k = 0; k < 4; k++) {
                scales[k] = _mm512_permutexvar_epi32(
                    parts_of(2 * k, 2 * k, 2 * k + 1, 2 * k + 1), _mm512_castsi256_si512(eight));
            }
            offset_scales = _mm256_or_si256(
                _mm256_and_si256(eight, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(eight, 16));
        }
        for (int t = 0; t < tokens; t++) {
            s[t][r] = _mm512_setzero_si512();
            if (!has_minimum(format)) {
                // The weights' offset, 32 or 128, times the sums of the activations.
                __m256i sums = load_256((const uint8_t *)sum + (size_t)t * x_stride);
                __m256i over = _mm256_madd_epi16(offset_scales, sums);
                if (is_planar(format)) {
                    middle[t][r] = _mm256_mullo_epi32(over, _mm256_set1_epi32(middle_factor));
                    continue;
                }
                over = _mm256_slli_epi32(over, format == super_q6_K ? 5 : 7);
                s[t][r] = _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), over));
            }
        }
        __m512i planar[4];
        if (is_planar(format)) planar_weights(planes, shape, r, unit, planar);
        for (int k = 0; k < 4; k++) {
            __m512i weights = is_planar(format) ? planar[k] : super_weights(format, w[r], k);
            for (int t = 0; t < tokens; t++) {
                __m512i products = _mm512_dpbusd_epi32(
                    _mm512_setzero_si512(), weights, load_512(q + (size_t)t * x_stride + 64 * k));
                if (format == super_iq4_xs) {
                    // Four products reach 4 * 241 * 127, beyond 16 bits.
                    s[t][r] = _mm512_add_epi32(s[t][r], _mm512_mullo_epi32(products, scales[k]));
                } else {
                    // Four products stay within 4 * 63 * 127 = 32004, so the low halves are exact.
                    s[t][r] = _mm512_dpwssd_epi32(s[t][r], products, scales[k]);
                }
            }
        }
    }
    __m128 d, dmin = _mm_setzero_ps();
    if (has_minimum(format)) {
        d = four_halves(w, 0);
        dmin = four_halves(w, 2);
    } else {
        d = four_halves(w, super_d_offset(format));
    }
    for (int t = 0; t < tokens; t++) {
        float dx_value;
        memcpy(&dx_value, (const uint8_t *)scale + (size_t)t * x_stride, 4);
        __m128 dx = _mm_set1_ps(dx_value);
        if (is_planar(format) && !has_minimum(format)) {
            for (int r = 0; r < 4; r++) {
                s[t][r] = _mm512_add_epi32(
                    _mm512_sll_epi32(s[t][r], shift), _mm512_zextsi256_si512(middle[t][r]));
            }
        }
        __m128i total = add_lanes(s[t][0], s[t][1], s[t][2], s[t][3]);
        if (is_planar(format) && has_minimum(format)) {
            total = _mm_sll_epi32(total, shift);
            if (middle_factor != 0) {
                __m128i sums = four_k_sums(k_scale, 0, (const uint8_t *)sum + (size_t)t * x_stride);
                sums = _mm_mullo_epi32(sums, _mm_set1_epi32(middle_factor));
                total = _mm_add_epi32(total, sums);
            }
        }
        __m128 s_value = _mm_cvtepi32_ps(total);
        if (is_planar(format)) s_value = _mm_mul_ps(s_value, _mm_set1_ps(0.5f));
        __m128 term = _mm_mul_ps(_mm_mul_ps(d, dx), s_value);
        if (has_minimum(format)) {
            __m128i minimum = four_k_sums(k_scale, 1, (const uint8_t *)sum + (size_t)t * x_stride);
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

#include "avx512_narrow.h"
#include "avx512_wide.h"

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
