/* q_append: x u8 (outer, all_steps, inner), new u8 (outer, steps, inner), position s32; y as x, with the new steps from
 * the position on. Where y is x, nothing else is written. */
struct pj_q_append {
    int32_t outer, all_steps, steps, inner;
};

static void pj_q_append(const struct pj_q_append *p, const void *const *in, void *const *out, void *scratch)
{
    const int64_t row = (int64_t)p->all_steps * p->inner;
    const int32_t some = p->steps * p->inner;
    const uint8_t *next = in[1];
    uint8_t *y = out[0];
    int32_t o;
    PJ_UNUSED(scratch);

    if (in[0] != out[0])
        memcpy(y, in[0], (size_t)(p->outer * row));
    y += (int64_t)pj_first_step(in[2], p->all_steps - p->steps) * p->inner;
    for (o = 0; o < p->outer; o++, y += row, next += some)
        pj_copy(y, next, some);
}
