/* Between reals and codes, as the definition has it: one division, one multiplication. */

struct pj_real {
    float scale;
    int32_t zero;
};

/* rne(clamp(x / scale)) + zero for n reals. Infinities saturate, as do quotients that overflow; NaN becomes `zero`. */
PJ_INLINE void pj_quantize(uint8_t *codes, const float *x, int32_t n, const struct pj_real *q)
{
    const struct pj_real k = *q; /* which no store can change */
    int32_t i;
    for (i = 0; i < n; i++)
        codes[i] = pj_quantize_1(x[i], k.scale, k.zero);
}

/* Three planes of n reals to n pixels of three codes. */
PJ_INLINE void pj_quantize_3(uint8_t *codes, const float *x, int32_t n, const struct pj_real *q)
{
    const struct pj_real k = *q;
    int32_t i, j;
    for (i = 0; i < n; i++)
        for (j = 0; j < 3; j++)
            *codes++ = pj_quantize_1(x[i + (int64_t)j * n], k.scale, k.zero);
}

/* scale * (code - zero) for n codes. */
PJ_INLINE void pj_dequantize(float *x, const uint8_t *codes, int32_t n, const struct pj_real *q)
{
    const struct pj_real k = *q;
    int32_t i;
    for (i = 0; i < n; i++)
        x[i] = (float)(codes[i] - k.zero) * k.scale;
}
