"""Seeded faults of products of two activations, of attention and of norms: see `mutants.py`."""

MUTANTS = {
    "simd/v_matmul.c": (
        ("columns keep their zero points", "bias[j] *= -zero;", "bias[j] = 0;"),
        ("rows keep their zero points", "less[row] = (p->b_zero - 128)", "less[row] = 0 * (p->b_zero - 128)"),
        ("runs of rows meet the first rows", "a + (int64_t)row * p->k, b, y", "a, b, y"),
        ("the second tile has the weights of the first", "w + 64 * v * (int64_t)quads, bias + 16 * v", "w, bias + 16 * v"),
    ),
    "simd/v_attend.c": (
        ("rows see what the last of their tile sees", "pj_v_attend_seen(p, row + r), quads", "pj_v_attend_seen(p, row + some - 1), quads"),
        ("the mask begins anew with each plane", "(masked + row + r) % p->mask_rows", "(row + r) % p->mask_rows"),
        ("blocks lie as if nothing were hidden", "64 * (int64_t)all, row", "64 * (int64_t)quads, row"),
        ("the values are not centred", "p->v_zero * weight", "0 * weight"),
    ),
    "simd/v_matmul_row.c": (
        ("the row keeps the zero point of the columns", "less = p->b_zero *", "less = 0 *"),
        ("columns are as full as a whole memory", "pj_first_step(in[2], p->n - p->m) + p->m : p->n;", "p->n : p->n;"),
        ("the first of many rows is not counted", "pj_first_step(in[2], p->n - p->m) + p->m", "pj_first_step(in[2], p->n - p->m) + 1"),
        ("what is no product is left as it was", "memset(y + filled, pj_requantize(0, p->multiplier, p->y_zero, p->low, p->high),", "memset(y + filled, 0,"),
        ("the second columns are the first", "b + (int64_t)j * p->k, p->k, lanes", "b, p->k, lanes"),
    ),
    "simd/v_attend_row.c": (
        ("a row sees one step less", "p->causal && first + row < p->length ? first + row + 1", "p->causal && first + row < p->length && first + row > 0 ? first + row"),
        ("rows see no more than the first", "? first + row + 1", "? first + 1"),
        ("the values are not centred", "p->v_zero * weight", "0 * weight"),
        ("the second features are the first", "v + (int64_t)j * p->length, p->length", "v, p->length"),
    ),
    "simd/pj_attention.h": (
        ("the last rows are the first of them", "pj_row_dots(four, a, b + r * step, 0, n);", "pj_row_dots(four, a, b + rows / 4 * 4 * step, 0, n);"),
        ("a row's weights are those of its place", "(*table)[top - x[i]];\n        weights[i]", "(*table)[top - x[0]];\n        weights[i]"),
        ("the end of a row is left out", "if (i < n) {\n            four", "if (0) {\n            four"),
        ("a row's end is filled before it is flipped", "four = flip;\n            pj_copy", "four = 0;\n            pj_copy"),
        ("repeated axes do not repeat", "(int64_t)(index % extent[axis]) * stride[axis];", "(int64_t)index * stride[axis];"),
    ),
    "simd/pj_norm.h": (
        ("the root has no bits but its own", "h = (zeros - 2) / 2;", "h = 0;"),
        ("the offset is left out", "v[j] = pj_add_f(v[j], pj_load_f(b + 16 * j));", ""),
        ("the tail has the factors of the front", "memcpy(a, k.a + i,", "memcpy(a, k.a,"),
    ),
    "simd/q_layer_norm.c": (
        ("squares of 32 bits", "(uint64_t)(p->length * squares", "(uint64_t)(uint32_t)(p->length * squares"),
        ("the variance is a mean of squares", " - (int64_t)k.less * k.less)", ")"),
        ("eps loses its upper half", "p->shift, p->eps_high,", "p->shift, 0,"),
    ),
    "simd/q_rms_norm.c": (
        ("squares are those of codes", " - 2 * zero * sum + p->length * zero * zero", ""),
        ("the mean stays", "k.less = p->x_zero", "k.less = 0"),
        ("eps loses its upper half", "p->shift, p->eps_high,", "p->shift, 0,"),
    ),
    "isa/x86_avx512vnni.h": (
        ("the second of four rows is the first", "s1 = pj_wide_dot(s1, w, some, b + step + i)", "s1 = pj_wide_dot(s1, w, some, b + i)"),
        ("the upper half of the sums is left out", "_mm512_castsi512_si256(s0), _mm512_extracti64x4_epi64(s0, 1));\n    _mm_storeu", "_mm512_castsi512_si256(s0), _mm256_setzero_si256());\n    _mm_storeu"),
        ("weights lose their upper bytes", "_mm512_slli_epi16(_mm512_cvtepu8_epi16(high), 8));\n    *sums", "_mm512_setzero_si512());\n    *sums"),
        ("odd codes meet even weights", "acc = pj_pairs_add(acc, _mm512_set1_epi32(a), codes.even);", "acc = pj_pairs_add(acc, _mm512_set1_epi32(b), codes.even);"),
        ("what is hidden may be the largest", "_mm512_maskz_loadu_epi8(pj_kept(mask, i, seen), x + i)", "_mm512_maskz_loadu_epi8(pj_kept(0, i, seen), x + i)"),
        ("odd squares of wide codes are left out", "_mm512_add_epi64(even, _mm512_srli_epi64(two, 32))", "even"),
        ("upper lanes of squares are left out", "_mm512_add_epi64(_mm512_srli_epi64(sums, 32),", "_mm512_add_epi64(_mm512_setzero_si512(),"),
    ),
    "isa/x86_avx2.h": (
        ("the last of four rows is the first", "s3 = pj_wide_dot(s3, w, b + 3 * step + i);", "s3 = pj_wide_dot(s3, w, b + i);"),
        ("the rest of the third row is left out", "sums[2] += a[i] * b[2 * step + i];", ""),
        ("odd pairs meet even weights", "odd_w = _mm256_set1_epi32(b);", "odd_w = _mm256_set1_epi32(a);"),
        ("odd squares are left out", "_mm256_add_epi32(_mm256_madd_epi16(even, even), _mm256_madd_epi16(odd, odd))", "_mm256_madd_epi16(even, even)"),
        ("odd squares of wide codes are left out", "_mm256_add_epi64(even, _mm256_srli_epi64(pairs, 32))", "even"),
        ("the upper multiples are the lower", "_mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(c, 8)), f)", "_mm256_mullo_epi32(_mm256_cvtepu8_epi32(c), f)"),
    ),
    "isa/scalar.h": (
        ("rows are those behind the first", "for (r = 0; r < 4; r++, b += step) {\n        sums", "for (r = 0; r < 4; r++, b += r * step) {\n        sums"),
        ("pairs swap their codes", "weights[1] * codes[2]", "weights[1] * codes[1]"),
        ("squares are sums", "        sum += *x * *x;", "        sum += *x;"),
        ("wide squares are sums", "sum += code * code;", "sum += code;"),
    ),
}  # fmt: skip
