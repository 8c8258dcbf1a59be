/* What layers in float32 share. They add in a stated order, in which so many outputs have their sums side by side: loops of
 * so many turns are what compilers make vectors of. */
enum { PJ_F_LANES = 16 };

/* acc[j] + x[0] * w[j] + x[1] * w[oc + j] + ... for `lanes` outputs, in this order, each product and sum rounded. */
PJ_SHARED void pj_f_sums(float *acc, const float *x, const float *w, int32_t k, int32_t oc, int32_t lanes)
{
    int32_t i, j;
    if (lanes == PJ_F_LANES) {
        float a[PJ_F_LANES];
        memcpy(a, acc, sizeof a);
        for (i = 0; i < k; i++, w += oc)
            for (j = 0; j < PJ_F_LANES; j++)
                a[j] += x[i] * w[j];
        memcpy(acc, a, sizeof a);
        return;
    }
    for (i = 0; i < k; i++, w += oc)
        for (j = 0; j < lanes; j++)
            acc[j] += x[i] * w[j];
}

/* acc[j] + x[j] * w[j]: each output has an input of its own. */
PJ_INLINE void pj_f_products(float *acc, const float *x, const float *w, int32_t lanes)
{
    int32_t j;
    if (lanes == PJ_F_LANES) {
        float a[PJ_F_LANES];
        memcpy(a, acc, sizeof a);
        for (j = 0; j < PJ_F_LANES; j++)
            a[j] += x[j] * w[j];
        memcpy(acc, a, sizeof a);
        return;
    }
    for (j = 0; j < lanes; j++)
        acc[j] += x[j] * w[j];
}

/* Never NaN: what is no number becomes `low`. */
PJ_INLINE float pj_f_clamp(float value, float low, float high)
{
    value = value >= low ? value : low;
    return value > high ? high : value;
}

/* y[j] = clamp(acc[j] + bias[j]). */
PJ_INLINE void pj_f_finish(float *y, const float *acc, const float *bias, int32_t lanes, float low, float high)
{
    int32_t j;
    if (lanes == PJ_F_LANES) {
        float a[PJ_F_LANES];
        for (j = 0; j < PJ_F_LANES; j++)
            a[j] = pj_f_clamp(acc[j] + bias[j], low, high);
        memcpy(y, a, sizeof a);
        return;
    }
    for (j = 0; j < lanes; j++)
        y[j] = pj_f_clamp(acc[j] + bias[j], low, high);
}
