/* Between reals and codes, as the definition has it: one division, one multiplication. */

/* rne(clamp(x / scale)) + zero for n reals. Infinities saturate, as do quotients that overflow; NaN becomes `zero`. */
PJ_INLINE void pj_quantize(uint8_t *codes, const float *x, int32_t n, float scale, int32_t zero)
{
    const float low = (float)-zero, high = (float)(255 - zero);
    int32_t i;
    for (i = 0; i < n; i++) {
        const float steps = x[i] / scale;
        codes[i] = (uint8_t)(pj_round(steps == steps ? steps : 0.0f, low, high) + zero);
    }
}

/* scale * (code - zero) for n codes. */
PJ_INLINE void pj_dequantize(float *x, const uint8_t *codes, int32_t n, float scale, int32_t zero)
{
    int32_t i;
    for (i = 0; i < n; i++)
        x[i] = (float)(codes[i] - zero) * scale;
}
