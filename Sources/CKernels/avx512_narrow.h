// One token with AVX-512 VNNI: see narrow.h.
//
// A row's quants are taken by 64 bytes as they lie, the low and the high nibbles each as one
// vector, and the activations are arranged to match. Of blocks of 256, two vectors of products,
// each within 16 bits, become one of 16-bit numbers before scales are multiplied in, and in the
// end a lane is a row. Of blocks of 32, a vector has the eight accumulators of two rows.

// Of a, then of b: the 128-bit parts that are even in order, or the odd ones.
SLUICE_INLINE __m512i even_parts(__m512i a, __m512i b) { return _mm512_shuffle_i32x4(a, b, 0x88); }

SLUICE_INLINE __m512i odd_parts(__m512i a, __m512i b) { return _mm512_shuffle_i32x4(a, b, 0xdd); }

// The sums of neighbouring parts of a, then of b.
SLUICE_INLINE __m512i add_neighbours(__m512i a, __m512i b) {
    return _mm512_add_epi32(even_parts(a, b), odd_parts(a, b));
}

// Words a, b, c and d, four times each, over all parts: the index of a shuffle.
SLUICE_INLINE __m512i fours_of(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    const uint64_t four = 0x0001000100010001u;
    return _mm512_setr_epi64(
        (long long)(four * a), (long long)(four * b), (long long)(four * a), (long long)(four * b),
        (long long)(four * c), (long long)(four * d), (long long)(four * c), (long long)(four * d));
}

// MARK: Blocks of 32: Q4_0, Q8_0, MXFP4

SLUICE_INLINE int has_nibbles(int format) {
    return format == eight_q4_0 || format == eight_mxfp4;
}

// Where a pair of rows has its accumulators. With nibbles, part p has those of blocks p and p + 4
// of the first row, then of the second. Else the parts have even blocks, odd ones, and so of the
// second.
SLUICE_INLINE __m512i narrow_eight_lanes(int format) {
    if (has_nibbles(format)) {
        return _mm512_setr_epi32(0, 4, 0, 4, 1, 5, 1, 5, 2, 6, 2, 6, 3, 7, 3, 7);
    }
    return _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7);
}

// A row's products with the activations of eight blocks: with nibbles, lanes of four blocks in each
// of two vectors; else of two blocks in each of four.
SLUICE_INLINE void narrow_eight_products(
    int format, const uint8_t *w, const tile_planes *planes, uint32_t shape, int r, uint32_t unit,
    const __m512i q[4], __m512i p[4]) {
    const __m512i zero = _mm512_setzero_si512(), low_bits = _mm512_set1_epi8(15);
    if (has_nibbles(format)) {
        const __m512i table = _mm512_broadcast_i32x4(
            _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
        size_t stride = eight_stride(format), quants = format == eight_q4_0 ? 2 : 1;
        for (size_t h = 0; h < 2; h++) {
            const uint8_t *at = w + 4 * h * stride + quants;
            __m512i v = _mm512_castsi128_si512(load_128(at));
            v = _mm512_mask_broadcast_i32x4(v, 0x00f0, load_128(at + stride));
            v = _mm512_mask_broadcast_i32x4(v, 0x0f00, load_128(at + 2 * stride));
            v = _mm512_mask_broadcast_i32x4(v, 0xf000, load_128(at + 3 * stride));
            __m512i low = _mm512_and_si512(v, low_bits);
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(v, 4), low_bits);  // [0 .. 15]
            if (format == eight_mxfp4) {
                low = _mm512_shuffle_epi8(table, low);
                high = _mm512_shuffle_epi8(table, high);  // [0 .. 24]
            }
            p[h] = _mm512_dpbusd_epi32(zero, low, q[2 * h]);
            p[h] = _mm512_dpbusd_epi32(p[h], high, q[2 * h + 1]);
        }
        return;
    }
    __m512i u[4];
    if (format == eight_planar) planar_weights(planes, shape, r, unit, u);
    for (size_t k = 0; k < 4; k++) {
        if (format == eight_q8_0) {
            u[k] = _mm512_castsi256_si512(load_256(w + 68 * k + 2));
            u[k] = _mm512_inserti64x4(u[k], load_256(w + 68 * k + 36), 1);
            u[k] = _mm512_xor_si512(u[k], _mm512_set1_epi8(-128));  // [0 .. 255]
        }
        p[k] = _mm512_dpbusd_epi32(zero, u[k], q[k]);
    }
}

// The sums by block of two rows' products.
SLUICE_INLINE __m512i narrow_eight_sums(int format, const __m512i a[4], const __m512i b[4]) {
    if (has_nibbles(format)) return add_parts(a[0], a[1], b[0], b[1]);
    return add_neighbours(
        add_parts(a[0], a[1], a[2], a[3]), add_parts(b[0], b[1], b[2], b[3]));
}

// The scales of eight blocks of a row as 16-bit words in the order of its lanes; with nibbles
// twice, where a pair's first row has them and where its second has.
SLUICE_INLINE __m256i narrow_eight_words(int format, const uint8_t *w) {
    if (format == eight_q4_0) {
        const __m512i words = _mm512_castsi256_si512(_mm256_setr_epi16(
            0, 32, 0, 32, 9, 41, 9, 41, 18, 50, 18, 50, 27, 59, 27, 59));
        return _mm512_castsi512_si256(
            _mm512_permutex2var_epi16(load_512(w), words, load_512(w + 72)));
    }
    if (format == eight_mxfp4) {
        // Byte 17k is the low half of a word for even k and the high half for odd k.
        const __m512i words = _mm512_castsi256_si512(_mm256_setr_epi16(
            0, 34, 0, 34, 8, 42, 8, 42, 17, 51, 17, 51, 25, 59, 25, 59));
        return _mm512_castsi512_si256(
            _mm512_permutex2var_epi16(load_512(w), words, load_512(w + 64)));
    }
    if (format == eight_q8_0) {
        const __m512i words = _mm512_castsi128_si512(_mm_setr_epi16(0, 34, 17, 51, 0, 0, 0, 0));
        __m512i low = _mm512_permutex2var_epi16(load_512(w), words, load_512(w + 64));
        __m512i high = _mm512_permutex2var_epi16(load_512(w + 136), words, load_512(w + 200));
        return _mm256_castsi128_si256(
            _mm_unpacklo_epi32(_mm512_castsi512_si128(low), _mm512_castsi512_si128(high)));
    }
    const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    return _mm256_castsi128_si256(_mm_shuffle_epi8(load_128(w), order));
}

SLUICE_INLINE __m512 narrow_eight_scales(int format, const uint8_t *first, const uint8_t *second) {
    __m256i a = narrow_eight_words(format, first), b = narrow_eight_words(format, second);
    if (!has_nibbles(format)) {
        return _mm512_cvtph_ps(_mm256_inserti128_si256(a, _mm256_castsi256_si128(b), 1));
    }
    __m256i words = _mm256_blend_epi16(a, b, 0xcc);
    if (format == eight_q4_0) return _mm512_cvtph_ps(words);
    __m512i e = _mm512_cvtepu16_epi32(words);
    e = _mm512_srlv_epi32(e, parts_of(0, 8, 0, 8));
    e = _mm512_and_si512(e, _mm512_set1_epi32(255));
    // The larger of what is meant from 2 on and of what is below, held there.
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i denormal = _mm512_sllv_epi32(
        _mm512_set1_epi32(0x00200000), _mm512_min_epu32(e, _mm512_set1_epi32(2)));
    return _mm512_castsi512_ps(_mm512_max_epi32(normal, denormal));
}

// Adds eight blocks of rows r and r + 1 of a group.
SLUICE_INLINE void narrow_eight_pair(
    int format, const narrow_tile *tile, uint32_t g, int r, size_t at, const tile_planes *planes,
    uint32_t shape, uint32_t unit, const __m512i q[4], __m512i offset, __m512 dx, __m512 *a) {
    const uint8_t *w[2];
    __m512i p[2][4];
    for (int i = 0; i < 2; i++) {
        w[i] = tile->blocks.row[4 * g + (uint32_t)(r + i)] + at;
        if (tile->asks) {
            ask(&tile->blocks, 8 * eight_stride(format), r + i);
            if (format == eight_planar) ask_planes(tile, shape, r + i);
        }
        narrow_eight_products(format, w[i], &tile->of_group[g], shape, r + i, unit, q, p[i]);
    }
    __m512i total = narrow_eight_sums(format, p[0], p[1]);
    if (format == eight_planar) {
        total = _mm512_sll_epi32(total, _mm_cvtsi32_si128(planes->shift));
    }
    __m512 s = _mm512_cvtepi32_ps(_mm512_sub_epi32(total, offset));
    if (format == eight_planar) s = _mm512_mul_ps(s, _mm512_set1_ps(0.5f));
    __m512 d = narrow_eight_scales(format, w[0], w[1]);
    *a = _mm512_add_ps(*a, _mm512_mul_ps(_mm512_mul_ps(d, dx), s));
}

// Adds eight blocks of a tile's rows, from `at` bytes into each.
SLUICE_INLINE void narrow_eight_add(
    int format, narrow_tile *tile, size_t at, const tile_planes *planes, uint32_t shape,
    uint32_t unit, const int8_t *q, const float *scale, __m512 a[narrow_rows / 2]) {
    __m512i v[4], sums[4];
    for (int k = 0; k < 4; k++) v[k] = load_512(q + 64 * k);
    if (has_nibbles(format)) {
        __m512i first = v[0], third = v[2];
        v[0] = even_parts(first, v[1]);
        v[1] = odd_parts(first, v[1]);
        v[2] = even_parts(third, v[3]);
        v[3] = odd_parts(third, v[3]);
    }
    const __m512i one = _mm512_set1_epi8(1);
    for (int k = 0; k < 4; k++) {
        sums[k] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), one, v[k]);
    }
    if (has_nibbles(format)) {
        sums[0] = _mm512_add_epi32(sums[0], sums[1]);
        sums[1] = _mm512_add_epi32(sums[2], sums[3]);
    }
    int offset_factor = eight_offset(format);
    if (format == eight_planar) {
        offset_factor = (planes->centre << planes->shift) - planes->middle;
    }
    __m512i offset = _mm512_mullo_epi32(
        narrow_eight_sums(format, sums, sums), _mm512_set1_epi32(offset_factor));
    __m512 dx = _mm512_permutexvar_ps(
        narrow_eight_lanes(format), _mm512_castps256_ps512(_mm256_loadu_ps(scale)));
    for (uint32_t g = 0; g < tile->groups; g++) {
        narrow_eight_pair(
            format, tile, g, 0, at, planes, shape, unit, v, offset, dx, &a[2 * g]);
        narrow_eight_pair(
            format, tile, g, 2, at, planes, shape, unit, v, offset, dx, &a[2 * g + 1]);
        ask_on(&tile->blocks, 8 * eight_stride(format));
        if (format == eight_planar) ask_on_planes(tile, shape);
    }
}

SLUICE_INLINE void narrow_eight(
    int format, const uint8_t *blocks_at, size_t row_bytes, const sluice_planes *weights,
    uint32_t shape, uint32_t rows, const void *x, uint32_t n, float *y) {
    const __m512i by_block =
        has_nibbles(format)
            ? _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
            : _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    size_t stride = eight_stride(format);
    record_a32 record = as_a32(x, n);
    tile_planes planes;
    memset(&planes, 0, sizeof planes);
    if (weights != NULL) planes = planes_of(weights);
    for (uint32_t first = 0; first < rows; first += narrow_rows) {
        narrow_tile tile;
        tile_at(&tile, blocks_at, row_bytes, weights, first, rows);
        uint32_t blocks = n / 32, b = 0;
        __m512 a[narrow_rows / 2];
        for (int i = 0; i < narrow_rows / 2; i++) a[i] = _mm512_setzero_ps();
        for (; b + 8 <= blocks; b += 8) {
            narrow_eight_add(
                format, &tile, b * stride, &planes, shape, b / 8, record.q + (size_t)b * 32,
                record.scale + b, a);
        }
        if (b < blocks) {
            narrow_rest rest;
            narrow_pad(&rest, &tile, record, b, blocks, stride);
            narrow_eight_add(format, &tile, 0, &planes, shape, b / 8, rest.q, rest.scale, a);
        }
        float out[narrow_rows];
        for (int i = 0; i < narrow_rows / 2; i++) {
            // In halves: 4, 2, 1.
            __m512 v = _mm512_permutexvar_ps(by_block, a[i]);
            v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0xb1));
            v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
            v = _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
            out[2 * i] = _mm512_cvtss_f32(v);
            out[2 * i + 1] = _mm_cvtss_f32(_mm512_extractf32x4_ps(v, 2));
        }
        memcpy(y + first, out, tile.live * sizeof(float));
    }
}

// MARK: Super-blocks of 256: Q4_K, Q5_K, Q6_K, IQ4_XS

// What a block of activations gives to all rows.
typedef struct {
    __m512i q[4];          // arranged as the weights are
    __m512i by_sub_block;  // sums of 32 as 16-bit numbers, in every part
    __m512i sums;          // sums of 16, then zeros
    __m512i offset;        // sums of 16 times what, added up, is the weights' offset
} narrow_block;

SLUICE_INLINE narrow_block
narrow_activations(int format, const int8_t *q, const int16_t *sum, int centre) {
    narrow_block block;
    for (int h = 0; h < 2; h++) {
        __m512i first = load_512(q + 128 * h), second = load_512(q + 128 * h + 64);
        if (format == super_q4_K || format == super_q5_K) {
            // The weights are sub-blocks 4h and 4h + 2, then 4h + 1 and 4h + 3.
            block.q[2 * h] = _mm512_shuffle_i32x4(first, second, 0x44);
            block.q[2 * h + 1] = _mm512_shuffle_i32x4(first, second, 0xee);
        } else if (format == super_iq4_xs) {
            // The first halves of four sub-blocks, then the second ones.
            block.q[2 * h] = even_parts(first, second);
            block.q[2 * h + 1] = odd_parts(first, second);
        } else {
            block.q[2 * h] = first;
            block.q[2 * h + 1] = second;
        }
    }
    __m256i sums = load_256(sum);
    block.sums = _mm512_zextsi256_si512(sums);
    block.by_sub_block = _mm512_broadcast_i32x4(
        _mm256_cvtepi32_epi16(_mm256_madd_epi16(sums, _mm256_set1_epi16(1))));
    // The sums are within 16 * 127, so half the offset of 32 leaves them in 16 bits.
    __m256i low = _mm256_mullo_epi16(sums, _mm256_set1_epi16((short)-(centre / 2)));
    __m256i high = _mm256_mullo_epi16(sums, _mm256_set1_epi16((short)(centre / 2 - centre)));
    block.offset = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    return block;
}

// Products of a row's weights with the activations, in lanes of four.
SLUICE_INLINE void narrow_super_products(
    int format, const uint8_t *w, const tile_planes *planes, uint32_t shape, int r, uint32_t unit,
    const __m512i q[4], __m512i p[4]) {
    const __m512i low_bits = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
    __m512i u[4];
    if (is_planar(format)) {
        planar_weights(planes, shape, r, unit, u);
        for (int k = 0; k < 4; k++) p[k] = _mm512_dpbusd_epi32(zero, u[k], q[k]);
        return;
    }
    __m512i fifth = zero, odd_fifth = zero;
    if (format == super_q5_K) {
        // Bits 0 and 4 | 2 and 6 for even sub-blocks, 1 and 5 | 3 and 7 for odd ones. Whichever is
        // moved to bit 4 has zeros above it, and below it what the low bits replace.
        __m512i twice = _mm512_broadcast_i64x4(load_256(w + 16));
        fifth = _mm512_and_si512(
            twice, parts_of(0x11111111, 0x11111111, 0x44444444, 0x44444444));
        odd_fifth = _mm512_and_si512(
            twice, parts_of(0x22222222, 0x22222222, (int)0x88888888, (int)0x88888888));
    }
    for (int h = 0; h < 2; h++) {
        size_t quants = format == super_q4_K   ? 16
                        : format == super_q5_K ? 48
                        : format == super_q6_K ? 0
                                               : 8;
        __m512i v = load_512(w + quants + 64 * (size_t)h), high = _mm512_srli_epi16(v, 4);
        if (format == super_q5_K || format == super_q6_K) {
            __m512i upper, odd_upper;
            if (format == super_q6_K) {
                // As the fifth bits: bits 0, 1, 4 and 5 | 2, 3, 6 and 7, to bits 4 and 5.
                __m512i twice = _mm512_broadcast_i64x4(load_256(w + 128 + 32 * h));
                twice = _mm512_and_si512(
                    twice,
                    parts_of(0x33333333, 0x33333333, (int)0xcccccccc, (int)0xcccccccc));
                upper = _mm512_sllv_epi16(
                    twice, parts_of(0x00040004, 0x00040004, 0x00020002, 0x00020002));
                odd_upper = _mm512_srlv_epi16(twice, parts_of(0, 0, 0x00020002, 0x00020002));
            } else if (h == 0) {
                upper = _mm512_sllv_epi16(
                    fifth, parts_of(0x00040004, 0x00040004, 0x00020002, 0x00020002));
                odd_upper = _mm512_sllv_epi16(
                    odd_fifth, parts_of(0x00030003, 0x00030003, 0x00010001, 0x00010001));
            } else {
                upper = _mm512_srlv_epi16(fifth, parts_of(0, 0, 0x00020002, 0x00020002));
                odd_upper = _mm512_srlv_epi16(
                    odd_fifth, parts_of(0x00010001, 0x00010001, 0x00030003, 0x00030003));
            }
            v = _mm512_ternarylogic_epi32(low_bits, v, upper, 0xca);
            high = _mm512_ternarylogic_epi32(low_bits, high, odd_upper, 0xca);
        } else {
            v = _mm512_and_si512(v, low_bits);
            high = _mm512_and_si512(high, low_bits);
        }
        if (format == super_iq4_xs) {
            const __m128i values = _mm_setr_epi8(SLUICE_IQ4_VALUES);
            const __m512i table =
                _mm512_broadcast_i32x4(_mm_xor_si128(values, _mm_set1_epi8(-128)));
            p[h] = _mm512_dpbusd_epi32(zero, _mm512_shuffle_epi8(table, v), q[2 * h]);
            p[h] = _mm512_dpbusd_epi32(p[h], _mm512_shuffle_epi8(table, high), q[2 * h + 1]);
        } else {
            p[2 * h] = _mm512_dpbusd_epi32(zero, v, q[2 * h]);
            p[2 * h + 1] = _mm512_dpbusd_epi32(zero, high, q[2 * h + 1]);
        }
    }
}

// The scales of four IQ4_XS rows' sub-blocks, [-32 .. 31], as 16-bit numbers, a part for each row.
// `heads` has the rows' first 16 bytes.
SLUICE_INLINE __m512i four_iq4_scales(__m512i heads) {
    const __m512i low_bytes = _mm512_broadcast_i32x4(
        _mm_setr_epi8(4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1));
    __m512i low = _mm512_srlv_epi16(
        _mm512_shuffle_epi8(heads, low_bytes), _mm512_set1_epi32(0x00040000));
    __m512i high = _mm512_srlv_epi16(
        _mm512_shuffle_epi8(heads, _mm512_set1_epi16(0x0302)),
        _mm512_broadcast_i32x4(_mm_setr_epi16(0, 2, 4, 6, 8, 10, 12, 14)));
    low = _mm512_and_si512(low, _mm512_set1_epi16(15));
    high = _mm512_slli_epi16(_mm512_and_si512(high, _mm512_set1_epi16(3)), 4);
    return _mm512_sub_epi16(_mm512_or_si512(low, high), _mm512_set1_epi16(32));
}

// Part r of v in every part.
SLUICE_INLINE __m512i part_of(__m512i v, int r) {
    return r == 0   ? _mm512_shuffle_i32x4(v, v, 0x00)
           : r == 1 ? _mm512_shuffle_i32x4(v, v, 0x55)
           : r == 2 ? _mm512_shuffle_i32x4(v, v, 0xaa)
                    : _mm512_shuffle_i32x4(v, v, 0xff);
}

// 16 lanes that add up to the row's S, `scales` being those of its group; and of planes of Q6_K,
// lanes that add up to the sum of scales times activations.
SLUICE_INLINE __m512i narrow_super_row(
    int format, const narrow_tile *tile, uint32_t g, int r, size_t at, uint32_t shape,
    uint32_t unit, const narrow_block *x, __m512i scales, __m512i *middle) {
    const uint8_t *w = tile->blocks.row[4 * g + (uint32_t)r] + at;
    if (tile->asks) {
        ask(&tile->blocks, super_bytes(format), r);
        if (is_planar(format)) ask_planes(tile, shape, r);
    }
    __m512i p[4];
    narrow_super_products(format, w, &tile->of_group[g], shape, r, unit, x->q, p);
    if (format == super_iq4_xs) {
        // Eight products reach 8 * 241 * 127, beyond 16 bits.
        __m512i row = _mm512_castsi256_si512(
            _mm256_cvtepi16_epi32(_mm512_castsi512_si128(part_of(scales, r))));
        __m512i first = _mm512_permutexvar_epi32(parts_of(0, 1, 2, 3), row);
        __m512i second = _mm512_permutexvar_epi32(parts_of(4, 5, 6, 7), row);
        return _mm512_add_epi32(
            _mm512_mullo_epi32(p[0], first), _mm512_mullo_epi32(p[1], second));
    }
    // Four products stay within 4 * 63 * 127 = 32004.
    __m512i first = _mm512_packs_epi32(p[0], p[1]), second = _mm512_packs_epi32(p[2], p[3]);
    if (has_minimum(format)) {
        // Bytes to 16-bit numbers. The sub-blocks of `first` are 0, 1 | 2, 3; of planes, whose
        // weights are in order, 0, 2 | 1, 3.
        __m512i row = part_of(scales, r), spread = fours_of(0x8000, 0x8001, 0x8002, 0x8003);
        if (is_planar(format)) spread = fours_of(0x8000, 0x8002, 0x8001, 0x8003);
        __m512i s = _mm512_dpwssd_epi32(
            _mm512_setzero_si512(), first, _mm512_shuffle_epi8(row, spread));
        spread = _mm512_add_epi16(spread, _mm512_set1_epi16(4));
        return _mm512_dpwssd_epi32(s, second, _mm512_shuffle_epi8(row, spread));
    }
    __m512i row = _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(
        load_128(w + (is_planar(format) ? 0 : offsetof(block_q6_K, scales)))));
    const uint64_t four = 0x0001000100010001u;
    __m512i spread = _mm512_setr_epi64(
        0, (long long)(four * 4), (long long)four, (long long)(four * 5), (long long)(four * 2),
        (long long)(four * 6), (long long)(four * 3), (long long)(four * 7));
    *middle = _mm512_madd_epi16(row, x->sums);
    __m512i s = _mm512_madd_epi16(row, x->offset);
    s = _mm512_dpwssd_epi32(s, first, _mm512_permutexvar_epi16(spread, row));
    spread = _mm512_add_epi16(spread, _mm512_set1_epi16(8));
    return _mm512_dpwssd_epi32(s, second, _mm512_permutexvar_epi16(spread, row));
}

// By group of four rows, for `narrow_super` to add up.
typedef struct {
    __m512i products[4];  // part p has the sums over parts p of each row, a lane for each
    __m512i minima[4];    // part r has four lanes of row r; of IQ4_XS what makes its offset
    __m512i middles[4];   // scales times activations: of planar_k as minima, of Q6_K as products
    __m512i heads[4];     // a part for each row, with its d
} narrow_sums;

SLUICE_INLINE void narrow_super_group(
    int format, narrow_tile *tile, uint32_t g, size_t at, const tile_planes *planes,
    uint32_t shape, uint32_t unit, const narrow_block *x, narrow_sums *sums) {
    const uint8_t *const *w = &tile->blocks.row[4 * g];
    // Of Q6_K, d is the last word of 16 bytes, which may not reach beyond the block.
    size_t head_at = at + (has_scales_of_16(format) ? super_d_offset(format) - 14 : 0);
    __m512i heads = _mm512_castsi128_si512(load_128(w[0] + head_at));
    heads = _mm512_inserti32x4(heads, load_128(w[1] + head_at), 1);
    heads = _mm512_inserti32x4(heads, load_128(w[2] + head_at), 2);
    heads = _mm512_inserti32x4(heads, load_128(w[3] + head_at), 3);
    sums->heads[g] = heads;
    __m512i scales = _mm512_setzero_si512(), s[4], m[4];
    if (has_minimum(format)) {
        const __m512i lower = _mm512_broadcast_i32x4(
            _mm_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1, 6, -1, 7, -1));
        const __m512i upper = _mm512_broadcast_i32x4(
            _mm_setr_epi8(8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1));
        scales = four_k_scales(heads);
        sums->minima[g] = _mm512_madd_epi16(_mm512_shuffle_epi8(scales, upper), x->by_sub_block);
        if (is_planar(format) && planes->middle != 0) {
            sums->middles[g] =
                _mm512_madd_epi16(_mm512_shuffle_epi8(scales, lower), x->by_sub_block);
        }
    } else if (format == super_iq4_xs) {
        scales = four_iq4_scales(heads);
        sums->minima[g] = _mm512_madd_epi16(scales, x->by_sub_block);
    }
    s[0] = narrow_super_row(format, tile, g, 0, at, shape, unit, x, scales, &m[0]);
    s[1] = narrow_super_row(format, tile, g, 1, at, shape, unit, x, scales, &m[1]);
    s[2] = narrow_super_row(format, tile, g, 2, at, shape, unit, x, scales, &m[2]);
    s[3] = narrow_super_row(format, tile, g, 3, at, shape, unit, x, scales, &m[3]);
    sums->products[g] = add_parts(s[0], s[1], s[2], s[3]);
    if (format == super_planar_q6_K && planes->middle != 0) {
        sums->middles[g] = add_parts(m[0], m[1], m[2], m[3]);
    }
    ask_on(&tile->blocks, super_bytes(format));
    if (is_planar(format)) ask_on_planes(tile, shape);
}

// From sums by part, rows in their lanes, to rows in order.
SLUICE_INLINE __m512i rows_of_lanes(const __m512i v[4]) {
    return add_neighbours(add_neighbours(v[0], v[1]), add_neighbours(v[2], v[3]));
}

// From parts by row to rows in order.
SLUICE_INLINE __m512i rows_of_parts(const __m512i v[4]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, add_parts(v[0], v[1], v[2], v[3]));
}

SLUICE_INLINE void narrow_super(
    int format, const uint8_t *blocks_at, size_t row_bytes, const sluice_planes *weights,
    uint32_t shape, uint32_t rows, const void *x, uint32_t n, float *y) {
    record_a256 record = as_a256(x, n);
    tile_planes planes;
    memset(&planes, 0, sizeof planes);
    if (weights != NULL) planes = planes_of(weights);
    int centre = format == super_q6_K ? 32 : format == super_planar_q6_K ? planes.centre : 0;
    const __m512i words_of_d = _mm512_castsi256_si512(_mm256_setr_epi16(
        0, 8, 16, 24, 2, 10, 18, 26, 4, 12, 20, 28, 6, 14, 22, 30));
    const __m512i next_words = _mm512_add_epi16(words_of_d, _mm512_set1_epi16(1));
    for (uint32_t first = 0; first < rows; first += narrow_rows) {
        narrow_tile tile;
        tile_at(&tile, blocks_at, row_bytes, weights, first, rows);
        __m512 a = _mm512_setzero_ps();
        narrow_sums s;
        memset(&s, 0, sizeof s);
        for (uint32_t b = 0; b < n / 256; b++) {
            narrow_block block = narrow_activations(
                format, record.q + (size_t)b * 256, record.sum + (size_t)b * 16, centre);
            for (uint32_t g = 0; g < tile.groups; g++) {
                narrow_super_group(
                    format, &tile, g, b * super_bytes(format), &planes, shape, b, &block, &s);
            }
            __m512 dx = _mm512_set1_ps(record.scale[b]);
            __m512i total = rows_of_lanes(s.products);
            __m512i minimum = _mm512_setzero_si512();
            if (has_minimum(format) || format == super_iq4_xs) {
                minimum = rows_of_parts(s.minima);
            }
            if (format == super_iq4_xs) {
                total = _mm512_sub_epi32(total, _mm512_slli_epi32(minimum, 7));
            }
            if (is_planar(format)) {
                total = _mm512_sll_epi32(total, _mm_cvtsi32_si128(planes.shift));
                if (planes.middle != 0) {
                    __m512i middle =
                        has_minimum(format)
                            ? rows_of_parts(s.middles)
                            : rows_of_lanes(s.middles);
                    middle = _mm512_mullo_epi32(middle, _mm512_set1_epi32(planes.middle));
                    total = _mm512_add_epi32(total, middle);
                }
            }
            __m512 value = _mm512_cvtepi32_ps(total);
            if (is_planar(format)) value = _mm512_mul_ps(value, _mm512_set1_ps(0.5f));
            // The first words of the heads, or the last ones; a part for each row, groups in its
            // lanes.
            __m512i heads;
            if (has_scales_of_16(format)) {
                heads = _mm512_unpackhi_epi64(
                    _mm512_unpackhi_epi32(s.heads[0], s.heads[1]),
                    _mm512_unpackhi_epi32(s.heads[2], s.heads[3]));
            } else {
                heads = _mm512_unpacklo_epi64(
                    _mm512_unpacklo_epi32(s.heads[0], s.heads[1]),
                    _mm512_unpacklo_epi32(s.heads[2], s.heads[3]));
            }
            __m512i words = _mm512_permutexvar_epi16(
                has_scales_of_16(format) ? next_words : words_of_d, heads);
            __m512 d = _mm512_cvtph_ps(_mm512_castsi512_si256(words));
            __m512 term = _mm512_mul_ps(_mm512_mul_ps(d, dx), value);
            if (has_minimum(format)) {
                words = _mm512_permutexvar_epi16(next_words, heads);
                __m512 dmin = _mm512_cvtph_ps(_mm512_castsi512_si256(words));
                term = _mm512_sub_ps(
                    term, _mm512_mul_ps(_mm512_mul_ps(dmin, dx), _mm512_cvtepi32_ps(minimum)));
            }
            a = _mm512_add_ps(a, term);
        }
        _mm512_mask_storeu_ps(y + first, (__mmask16)((1u << tile.live) - 1), a);
    }
}

SLUICE_NARROW_KERNELS

#undef SLUICE_NARROW
#define SLUICE_NARROW(gemm, ...) narrow_##gemm(__VA_ARGS__)

// Tiles have one token only where it is the last of an odd number.
#undef SLUICE_SHAPED_TILE
#define SLUICE_SHAPED_TILE(tile, known)
