/* f_mean: x f32 (outer, reduce, inner), y f32 (outer, inner) = clamp(sum of x / float(reduce)), in the order of `reduce`. */
struct pj_f_mean {
    int32_t outer, reduce, inner;
    float low, high;
};

static void pj_f_mean(const struct pj_f_mean *p, const void *const *in, void *const *out, void *scratch)
{
    const float *x = in[0];
    float *y = out[0];
    const float count = (float)p->reduce;
    int32_t o, r, c, j;
    PJ_UNUSED(scratch);

    for (o = 0; o < p->outer; o++)
        for (c = 0; c < p->inner; c += PJ_F_LANES) {
            const int32_t lanes = p->inner - c < PJ_F_LANES ? p->inner - c : PJ_F_LANES;
            const float *from = x + (int64_t)o * p->reduce * p->inner + c;
            float acc[PJ_F_LANES] = {0};
            for (r = 0; r < p->reduce; r++, from += p->inner)
                for (j = 0; j < lanes; j++)
                    acc[j] += from[j];
            for (j = 0; j < lanes; j++)
                *y++ = pj_f_clamp(acc[j] / count, p->low, p->high);
        }
}
