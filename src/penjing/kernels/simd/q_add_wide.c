/* q_add_wide: a, b u8 or s16 broadcast to `extent`; a step of 0 repeats.
 * y s16 = round(a_scale * (a - a_zero) + b_scale * (b - b_zero)). */
struct pj_q_add_wide {
    int32_t extent[6], stride_a[6], stride_b[6];
    float a_scale, b_scale;
    int32_t a_zero, b_zero, a_wide, b_wide;
};

/* 16 codes of an operand. */
PJ_WORD pj_f pj_q_add_wide_reals(const void *codes, int64_t at, int32_t zero, float scale, const int32_t wide)
{
    const pj_f real =
        wide ? pj_from_wide((const int16_t *)codes + at, 1, 0) : pj_from_codes((const uint8_t *)codes + at, zero);
    return pj_mul_f(real, pj_set_f(scale));
}

PJ_WORD void pj_q_add_wide_row(const struct pj_q_add_wide *p, int16_t *y, const void *a, const void *b, int64_t from,
                               int64_t n, const int32_t a_wide, const int32_t b_wide)
{
    for (; from + 16 <= n; from += 16)
        pj_put_wide(y + from, pj_add_f(pj_q_add_wide_reals(a, from, p->a_zero, p->a_scale, a_wide),
                                       pj_q_add_wide_reals(b, from, p->b_zero, p->b_scale, b_wide)));
    for (; from < n; from++)
        y[from] = pj_wide(pj_scaled_sum(pj_code(a, from, a_wide) - p->a_zero, p->a_scale,
                                        pj_code(b, from, b_wide) - p->b_zero, p->b_scale));
}

/* Operands that do not repeat: one long row. */
static void pj_q_add_wide_flat(const struct pj_q_add_wide *p, int16_t *y, const void *a, const void *b, int64_t n)
{
    if (p->a_wide && p->b_wide)
        pj_q_add_wide_row(p, y, a, b, 0, n, 1, 1);
    else if (p->a_wide)
        pj_q_add_wide_row(p, y, a, b, 0, n, 1, 0);
    else if (p->b_wide)
        pj_q_add_wide_row(p, y, a, b, 0, n, 0, 1);
    else
        pj_q_add_wide_row(p, y, a, b, 0, n, 0, 0);
}

static void pj_q_add_wide(const struct pj_q_add_wide *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t *e = p->extent, *sa = p->stride_a, *sb = p->stride_b;
    int16_t *y = out[0];
    int32_t i0, i1, i2, i3, i4, j, axis, repeats = 0;
    int64_t count = 1;
    PJ_UNUSED(scratch);

    for (axis = 0; axis < 6; axis++) {
        repeats |= e[axis] > 1 && (sa[axis] == 0 || sb[axis] == 0);
        count *= e[axis];
    }
    if (!repeats) {
        pj_q_add_wide_flat(p, y, in[0], in[1], count);
        return;
    }

    for (i0 = 0; i0 < e[0]; i0++)
        for (i1 = 0; i1 < e[1]; i1++)
            for (i2 = 0; i2 < e[2]; i2++)
                for (i3 = 0; i3 < e[3]; i3++)
                    for (i4 = 0; i4 < e[4]; i4++) {
                        const int64_t a = (int64_t)i0 * sa[0] + (int64_t)i1 * sa[1] + (int64_t)i2 * sa[2] +
                                          (int64_t)i3 * sa[3] + (int64_t)i4 * sa[4];
                        const int64_t b = (int64_t)i0 * sb[0] + (int64_t)i1 * sb[1] + (int64_t)i2 * sb[2] +
                                          (int64_t)i3 * sb[3] + (int64_t)i4 * sb[4];
                        for (j = 0; j < e[5]; j++)
                            *y++ = pj_wide(
                                pj_scaled_sum(pj_code(in[0], a + j * sa[5], p->a_wide) - p->a_zero, p->a_scale,
                                              pj_code(in[1], b + j * sb[5], p->b_wide) - p->b_zero, p->b_scale));
                    }
}
