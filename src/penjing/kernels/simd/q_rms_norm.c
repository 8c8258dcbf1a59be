/* q_rms_norm: x u8 or s16 (rows, length), a f32 (length). With c = x - x_zero,
 *   y = round(float(c) * r * a),   r = 1 / sqrt(sum of c^2 + eps) (see pj_norm.h).
 * A row is summed before it is written: in place is safe. */
struct pj_q_rms_norm {
    int32_t rows, length;
    int32_t shift, eps_high, eps_low;
    int32_t wide, x_zero, y_zero;
    float low, high;
};

PJ_INLINE void pj_q_rms_norm_rows(const struct pj_q_rms_norm *p, const void *const *in, void *const *out,
                                  const int32_t wide)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    struct pj_norm_row k;
    int32_t row;
    k.factor = 1, k.less = p->x_zero, k.a = in[1], k.b = 0, k.zero = p->y_zero, k.low = p->low, k.high = p->high;

    for (row = 0; row < p->rows; row++, x += p->length * (wide ? 2 : 1), y += p->length) {
        const int16_t *two = (const int16_t *)x;
        const int64_t zero = p->x_zero, sum = wide ? pj_sum_wide(two, p->length) : pj_sum_codes(x, p->length);
        const int64_t all = wide ? pj_sum_squares_wide(two, p->length) : pj_sum_squares(x, p->length);
        const int64_t squares = all - 2 * zero * sum + p->length * zero * zero;
        k.r = pj_inverse_norm_fast((uint64_t)squares, p->shift, p->eps_high, p->eps_low);
        pj_norm_write(&k, y, x, p->length, wide);
    }
}

static void pj_q_rms_norm(const struct pj_q_rms_norm *p, const void *const *in, void *const *out, void *scratch)
{
    PJ_UNUSED(scratch);
    if (p->wide)
        pj_q_rms_norm_rows(p, in, out, 1);
    else
        pj_q_rms_norm_rows(p, in, out, 0);
}
