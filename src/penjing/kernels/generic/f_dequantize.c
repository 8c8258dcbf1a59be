/* f_dequantize: x u8 (n), to f32 by one multiplication. */
struct pj_f_dequantize {
    int32_t n, zero;
    float scale;
};

static void pj_f_dequantize(const struct pj_f_dequantize *p, const void *const *in, void *const *out, void *scratch)
{
    const struct pj_f_dequantize k = *p; /* which no store can change */
    const uint8_t *x = in[0];
    float *y = out[0];
    int32_t i;
    PJ_UNUSED(scratch);

    for (i = 0; i < k.n; i++)
        y[i] = (float)(x[i] - k.zero) * k.scale;
}
