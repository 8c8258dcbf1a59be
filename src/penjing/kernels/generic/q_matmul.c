/* q_matmul: a u8 (..., m, k), b u8 (..., n, k), u8 (..., m, n), over four leading axes of which a and b may repeat some.
 * A row of a lies in scratch as differences from its zero point; what b's takes off is the same for the whole row:
 *   sum of (a - za) * (b - zb) = sum of (a - za) * b - zb * sum of (a - za).
 * If counted, columns behind position + m are those of no product. */
struct pj_q_matmul {
    int32_t extent[4], stride_a[4], stride_b[4];
    int32_t m, n, k, counted;
    float multiplier;
    int32_t a_zero, b_zero, y_zero;
    float low, high;
};

static int32_t pj_q_matmul_dot(const int16_t *a, const uint8_t *b, int32_t k)
{
    int32_t acc = 0, i;
    for (i = 0; i < k; i++)
        acc += a[i] * b[i];
    return acc;
}

static uint8_t *pj_q_matmul_one(const struct pj_q_matmul *p, const uint8_t *a, const uint8_t *b, uint8_t *y,
                                int16_t *centred, int32_t filled)
{
    const uint8_t nothing = pj_requantize(0, p->multiplier, p->y_zero, p->low, p->high);
    int32_t row, j, i;
    for (row = 0; row < p->m; row++, a += p->k, y += p->n) {
        int32_t sum = 0;
        pj_centre(centred, a, p->k, p->a_zero);
        for (i = 0; i < p->k; i++)
            sum += centred[i];
        for (j = 0; j < filled; j++)
            y[j] = pj_requantize(pj_q_matmul_dot(centred, b + (int64_t)j * p->k, p->k) - p->b_zero * sum,
                                 p->multiplier, p->y_zero, p->low, p->high);
        for (; j < p->n; j++)
            y[j] = nothing;
    }
    return y;
}

static void pj_q_matmul(const struct pj_q_matmul *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *a = in[0], *b = in[1];
    const int32_t *e = p->extent, *sa = p->stride_a, *sb = p->stride_b;
    const int32_t filled = p->counted ? pj_first_step(in[2], p->n - p->m) + p->m : p->n;
    uint8_t *y = out[0];
    int32_t i0, i1, i2, i3;

    for (i0 = 0; i0 < e[0]; i0++)
        for (i1 = 0; i1 < e[1]; i1++)
            for (i2 = 0; i2 < e[2]; i2++)
                for (i3 = 0; i3 < e[3]; i3++)
                    y = pj_q_matmul_one(p,
                                        a + (int64_t)i0 * sa[0] + (int64_t)i1 * sa[1] + (int64_t)i2 * sa[2] + (int64_t)i3 * sa[3],
                                        b + (int64_t)i0 * sb[0] + (int64_t)i1 * sb[1] + (int64_t)i2 * sb[2] + (int64_t)i3 * sb[3],
                                        y, scratch, filled);
}
