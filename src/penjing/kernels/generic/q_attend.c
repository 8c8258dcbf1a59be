/* q_attend: x u8 (..., rows, length), v u8 (..., features, length), table s32 (256), mask u8 (mask_rows, length) if
 * mask_rows > 0; y u8 (..., rows, features), over four leading axes of which v may repeat some. Every output is a mean of
 * v weighted by exp(x): the weights of a row, in units of table[0], lie in scratch and have at most 15 bits. The mask
 * repeats every mask_rows rows; what it hides has the weight 0, and if causal, so has what stands behind the row's own:
 * that of its number, or if counted, of so many more as the position s32 says that stands in the mask's place. */
struct pj_q_attend {
    int32_t extent[4], stride_v[4];
    int32_t rows, length, features, causal;
    int32_t mask_rows, counted;
    int32_t v_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

/* The weights of the first `length` elements; their sum. */
static int32_t pj_q_attend_weigh(int16_t *weight, const uint8_t *x, const int32_t *table, const uint8_t *mask,
                                 int32_t length)
{
    int32_t top = 0, sum = 0, i;
    for (i = 0; i < length; i++)
        if (!mask || mask[i])
            top = x[i] > top ? x[i] : top;
    for (i = 0; i < length; i++) {
        weight[i] = (int16_t)(!mask || mask[i] ? table[top - x[i]] : 0);
        sum += weight[i];
    }
    return sum;
}

static int32_t pj_q_attend_dot(const int16_t *weight, const uint8_t *v, int32_t length)
{
    int32_t acc = 0, i;
    for (i = 0; i < length; i++)
        acc += weight[i] * v[i];
    return acc;
}

static void pj_q_attend_row(const struct pj_q_attend *p, const int16_t *weight, int32_t seen, int32_t sum,
                            const uint8_t *v, uint8_t *y)
{
    const float total = sum ? (float)sum : 1.0f;
    int32_t j;
    for (j = 0; j < p->features; j++, v += p->length) {
        const int32_t acc = pj_q_attend_dot(weight, v, seen) - p->v_zero * sum;
        y[j] = (uint8_t)(pj_round((float)acc * p->ratio / total, p->low, p->high) + p->y_zero);
    }
}

static void pj_q_attend(const struct pj_q_attend *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0], *v = in[1];
    const uint8_t *mask = p->mask_rows ? in[3] : 0;
    const int32_t first = p->counted ? pj_first_step(in[3], p->length - p->rows) : 0;
    const int32_t *e = p->extent, *sv = p->stride_v;
    uint8_t *y = out[0];
    int32_t i0, i1, i2, i3, row, masked = 0;

    for (i0 = 0; i0 < e[0]; i0++)
        for (i1 = 0; i1 < e[1]; i1++)
            for (i2 = 0; i2 < e[2]; i2++)
                for (i3 = 0; i3 < e[3]; i3++) {
                    const uint8_t *values = v + (int64_t)i0 * sv[0] + (int64_t)i1 * sv[1];
                    values += (int64_t)i2 * sv[2] + (int64_t)i3 * sv[3];
                    for (row = 0; row < p->rows; row++, x += p->length, y += p->features) {
                        const int32_t seen = p->causal && first + row < p->length ? first + row + 1 : p->length;
                        const uint8_t *shown = mask ? mask + (int64_t)masked * p->length : 0;
                        const int32_t sum = pj_q_attend_weigh(scratch, x, in[2], shown, seen);
                        pj_q_attend_row(p, scratch, seen, sum, values, y);
                        masked = masked + 1 < p->mask_rows ? masked + 1 : 0;
                    }
                }
}
