/* Between reals and codes, as the definition has it: one division, one multiplication. */

/* PJ_BYTES codes. */
PJ_WORD pj_b pj_quantize_b(const float *x, float scale, int32_t zero)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        const pj_f steps = pj_number_f(pj_div_f(pj_load_f(x + 16 * j), pj_set_f(scale)));
        v[j] = pj_clamp_f(steps, (float)-zero, (float)(255 - zero));
    }
    return pj_round_b(v, zero);
}

/* rne(clamp(x / scale)) + zero for n reals. Infinities saturate, as do quotients that overflow; NaN becomes `zero`. */
PJ_SHARED void pj_quantize(uint8_t *codes, const float *x, int32_t n, float scale, int32_t zero)
{
    float last[PJ_BYTES] = {0};
    uint8_t bytes[PJ_BYTES];
    for (; n >= PJ_BYTES; n -= PJ_BYTES, x += PJ_BYTES, codes += PJ_BYTES)
        pj_store_b(codes, pj_quantize_b(x, scale, zero), PJ_BYTES);
    if (n > 0) {
        memcpy(last, x, (size_t)n * sizeof *x);
        pj_store_b(bytes, pj_quantize_b(last, scale, zero), PJ_BYTES);
        memcpy(codes, bytes, (size_t)n);
    }
}

/* scale * (code - zero) for n codes, which compilers make vectors of by themselves. */
PJ_INLINE void pj_dequantize(float *x, const uint8_t *codes, int32_t n, float scale, int32_t zero)
{
    int32_t i;
    for (i = 0; i < n; i++)
        x[i] = (float)(codes[i] - zero) * scale;
}
