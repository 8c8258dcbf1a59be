/* q_take_steps: x u8 (outer, all_steps, inner), position s32; y u8 (outer, steps, inner), from the position on. */
struct pj_q_take_steps {
    int32_t outer, all_steps, steps, inner;
};

static void pj_q_take_steps(const struct pj_q_take_steps *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t some = p->steps * p->inner;
    const uint8_t *x = (const uint8_t *)in[0] + (int64_t)pj_first_step(in[1], p->all_steps - p->steps) * p->inner;
    uint8_t *y = out[0];
    int32_t o;
    PJ_UNUSED(scratch);

    for (o = 0; o < p->outer; o++, x += (int64_t)p->all_steps * p->inner, y += some)
        pj_copy(y, x, some);
}
