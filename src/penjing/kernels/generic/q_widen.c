/* q_widen: x u8 (n), table s16 (256). */
struct pj_q_widen {
    int32_t n;
};

static void pj_q_widen(const struct pj_q_widen *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int16_t *table = in[1];
    int16_t *y = out[0];
    int32_t i;
    PJ_UNUSED(scratch);

    for (i = 0; i < p->n; i++)
        y[i] = table[x[i]];
}
