/* What the SIMD kernels share. Sums are left in memory by the tiles and finished here: requantized, clamped, stored.
 *
 * The conversion to integers saturates at 16 bits, then at the codes: that equals a clamp in float for every value below
 * 2^31 in size, which is proven for each layer before it takes such a kernel.
 */
#if defined(PJ_UNROLL)
#elif defined(__clang__)
#define PJ_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define PJ_UNROLL _Pragma("GCC unroll 16")
#else
#define PJ_UNROLL
#endif

/* The first address in `space` that is a multiple of 64: a vector that crosses a cache line is stored and read slowly. */
PJ_WORD int32_t *pj_aligned(int32_t *space)
{
    return space + (-(uintptr_t)space & 63) / 4;
}

/* Of `columns` columns from x0 on: how many lie left of a row of iw, and how many then lie in it. */
PJ_INLINE void pj_clip(int32_t x0, int32_t columns, int32_t iw, int32_t *left, int32_t *inside)
{
    const int32_t first = x0 < 0 ? -x0 : 0, end = iw - x0 < columns ? iw - x0 : columns;
    *left = first < columns ? first : columns;
    *inside = end > *left ? end - *left : 0;
}

#if !PJ_MASKS
/* value + scale * (code - zero), in this order, for codes of which only `lanes` exist. */
PJ_WORD pj_f pj_add_some(pj_f value, const uint8_t *codes, int32_t zero, float scale, int32_t lanes)
{
    uint8_t some[16] = {0};
    if (lanes >= 16)
        return pj_add_codes(value, codes, zero, scale);
    pj_copy(some, codes, lanes);
    return pj_add_codes(value, some, zero, scale);
}

/* Four vectors to codes: of 4 pixels that lie `step` apart, or of 2 with 2 each, of which `lanes` channels exist. */
PJ_WORD void pj_put_tile(uint8_t *y, int64_t step, const int32_t vectors, int32_t lanes, const pj_f v[4],
                         const struct pj_codes *q, const int32_t plain)
{
    int32_t i;
    PJ_UNUSED(plain);
    for (i = 0; i < 4; i++) {
        const int32_t at = 16 * (i % vectors), left = lanes - at;
        uint8_t *to = y + i / vectors * step + at, some[16];
        pj_put1(left < 16 ? some : to, v[i], q);
        if (left < 16)
            pj_copy(to, some, left);
    }
}
#endif

/* Where finished codes go, and by which rule. `residual` is null, or lies like y. */
struct pj_finish {
    struct pj_codes codes;
    const float *multiplier;
    uint8_t *y;
    const uint8_t *residual;
    int32_t residual_zero;
    float residual_scale;
    int32_t step;  /* bytes from pixel to pixel */
    int32_t lanes; /* channels of this tile that exist */
};

/* One vector of sums, of which `lanes` are channels that exist, to f->y + at. */
PJ_WORD void pj_finish_one(const struct pj_finish *f, const int32_t *acc, int64_t at, int32_t v, int32_t lanes)
{
    pj_f value = pj_scale(acc, f->multiplier + 16 * v);
    uint8_t some[16];
    if (f->residual)
        value = pj_add_some(value, f->residual + at, f->residual_zero, f->residual_scale, lanes);
    pj_put1(lanes < 16 ? some : f->y + at, value, &f->codes);
    if (lanes < 16)
        pj_copy(f->y + at, some, lanes);
}

/* Whether storing saturated bytes is all that the codes ask for. */
PJ_WORD int32_t pj_is_plain(const struct pj_codes *q)
{
    return q->zero == 0 && q->qmin == 0 && q->qmax == 255;
}

/* Groups of four vectors; returns how many vectors are done. What the loop needs is copied
 * first: a store of bytes might otherwise change it, for all that the compiler knows. */
PJ_WORD int32_t pj_finish_fours(const struct pj_finish *f, const int32_t *acc, int32_t total, const int32_t vectors,
                                const int32_t has_residual, const int32_t plain)
{
    const struct pj_codes codes = f->codes;
    const float *m = f->multiplier;
    const int64_t step = f->step;
    const int32_t zero = f->residual_zero;
    const int32_t lanes = f->lanes;
    const float scale = f->residual_scale;
    uint8_t *y = f->y;
    const uint8_t *residual = f->residual;
    int32_t i, j;
    for (i = 0; i + 4 <= total; i += 4, acc += 64, y += 4 / vectors * step) {
        pj_f v[4];
        PJ_UNROLL
        for (j = 0; j < 4; j++) {
            v[j] = pj_scale(acc + 16 * j, m + 16 * (j % vectors));
            if (has_residual)
                v[j] = pj_add_some(v[j], residual + j / vectors * step + 16 * (j % vectors), zero, scale,
                                   lanes - 16 * (j % vectors));
        }
        if (has_residual)
            residual += 4 / vectors * step;
        pj_put_tile(y, step, vectors, lanes, v, &codes, plain);
    }
    return i;
}

PJ_WORD int32_t pj_finish_most(const struct pj_finish *f, const int32_t *acc, int32_t total, const int32_t vectors)
{
    const int32_t plain = PJ_MASKS && pj_is_plain(&f->codes); /* other vocabularies have one way to store */
    if (f->residual)
        return plain ? pj_finish_fours(f, acc, total, vectors, 1, 1) : pj_finish_fours(f, acc, total, vectors, 1, 0);
    return plain ? pj_finish_fours(f, acc, total, vectors, 0, 1) : pj_finish_fours(f, acc, total, vectors, 0, 0);
}

/* acc: [pixels][vectors][16], vectors <= 2. */
PJ_SHARED void pj_finish(const struct pj_finish *f, const int32_t *acc, int32_t pixels, int32_t vectors)
{
    const int32_t total = pixels * vectors;
    int32_t i = 0;
    if (f->lanes > 16 * (vectors - 1))
        i = vectors == 1 ? pj_finish_most(f, acc, total, 1) : pj_finish_most(f, acc, total, 2);
    for (; i < total; i++) {
        const int32_t pixel = i >> (vectors - 1), at = i & (vectors - 1), left = f->lanes - 16 * at;
        if (left > 0)
            pj_finish_one(f, acc + 16 * i, (int64_t)pixel * f->step + 16 * at, at, left);
    }
}
