/* q_mean: x u8 (outer, reduce, inner), y u8 (outer, inner).
 * y = round(float(sum of (x - x_zero)) * ratio / float(reduce)).
 * Sums are kept in 16 bits as long as they fit. */
struct pj_q_mean {
    int32_t outer, reduce, inner;
    int32_t x_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

/* The means of up to PJ_BYTES places side by side. */
PJ_WORD void pj_q_mean_lanes(const struct pj_q_mean *p, uint8_t *y, const uint8_t *x, int32_t lanes)
{
    const pj_f ratio = pj_set_f(p->ratio), count = pj_set_f((float)p->reduce);
    int32_t sums[PJ_BYTES] = {0}, r, j;
    pj_f mean[PJ_BYTES / 16];
    for (r = 0; r < p->reduce; r += PJ_SUMMED) {
        pj_h sum = pj_zero_h();
        for (j = 0; j < PJ_SUMMED && r + j < p->reduce; j++, x += p->inner)
            sum = pj_add_h(sum, pj_load_b(x, lanes));
        pj_flush_h(sums, sum);
    }
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++)
        if (!j || 16 * j < lanes) {
            mean[j] = pj_div_f(pj_mul_f(pj_from_sums(sums + 16 * j, p->reduce * p->x_zero), ratio), count);
            mean[j] = pj_clamp_f(mean[j], p->low, p->high);
        } else
            mean[j] = mean[0];
    pj_store_b(y, pj_round_b(mean, p->y_zero), lanes);
}

static void pj_q_mean(const struct pj_q_mean *p, const void *const *in, void *const *out, void *scratch)
{
    int32_t o, c;
    PJ_UNUSED(scratch);

    for (o = 0; o < p->outer; o++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)o * p->reduce * p->inner;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)o * p->inner;
        for (c = 0; c + PJ_BYTES <= p->inner; c += PJ_BYTES)
            pj_q_mean_lanes(p, y + c, x + c, PJ_BYTES);
        if (c < p->inner)
            pj_q_mean_lanes(p, y + c, x + c, p->inner - c);
    }
}
