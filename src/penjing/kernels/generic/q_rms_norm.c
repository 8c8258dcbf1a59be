/* q_rms_norm: x u8 or s16 (rows, length), a f32 (length). With c = x - x_zero,
 *   y = round(float(c) * r * a),   r = 1 / sqrt(sum of c^2 + eps) (see pj.h).
 * A row is summed before it is written: in place is safe. */
struct pj_q_rms_norm {
    int32_t rows, length;
    int32_t shift, eps_high, eps_low;
    int32_t wide, x_zero, y_zero;
    float low, high;
};

static void pj_q_rms_norm(const struct pj_q_rms_norm *p, const void *const *in, void *const *out, void *scratch)
{
    const void *x = in[0];
    const float *a = in[1];
    uint8_t *y = out[0];
    int32_t row, i;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++, y += p->length) {
        const int64_t at = (int64_t)row * p->length;
        int64_t squares = 0;
        float r;
        for (i = 0; i < p->length; i++) {
            const int32_t c = pj_code(x, at + i, p->wide) - p->x_zero;
            squares += c * c;
        }
        r = pj_inverse_norm((uint64_t)squares, p->shift, p->eps_high, p->eps_low);
        for (i = 0; i < p->length; i++) {
            const float t = (float)(pj_code(x, at + i, p->wide) - p->x_zero) * r * a[i];
            y[i] = (uint8_t)(pj_round(t, p->low, p->high) + p->y_zero);
        }
    }
}
