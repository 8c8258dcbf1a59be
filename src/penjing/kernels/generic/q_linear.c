/* q_linear: x u8 (rows, k), w s8 (oc, k), bias s32 (oc), multiplier f32 (oc). */
struct pj_q_linear {
    int32_t rows, k, oc;
    int32_t x_zero, y_zero;
    float low, high;
};

static void pj_q_linear(const struct pj_q_linear *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int8_t *w = in[1];
    const int32_t *bias = in[2];
    const float *multiplier = in[3];
    uint8_t *y = out[0];
    const int32_t zero = p->x_zero;
    int32_t row, o, i;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++)
        for (o = 0; o < p->oc; o++) {
            const uint8_t *from = x + (int64_t)row * p->k;
            const int8_t *by = w + (int64_t)o * p->k;
            int32_t acc = 0;
            for (i = 0; i < p->k; i++) {
                const int16_t d = (int16_t)(from[i] - zero);
                acc += d * by[i];
            }
            y[(int64_t)row * p->oc + o] = pj_requantize(acc + bias[o], multiplier[o], p->y_zero, p->low, p->high);
        }
}
