/* f_quantize: x f32 (n), to u8 or s16 codes by one division. */
struct pj_f_quantize {
    int32_t n, zero, wide;
    float scale, low, high;
};

static void pj_f_quantize(const struct pj_f_quantize *p, const void *const *in, void *const *out, void *scratch)
{
    const struct pj_f_quantize k = *p; /* which no store can change */
    const float *x = in[0];
    uint8_t *codes = out[0];
    int16_t *wide = out[0];
    int32_t i;
    PJ_UNUSED(scratch);

    if (k.wide)
        for (i = 0; i < k.n; i++)
            wide[i] = (int16_t)(pj_round(x[i] / k.scale, k.low, k.high) + k.zero);
    else
        for (i = 0; i < k.n; i++)
            codes[i] = (uint8_t)(pj_round(x[i] / k.scale, k.low, k.high) + k.zero);
}
