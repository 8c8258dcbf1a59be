/* q_mean: x u8 (outer, reduce, inner), y u8 (outer, inner).
 * y = round(float(sum of (x - x_zero)) * ratio / float(reduce)).
 * The innermost axis runs in blocks, so that memory is read in order. */
struct pj_q_mean {
    int32_t outer, reduce, inner;
    int32_t x_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

enum { PJ_Q_MEAN_BLOCK = 64 };

static void pj_q_mean(const struct pj_q_mean *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    const float count = (float)p->reduce;
    int32_t o, r, c, j;
    PJ_UNUSED(scratch);

    for (o = 0; o < p->outer; o++)
        for (c = 0; c < p->inner; c += PJ_Q_MEAN_BLOCK) {
            const int32_t lanes = p->inner - c < PJ_Q_MEAN_BLOCK ? p->inner - c : PJ_Q_MEAN_BLOCK;
            const uint8_t *from = x + (int64_t)o * p->reduce * p->inner + c;
            int32_t sum[PJ_Q_MEAN_BLOCK];
            memset(sum, 0, sizeof sum);
            for (r = 0; r < p->reduce; r++, from += p->inner)
                for (j = 0; j < lanes; j++)
                    sum[j] += from[j] - p->x_zero;
            for (j = 0; j < lanes; j++)
                *y++ = (uint8_t)(pj_round((float)sum[j] * p->ratio / count, p->low, p->high) + p->y_zero);
        }
}
