/* q_mul: a, b u8 broadcast to `extent`; a step of 0 repeats. y = round((a - a_zero) * (b - b_zero) * multiplier). */
struct pj_q_mul {
    int32_t extent[6], stride_a[6], stride_b[6];
    int32_t a_zero, b_zero;
    float multiplier;
    int32_t y_zero;
    float low, high;
};

/* The product of two differences is exact in floats as well. */
PJ_WORD pj_b pj_q_mul_codes(const void *params, const uint8_t *a, int32_t step_a, const uint8_t *b, int32_t step_b)
{
    const struct pj_q_mul *p = params;
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        const pj_f va = pj_from_codes(a + step_a * 16 * j, p->a_zero);
        const pj_f vb = pj_from_codes(b + step_b * 16 * j, p->b_zero);
        v[j] = pj_clamp_f(pj_mul_f(pj_mul_f(va, vb), pj_set_f(p->multiplier)), p->low, p->high);
    }
    return pj_round_b(v, p->y_zero);
}

static void pj_q_mul(const struct pj_q_mul *p, const void *const *in, void *const *out, void *scratch)
{
    PJ_UNUSED(scratch);
    pj_broadcast(pj_q_mul_codes, p, p->extent, p->stride_a, p->stride_b, in, out);
}
