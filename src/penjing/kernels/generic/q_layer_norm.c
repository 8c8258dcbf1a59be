/* q_layer_norm: x u8 or s16 (rows, length), a and b f32 (length). With n = length,
 *   y = round(float(n * x - sum of x) * r * a + b),   r = 1 / sqrt(n * sum of x^2 - (sum of x)^2 + eps) (see pj.h).
 * A row is summed before it is written: in place is safe. */
struct pj_q_layer_norm {
    int32_t rows, length;
    int32_t shift, eps_high, eps_low;
    int32_t wide, y_zero;
    float low, high;
};

static void pj_q_layer_norm(const struct pj_q_layer_norm *p, const void *const *in, void *const *out, void *scratch)
{
    const void *x = in[0];
    const float *a = in[1], *b = in[2];
    uint8_t *y = out[0];
    int32_t row, i;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++, y += p->length) {
        const int64_t at = (int64_t)row * p->length;
        int32_t sum = 0;
        int64_t squares = 0;
        float r;
        for (i = 0; i < p->length; i++) {
            const int32_t code = pj_code(x, at + i, p->wide);
            sum += code;
            squares += code * code;
        }
        r = pj_inverse_norm((uint64_t)(p->length * squares - (int64_t)sum * sum), p->shift, p->eps_high, p->eps_low);
        for (i = 0; i < p->length; i++) {
            const float t = (float)(p->length * pj_code(x, at + i, p->wide) - sum) * r * a[i];
            y[i] = (uint8_t)(pj_round(t + b[i], p->low, p->high) + p->y_zero);
        }
    }
}
