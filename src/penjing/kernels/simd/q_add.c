/* q_add: a, b u8 broadcast to `extent`; a step of 0 repeats. y = round(a_scale * (a - a_zero) + b_scale * (b - b_zero)).
 * Inner axes along which both operands go on at one step are walked as one. */
struct pj_q_add {
    int32_t extent[6], stride_a[6], stride_b[6];
    float a_scale;
    int32_t a_zero;
    float b_scale;
    int32_t b_zero, y_zero;
    float low, high;
};

/* PJ_BYTES neighbours; an operand's step is 1, or 0 where its one code serves all. */
PJ_WORD pj_b pj_q_add_codes(const struct pj_q_add *p, const uint8_t *a, int32_t step_a, const uint8_t *b, int32_t step_b)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        const pj_f va = pj_mul_f(pj_from_codes(a + step_a * 16 * j, p->a_zero), pj_set_f(p->a_scale));
        const pj_f vb = pj_mul_f(pj_from_codes(b + step_b * 16 * j, p->b_zero), pj_set_f(p->b_scale));
        v[j] = pj_clamp_f(pj_add_f(va, vb), p->low, p->high);
    }
    return pj_round_b(v, p->y_zero);
}

/* n neighbours. The last vector of several may begin before the one in front of it ends. */
PJ_WORD void pj_q_add_run(const struct pj_q_add *p, uint8_t *y, const uint8_t *a, int32_t step_a, const uint8_t *b,
                          int32_t step_b, int32_t n)
{
    uint8_t some_a[PJ_BYTES], some_b[PJ_BYTES];
    int32_t i, at;
    if (!step_a)
        memset(some_a, *a, PJ_BYTES), a = some_a;
    if (!step_b)
        memset(some_b, *b, PJ_BYTES), b = some_b;
    for (i = 0; n >= PJ_BYTES && i < n; i += PJ_BYTES) {
        at = i < n - PJ_BYTES ? i : n - PJ_BYTES;
        pj_store_b(y + at, pj_q_add_codes(p, a + step_a * at, step_a, b + step_b * at, step_b), PJ_BYTES);
    }
    if (n >= PJ_BYTES)
        return;
    if (step_a)
        pj_store_b(some_a, pj_load_b(a, n), PJ_BYTES);
    if (step_b)
        pj_store_b(some_b, pj_load_b(b, n), PJ_BYTES);
    pj_store_b(y, pj_q_add_codes(p, some_a, step_a, some_b, step_b), n);
}

static void pj_q_add(const struct pj_q_add *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t *sa = p->stride_a, *sb = p->stride_b;
    uint8_t *y = out[0];
    int32_t e[6], step_a = 0, step_b = 0, n = 1, axis, i0, i1, i2, i3, i4;
    PJ_UNUSED(scratch);
    memcpy(e, p->extent, sizeof e);
    for (axis = 5; axis >= 0; axis--) {
        if (e[axis] == 1)
            continue;
        if (n == 1)
            step_a = sa[axis], step_b = sb[axis];
        else if (sa[axis] != step_a * n || sb[axis] != step_b * n)
            break;
        n *= e[axis], e[axis] = 1;
    }
    for (i0 = 0; i0 < e[0]; i0++)
        for (i1 = 0; i1 < e[1]; i1++)
            for (i2 = 0; i2 < e[2]; i2++)
                for (i3 = 0; i3 < e[3]; i3++)
                    for (i4 = 0; i4 < e[4]; i4++, y += n) {
                        const uint8_t *a = (const uint8_t *)in[0] + (int64_t)i0 * sa[0] + (int64_t)i1 * sa[1] +
                                           (int64_t)i2 * sa[2] + (int64_t)i3 * sa[3] + (int64_t)i4 * sa[4];
                        const uint8_t *b = (const uint8_t *)in[1] + (int64_t)i0 * sb[0] + (int64_t)i1 * sb[1] +
                                           (int64_t)i2 * sb[2] + (int64_t)i3 * sb[3] + (int64_t)i4 * sb[4];
                        pj_q_add_run(p, y, a, step_a, b, step_b, n);
                    }
}
