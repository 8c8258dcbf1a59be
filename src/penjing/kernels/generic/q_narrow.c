/* q_narrow: x s16 (n), to u8 codes by one multiplication. */
struct pj_q_narrow {
    int32_t n, y_zero;
    float multiplier, low, high;
};

static void pj_q_narrow(const struct pj_q_narrow *p, const void *const *in, void *const *out, void *scratch)
{
    const int16_t *x = in[0];
    uint8_t *y = out[0];
    int32_t i;
    PJ_UNUSED(scratch);

    for (i = 0; i < p->n; i++)
        y[i] = pj_requantize(x[i], p->multiplier, p->y_zero, p->low, p->high);
}
