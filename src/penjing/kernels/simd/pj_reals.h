/* Between reals and codes: one division, one multiplication, or what provably gives the same codes. */

/* `inverse` + `rest` is 1 / scale to twice the precision of a float; inverse 0: that does not serve this scale. */
struct pj_real {
    float scale, inverse, rest;
    int32_t zero;
};

#if PJ_FUSES
#define PJ_FARTHEST 512.0f /* steps; all that lie beyond have the codes at the ends, wherever the zero point is */

/* PJ_BYTES codes. */
PJ_WORD pj_b pj_quantize_b(const float *x, const struct pj_real *q)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        const pj_f real = pj_load_f(x + 16 * j);
        /* in front of the products: an infinity times a rest of 0 is no number */
        const pj_f kept = pj_within_f(real, PJ_FARTHEST * q->scale);
        const pj_f steps = pj_fma_f(kept, pj_set_f(q->inverse), pj_mul_f(kept, pj_set_f(q->rest)));
        v[j] = pj_number_f(steps, real);
    }
    return pj_round_b(v, q->zero);
}
#endif

/* rne(clamp(x / scale)) + zero for n reals. Infinities saturate, as do quotients that overflow; NaN becomes `zero`. */
PJ_SHARED void pj_quantize(uint8_t *codes, const float *x, int32_t n, const struct pj_real *q)
{
    const struct pj_real k = *q; /* which no store can change */
    int32_t i = 0;
#if PJ_FUSES
    if (k.inverse != 0.0f && n >= PJ_BYTES)
        for (; i < n; i += PJ_BYTES) {
            const int32_t at = i < n - PJ_BYTES ? i : n - PJ_BYTES; /* the last vector may do some again */
            pj_store_b(codes + at, pj_quantize_b(x + at, &k), PJ_BYTES);
        }
#endif
    for (; i < n; i++)
        codes[i] = pj_quantize_1(x[i], k.scale, k.zero);
}

/* Three planes of n reals to n pixels of three codes. */
PJ_INLINE void pj_quantize_3(uint8_t *codes, const float *x, int32_t n, const struct pj_real *q)
{
    uint8_t planes[3 * 512];
    int32_t i, k;
    for (i = 0; i < n; i += 512) {
        const int32_t some = n - i < 512 ? n - i : 512;
        for (k = 0; k < 3; k++)
            pj_quantize(planes + 512 * k, x + (int64_t)k * n + i, some, q);
        pj_interleave_3(codes + 3 * (int64_t)i, planes, 512, some);
    }
}

/* scale * (code - zero) for n codes; compilers make vectors of 16 at a time, once no store can change the codes. */
PJ_INLINE void pj_dequantize(float *x, const uint8_t *codes, int32_t n, const struct pj_real *q)
{
    const struct pj_real k = *q;
    int32_t i, j;
    for (i = 0; i + 16 <= n; i += 16) {
        uint8_t some[16];
        memcpy(some, codes + i, 16);
        for (j = 0; j < 16; j++)
            x[i + j] = (float)(some[j] - k.zero) * k.scale;
    }
    for (; i < n; i++)
        x[i] = (float)(codes[i] - k.zero) * k.scale;
}
