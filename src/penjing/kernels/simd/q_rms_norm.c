/* q_rms_norm: x u8 (rows, length), a f32 (length). With c = x - x_zero,
 *   y = round(float(c) * r * a),   r = 1 / sqrt(sum of c^2 + eps) (see pj_norm.h).
 * A row is summed before it is written: in place is safe. */
struct pj_q_rms_norm {
    int32_t rows, length;
    int32_t shift, eps_high, eps_low;
    int32_t x_zero, y_zero;
    float low, high;
};

static void pj_q_rms_norm(const struct pj_q_rms_norm *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    struct pj_norm_row k;
    int32_t row;
    PJ_UNUSED(scratch);
    k.factor = 1, k.less = p->x_zero, k.a = in[1], k.b = 0, k.zero = p->y_zero, k.low = p->low, k.high = p->high;

    for (row = 0; row < p->rows; row++, x += p->length, y += p->length) {
        const int64_t zero = p->x_zero, sum = pj_sum_codes(x, p->length);
        const int64_t squares = pj_sum_squares(x, p->length) - 2 * zero * sum + p->length * zero * zero;
        k.r = pj_inverse_norm_fast((uint64_t)squares, p->shift, p->eps_high, p->eps_low);
        pj_norm_write(&k, y, x, p->length);
    }
}
