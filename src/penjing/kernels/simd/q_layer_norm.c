/* q_layer_norm: x u8 or s16 (rows, length), a and b f32 (length). With n = length,
 *   y = round(float(n * x - sum of x) * r * a + b),   r = 1 / sqrt(n * sum of x^2 - (sum of x)^2 + eps) (see pj_norm.h).
 * A row is summed before it is written: in place is safe. */
struct pj_q_layer_norm {
    int32_t rows, length;
    int32_t shift, eps_high, eps_low;
    int32_t wide, y_zero;
    float low, high;
};

PJ_INLINE void pj_q_layer_norm_rows(const struct pj_q_layer_norm *p, const void *const *in, void *const *out,
                                    const int32_t wide)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    struct pj_norm_row k;
    int32_t row;
    k.factor = p->length, k.a = in[1], k.b = in[2], k.zero = p->y_zero, k.low = p->low, k.high = p->high;

    for (row = 0; row < p->rows; row++, x += p->length * (wide ? 2 : 1), y += p->length) {
        const int16_t *two = (const int16_t *)x;
        const int64_t squares = wide ? pj_sum_squares_wide(two, p->length) : pj_sum_squares(x, p->length);
        k.less = wide ? pj_sum_wide(two, p->length) : pj_sum_codes(x, p->length);
        k.r = pj_inverse_norm_fast((uint64_t)(p->length * squares - (int64_t)k.less * k.less), p->shift, p->eps_high,
                                   p->eps_low);
        pj_norm_write(&k, y, x, p->length, wide);
    }
}

static void pj_q_layer_norm(const struct pj_q_layer_norm *p, const void *const *in, void *const *out, void *scratch)
{
    PJ_UNUSED(scratch);
    if (p->wide)
        pj_q_layer_norm_rows(p, in, out, 1);
    else
        pj_q_layer_norm_rows(p, in, out, 0);
}
