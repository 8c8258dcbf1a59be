/* q_add: a, b u8 broadcast to `extent`; a step of 0 repeats. y = round(a_scale * (a - a_zero) + b_scale * (b - b_zero)). */
struct pj_q_add {
    int32_t extent[6], stride_a[6], stride_b[6];
    float a_scale;
    int32_t a_zero;
    float b_scale;
    int32_t b_zero, y_zero;
    float low, high;
};

PJ_WORD pj_b pj_q_add_codes(const void *params, const uint8_t *a, int32_t step_a, const uint8_t *b, int32_t step_b)
{
    const struct pj_q_add *p = params;
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

static void pj_q_add(const struct pj_q_add *p, const void *const *in, void *const *out, void *scratch)
{
    PJ_UNUSED(scratch);
    pj_broadcast(pj_q_add_codes, p, p->extent, p->stride_a, p->stride_b, in, out);
}
