// One token with AVX2: see narrow.h.
//
// What has to be taken apart once a block, the scales and minima, is done for all 16 rows first,
// and left in memory, from where a sub-block's scale is spread over a vector as it is loaded.

// MARK: Blocks of 32: Q4_0, Q8_0, MXFP4

// Vector i has blocks 2i and 2i + 1 in its halves where quants are nibbles, and the eight
// accumulators stand in that order: even blocks, then odd ones.

SLUICE_INLINE int has_nibbles(int format) {
    return format == eight_q4_0 || format == eight_mxfp4;
}

SLUICE_INLINE __m256i narrow_order(void) { return _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7); }

// The sums of eight blocks, even ones first, with the activations `q`: with nibbles first the lower
// halves of two blocks each, then the upper halves.
SLUICE_INLINE __m256i narrow_eight_sums(
    int format, const uint8_t *w, const __m256i u[8], const __m256i q[8]) {
    __m256i s[8];
    if (has_nibbles(format)) {
        const __m256i low_bits = _mm256_set1_epi8(15);
        const __m256i table =
            both(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
        size_t stride = eight_stride(format), quants = format == eight_q4_0 ? 2 : 1;
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *at = w + 2 * i * stride + quants;
            __m256i v = _mm256_castsi128_si256(load_128(at));
            v = _mm256_inserti128_si256(v, load_128(at + stride), 1);
            __m256i low = _mm256_and_si256(v, low_bits);
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), low_bits);
            if (format == eight_mxfp4) {
                low = _mm256_shuffle_epi8(table, low);
                high = _mm256_shuffle_epi8(table, high);
            }
#if SLUICE_VNNI
            s[i] = add_dots(
                add_dots(_mm256_setzero_si256(), low, q[2 * i]), high, q[2 * i + 1]);
#else
            // Sums of four within 4 * 24 * 127 = 12192.
            s[i] = _mm256_add_epi16(
                _mm256_maddubs_epi16(low, q[2 * i]), _mm256_maddubs_epi16(high, q[2 * i + 1]));
#endif
        }
#if SLUICE_VNNI
        return _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
#else
        const __m256i one = _mm256_set1_epi16(1);
        __m256i first = _mm256_madd_epi16(_mm256_hadd_epi16(s[0], s[1]), one);
        __m256i second = _mm256_madd_epi16(_mm256_hadd_epi16(s[2], s[3]), one);
        return _mm256_hadd_epi32(first, second);
#endif
    }
    for (int k = 0; k < 8; k++) {
#if SLUICE_VNNI
        __m256i v = format == eight_q8_0 ? load_256(w + 34 * k + 2) : u[k];
        if (format == eight_q8_0) v = _mm256_xor_si256(v, _mm256_set1_epi8(-128));
        s[k] = add_dots(_mm256_setzero_si256(), v, q[k]);
#else
        __m256i v = format == eight_q8_0 ? load_256(w + 34 * k + 2) : u[k];
        s[k] = _mm256_madd_epi16(signed_pairs(v, q[k]), _mm256_set1_epi16(1));
#endif
    }
    __m256i even = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[2]), _mm256_hadd_epi32(s[4], s[6]));
    __m256i odd = _mm256_hadd_epi32(_mm256_hadd_epi32(s[1], s[3]), _mm256_hadd_epi32(s[5], s[7]));
    return _mm256_add_epi32(
        _mm256_permute2x128_si256(even, odd, 0x20), _mm256_permute2x128_si256(even, odd, 0x31));
}

// The scales of eight blocks, even ones first.
SLUICE_INLINE __m256 narrow_eight_scales(int format, const uint8_t *w) {
    if (format == eight_planar) {
        const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        return _mm256_cvtph_ps(_mm_shuffle_epi8(load_128(w), order));
    }
    // Loads placed so that block 2i's scale starts lane i of the lower half, and that of block
    // 2i + 1 stands in lane i of the upper one.
    __m256i v[4];
    for (size_t i = 0; i < 4; i++) {
        if (format == eight_q4_0) v[i] = load_256(w + 32 * i);
        if (format == eight_mxfp4) v[i] = load_256(w + 30 * i);
        if (format == eight_q8_0) {
            v[i] = _mm256_castsi128_si256(load_128(w + 64 * i));
            v[i] = _mm256_inserti128_si256(v[i], load_128(w + 64 * i + 34), 1);
        }
    }
    __m256i all = _mm256_blend_epi32(
        _mm256_blend_epi32(v[0], v[1], 0x22), _mm256_blend_epi32(v[2], v[3], 0x88), 0xcc);
    if (format == eight_mxfp4) {
        __m256i e = _mm256_shuffle_epi8(
            all, _mm256_setr_epi8(
                     0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1, -1, 1, -1, -1, -1, 5,
                     -1, -1, -1, 9, -1, -1, -1, 13, -1, -1, -1));
        // The larger of what is meant from 2 on and of what is below, held there.
        __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
        __m256i denormal = _mm256_sllv_epi32(
            _mm256_set1_epi32(0x00200000), _mm256_min_epi32(e, _mm256_set1_epi32(2)));
        return _mm256_castsi256_ps(_mm256_max_epi32(normal, denormal));
    }
    const __m256i first_words =
        both(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i second_words = _mm256_setr_epi8(
        0, 1, 4, 5, 8, 9, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 6, 7, 10, 11, 14, 15, 0, 0, 0, 0, 0,
        0, 0, 0);
    all = _mm256_shuffle_epi8(all, format == eight_q4_0 ? second_words : first_words);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(all, 0x08)));
}

// Adds eight blocks of one row.
SLUICE_INLINE void narrow_eight_row(
    int format, const narrow_tile *tile, uint32_t g, int r, size_t at, const tile_planes *planes,
    uint32_t shape, uint32_t unit, const __m256i q[8], __m256i offset, __m256 dx, __m256 *a) {
    const uint8_t *w = tile->blocks.row[4 * g + (uint32_t)r] + at;
    __m256i u[8];
    if (tile->asks) {
        ask(&tile->blocks, 8 * eight_stride(format), r);
        if (format == eight_planar) ask_planes(tile, shape, r);
    }
    if (format == eight_planar) {
        planar_weights(&tile->of_group[g], shape, r, unit, u);
#if !SLUICE_VNNI
        for (int k = 0; k < 8; k++) {
            u[k] = _mm256_sub_epi8(u[k], _mm256_set1_epi8((char)planes->centre));
        }
#endif
    }
    __m256i total = narrow_eight_sums(format, w, u, q);
    if (format == eight_planar) total = _mm256_sll_epi32(total, _mm_cvtsi32_si128(planes->shift));
    __m256 s = _mm256_cvtepi32_ps(_mm256_sub_epi32(total, offset));
    if (format == eight_planar) s = _mm256_mul_ps(s, _mm256_set1_ps(0.5f));
    a[r] = _mm256_add_ps(a[r], _mm256_mul_ps(_mm256_mul_ps(narrow_eight_scales(format, w), dx), s));
}

// Adds eight blocks of a tile's rows, from `at` bytes into each.
SLUICE_INLINE void narrow_eight_add(
    int format, narrow_tile *tile, size_t at, const tile_planes *planes, uint32_t shape,
    uint32_t unit, const int8_t *q, const float *scale, __m256 a[narrow_rows]) {
    __m256i v[8], sums[8];
    for (int k = 0; k < 8; k++) {
        v[k] = load_256(q + 32 * k);
        sums[k] = add_dots(_mm256_setzero_si256(), _mm256_set1_epi8(1), v[k]);
    }
    __m256i by_block = _mm256_permutevar8x32_epi32(add_eight(sums), narrow_order());
    if (has_nibbles(format)) {
        for (int i = 0; i < 8; i += 2) {
            __m256i first = v[i];
            v[i] = _mm256_permute2x128_si256(first, v[i + 1], 0x20);
            v[i + 1] = _mm256_permute2x128_si256(first, v[i + 1], 0x31);
        }
    }
    // What the sums of activations are multiplied by: the weights' offset, less the planes' middle.
    int factor = format == eight_q4_0 ? 8 : format == eight_mxfp4 ? 12 : SLUICE_VNNI ? 128 : 0;
    if (format == eight_planar) {
        factor = (SLUICE_VNNI ? planes->centre << planes->shift : 0) - planes->middle;
    }
    __m256i offset = _mm256_mullo_epi32(by_block, _mm256_set1_epi32(factor));
    __m256 dx = _mm256_permutevar8x32_ps(_mm256_loadu_ps(scale), narrow_order());
    for (uint32_t g = 0; g < tile->groups; g++) {
        __m256 *of = a + 4 * g;
        narrow_eight_row(format, tile, g, 0, at, planes, shape, unit, v, offset, dx, of);
        narrow_eight_row(format, tile, g, 1, at, planes, shape, unit, v, offset, dx, of);
        narrow_eight_row(format, tile, g, 2, at, planes, shape, unit, v, offset, dx, of);
        narrow_eight_row(format, tile, g, 3, at, planes, shape, unit, v, offset, dx, of);
        ask_on(&tile->blocks, 8 * eight_stride(format));
        if (format == eight_planar) ask_on_planes(tile, shape);
    }
}

SLUICE_INLINE void narrow_eight(
    int format, const uint8_t *blocks_at, size_t row_bytes, const sluice_planes *weights,
    uint32_t shape, uint32_t rows, const void *x, uint32_t n, float *y) {
    size_t stride = eight_stride(format);
    record_a32 record = as_a32(x, n);
    tile_planes planes;
    memset(&planes, 0, sizeof planes);
    if (weights != NULL) planes = planes_of(weights);
    for (uint32_t first = 0; first < rows; first += narrow_rows) {
        narrow_tile tile;
        tile_at(&tile, blocks_at, row_bytes, weights, first, rows);
        uint32_t blocks = n / 32, b = 0;
        __m256 a[narrow_rows];
        for (int i = 0; i < narrow_rows; i++) a[i] = _mm256_setzero_ps();
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
        for (uint32_t i = 0; i < tile.live; i++) {
            y[first + i] = vf_fold(
                _mm256_permutevar8x32_ps(a[i], _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
        }
    }
}

// MARK: Super-blocks of 256: Q4_K, Q5_K, Q6_K, IQ4_XS

// What a tile's rows have beside their quants in one block, and what becomes of them.
typedef struct {
    // Scales twice each, as 16-bit numbers: of a pair of rows sub-blocks 0 to 3 of the first, of
    // the second, then 4 to 7.
    uint32_t scales[narrow_rows / 2][2][2][4];
    __m256i minima[narrow_rows / 2];   // of a pair of rows, four lanes each that add up to M
    __m256i middles[narrow_rows / 2];  // likewise scales times activations, of planes
    uint32_t heads[narrow_rows];       // d, and dmin in the upper half
    int32_t total[narrow_rows];        // S
    int32_t middle[narrow_rows];       // of planes of Q6_K, scales times activations
} narrow_sums;

// What a block of activations gives to all rows.
typedef struct {
    const int8_t *q;
    __m256i arranged[8], magnitudes[8];  // of IQ4_XS: the halves of two sub-blocks
    __m256i by_sub_block;                // sums of 32 as 16-bit numbers, in both halves
    __m256i sums;                        // of 16, even runs first
    __m256i offset[2];                   // what, added up, is `sums` times the weights' offset
} narrow_block;

SLUICE_INLINE void narrow_activations(
    int format, const int8_t *q, const int16_t *sum, int centre, narrow_block *block) {
    block->q = q;
    __m256i sums = load_256(sum);
    __m256i wide = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
    block->by_sub_block = both(
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
    if (format == super_iq4_xs) {
        for (int i = 0; i < 8; i += 2) {
            __m256i first = load_256(q + 32 * i), second = load_256(q + 32 * i + 32);
            block->arranged[i] = _mm256_permute2x128_si256(first, second, 0x20);
            block->arranged[i + 1] = _mm256_permute2x128_si256(first, second, 0x31);
            block->magnitudes[i] = _mm256_abs_epi8(block->arranged[i]);
            block->magnitudes[i + 1] = _mm256_abs_epi8(block->arranged[i + 1]);
        }
    }
    if (has_scales_of_16(format)) {
        const __m256i order =
            both(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
        sums = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(sums, order), 0xd8);
        block->sums = sums;
        // They are within 16 * 127, so half the offset of 32 leaves them in 16 bits.
        block->offset[0] = _mm256_mullo_epi16(sums, _mm256_set1_epi16((short)-(centre / 2)));
        block->offset[1] =
            _mm256_mullo_epi16(sums, _mm256_set1_epi16((short)(centre / 2 - centre)));
    }
}

// The eight scales, then the eight minima of two rows' blocks, from their first 16 bytes.
SLUICE_INLINE __m256i two_k_scales(__m256i heads) {
    const __m256i low =
        both(_mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m256i high = both(_mm_setr_epi8(4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11));
    __m256i a =
        _mm256_srlv_epi32(_mm256_shuffle_epi8(heads, low), both(_mm_setr_epi32(0, 0, 0, 4)));
    __m256i b = _mm256_srli_epi32(_mm256_shuffle_epi8(heads, high), 2);
    a = _mm256_and_si256(
        a, both(_mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)));
    b = _mm256_and_si256(b, both(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
    return _mm256_or_si256(a, b);
}

// Takes apart what two rows have beside their quants.
SLUICE_INLINE void narrow_super_heads(
    int format, const narrow_tile *tile, uint32_t pair, size_t at, const tile_planes *planes,
    const narrow_block *x, narrow_sums *sums) {
    const uint8_t *w[2] = {tile->blocks.row[2 * pair] + at, tile->blocks.row[2 * pair + 1] + at};
    for (int i = 0; i < 2; i++) {
        memcpy(
            &sums->heads[2 * pair + (uint32_t)i], w[i] + super_d_offset(format),
            has_minimum(format) ? 4 : 2);
    }
    if (!has_minimum(format)) return;
    __m256i heads = _mm256_inserti128_si256(
        _mm256_castsi128_si256(load_128(w[0])), load_128(w[1]), 1);
    __m256i bytes = two_k_scales(heads), zero = _mm256_setzero_si256();
    __m256i scales = _mm256_unpacklo_epi8(bytes, zero);
    _mm256_storeu_si256(
        (__m256i *)(void *)sums->scales[pair][0], _mm256_unpacklo_epi16(scales, scales));
    _mm256_storeu_si256(
        (__m256i *)(void *)sums->scales[pair][1], _mm256_unpackhi_epi16(scales, scales));
    sums->minima[pair] =
        _mm256_madd_epi16(_mm256_unpackhi_epi8(bytes, zero), x->by_sub_block);
    if (is_planar(format) && planes->middle != 0) {
        sums->middles[pair] = _mm256_madd_epi16(scales, x->by_sub_block);
    }
}

// Lane i of either half all over it. Not a shuffle by an index, of which clang makes two others.
SLUICE_INLINE __m256i lane_of(__m256i v, int i) {
    return i == 0   ? _mm256_shuffle_epi32(v, 0x00)
           : i == 1 ? _mm256_shuffle_epi32(v, 0x55)
           : i == 2 ? _mm256_shuffle_epi32(v, 0xaa)
                    : _mm256_shuffle_epi32(v, 0xff);
}

// Eight lanes that add up to the row's S; and of planes of Q6_K, lanes that add up to the sum of
// scales times activations.
SLUICE_INLINE __m256i narrow_super_row(
    int format, const narrow_tile *tile, uint32_t g, int r, size_t at, uint32_t shape,
    uint32_t unit, const narrow_block *x, const narrow_sums *sums, __m256i *middle) {
    const uint8_t *w = tile->blocks.row[4 * g + (uint32_t)r] + at;
    if (tile->asks) {
        ask(&tile->blocks, super_bytes(format), r);
        if (is_planar(format)) ask_planes(tile, shape, r);
    }
    __m256i planar[8], s = _mm256_setzero_si256();
    // Twice each, as 16-bit numbers: those of even sub-blocks in the lower half, of odd ones in the
    // upper, 0 to 3 and 4 to 7 of either.
    __m256i twice[2] = {s, s};
    if (is_planar(format)) planar_weights(&tile->of_group[g], shape, r, unit, planar);
    if (has_scales_of_16(format)) {
        const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
        __m256i scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(
            load_128(w + (is_planar(format) ? 0 : offsetof(block_q6_K, scales))), order));
        *middle = _mm256_madd_epi16(scales, x->sums);
        s = add_scaled_pairs(_mm256_madd_epi16(scales, x->offset[0]), scales, x->offset[1]);
        twice[0] = _mm256_unpacklo_epi16(scales, scales);
        twice[1] = _mm256_unpackhi_epi16(scales, scales);
    } else if (format == super_iq4_xs) {
        const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        __m256i scales = _mm256_permute4x64_epi64(
            _mm256_castsi128_si256(_mm_shuffle_epi8(iq4_scales(w), order)), 0x50);
        twice[0] = _mm256_unpacklo_epi16(scales, scales);
    }
    const uint32_t *spread = &sums->scales[2 * g + (uint32_t)r / 2][0][r % 2][0];
    for (int c = 0; c < 4; c++) {
        __m256i weights[2];
        if (format == super_iq4_xs) {
            const __m256i values = both(_mm_setr_epi8(SLUICE_IQ4_VALUES));
            const __m256i low_bits = _mm256_set1_epi8(15);
            __m256i v = load_256(w + 8 + 32 * c);
            weights[0] = _mm256_shuffle_epi8(values, _mm256_and_si256(v, low_bits));
            weights[1] = _mm256_shuffle_epi8(
                values, _mm256_and_si256(_mm256_srli_epi16(v, 4), low_bits));
            __m256i factor = lane_of(twice[0], c);
            for (int i = 0; i < 2; i++) {
                // Pairs within 2 * 127 * 127.
                __m256i pairs = _mm256_maddubs_epi16(
                    x->magnitudes[2 * c + i],
                    _mm256_sign_epi8(weights[i], x->arranged[2 * c + i]));
                s = add_scaled_pairs(s, pairs, factor);
            }
            continue;
        }
        if (is_planar(format)) {
            memcpy(weights, planar + 2 * c, sizeof weights);
        } else {
            super_weights(format, w, c, weights);
        }
        for (int i = 0; i < 2; i++) {
            int j = 2 * c + i;
            __m256i factor =
                has_minimum(format)
                    ? _mm256_set1_epi32((int)spread[8 * (j / 4) + j % 4])
                    : lane_of(twice[j / 4], j % 4);
            // Pairs within 2 * 63 * 127.
            __m256i pairs = _mm256_maddubs_epi16(weights[i], load_256(x->q + 32 * j));
            s = add_scaled_pairs(s, pairs, factor);
        }
    }
    return s;
}

// From lanes of pairs of rows, four to a row, the sums of eight rows in order.
SLUICE_INLINE __m256i rows_of_pairs(const __m256i v[4]) {
    __m256i sums =
        _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm256_permutevar8x32_epi32(sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// The lower 16 bits of eight lanes, widened.
SLUICE_INLINE __m256 narrow_halves(__m256i v) {
    v = _mm256_shuffle_epi8(
        v, both(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13)));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(v, 0x08)));
}

// What a block adds to eight rows from `row` on.
SLUICE_INLINE __m256 narrow_super_terms(
    int format, const narrow_sums *sums, uint32_t row, const tile_planes *planes, __m256 dx) {
    __m256i total = load_256(sums->total + row), heads = load_256(sums->heads + row);
    if (is_planar(format)) {
        total = _mm256_sll_epi32(total, _mm_cvtsi32_si128(planes->shift));
        if (planes->middle != 0) {
            __m256i middle = has_minimum(format) ? rows_of_pairs(sums->middles + row / 2)
                                                 : load_256(sums->middle + row);
            total = _mm256_add_epi32(
                total, _mm256_mullo_epi32(middle, _mm256_set1_epi32(planes->middle)));
        }
    }
    __m256 value = _mm256_cvtepi32_ps(total);
    if (is_planar(format)) value = _mm256_mul_ps(value, _mm256_set1_ps(0.5f));
    __m256 term = _mm256_mul_ps(_mm256_mul_ps(narrow_halves(heads), dx), value);
    if (has_minimum(format)) {
        __m256 dmin = narrow_halves(_mm256_srli_epi32(heads, 16));
        __m256 minimum = _mm256_cvtepi32_ps(rows_of_pairs(sums->minima + row / 2));
        term = _mm256_sub_ps(term, _mm256_mul_ps(_mm256_mul_ps(dmin, dx), minimum));
    }
    return term;
}

SLUICE_INLINE void narrow_super(
    int format, const uint8_t *blocks_at, size_t row_bytes, const sluice_planes *weights,
    uint32_t shape, uint32_t rows, const void *x, uint32_t n, float *y) {
    record_a256 record = as_a256(x, n);
    tile_planes planes;
    memset(&planes, 0, sizeof planes);
    if (weights != NULL) planes = planes_of(weights);
    int centre = format == super_q6_K ? 32 : format == super_planar_q6_K ? planes.centre : 0;
    narrow_sums sums;
    memset(&sums, 0, sizeof sums);
    for (uint32_t first = 0; first < rows; first += narrow_rows) {
        narrow_tile tile;
        tile_at(&tile, blocks_at, row_bytes, weights, first, rows);
        __m256 a[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (uint32_t b = 0; b < n / 256; b++) {
            narrow_block block;
            size_t at = b * super_bytes(format);
            narrow_activations(
                format, record.q + (size_t)b * 256, record.sum + (size_t)b * 16, centre, &block);
            for (uint32_t pair = 0; pair < 2 * tile.groups; pair++) {
                narrow_super_heads(format, &tile, pair, at, &planes, &block, &sums);
            }
            for (uint32_t g = 0; g < tile.groups; g++) {
                __m256i s[4], m[4];
                s[0] = narrow_super_row(
                    format, &tile, g, 0, at, shape, b, &block, &sums, &m[0]);
                s[1] = narrow_super_row(
                    format, &tile, g, 1, at, shape, b, &block, &sums, &m[1]);
                s[2] = narrow_super_row(
                    format, &tile, g, 2, at, shape, b, &block, &sums, &m[2]);
                s[3] = narrow_super_row(
                    format, &tile, g, 3, at, shape, b, &block, &sums, &m[3]);
                _mm_storeu_si128(
                    (__m128i *)(void *)&sums.total[4 * g], add_lanes(s[0], s[1], s[2], s[3]));
                if (format == super_planar_q6_K && planes.middle != 0) {
                    _mm_storeu_si128(
                        (__m128i *)(void *)&sums.middle[4 * g], add_lanes(m[0], m[1], m[2], m[3]));
                }
                ask_on(&tile.blocks, super_bytes(format));
                if (is_planar(format)) ask_on_planes(&tile, shape);
            }
            __m256 dx = _mm256_set1_ps(record.scale[b]);
            for (uint32_t i = 0; i < 2; i++) {
                a[i] = _mm256_add_ps(a[i], narrow_super_terms(format, &sums, 8 * i, &planes, dx));
            }
        }
        float out[narrow_rows];
        _mm256_storeu_ps(out, a[0]);
        _mm256_storeu_ps(out + 8, a[1]);
        memcpy(y + first, out, tile.live * sizeof(float));
    }
}

SLUICE_NARROW_KERNELS

#undef SLUICE_NARROW
#define SLUICE_NARROW(gemm, ...) narrow_##gemm(__VA_ARGS__)

// Tiles have one token only where it is the last of an odd number.
#undef SLUICE_SHAPED_TILE
#define SLUICE_SHAPED_TILE(tile, known)
