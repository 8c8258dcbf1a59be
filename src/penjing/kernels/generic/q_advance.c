/* q_advance: x, y s32. The next position, where the steps of this call fit behind it. */
struct pj_q_advance {
    int32_t steps, last;
};

static void pj_q_advance(const struct pj_q_advance *p, const void *const *in, void *const *out, void *scratch)
{
    int32_t *y = out[0];
    PJ_UNUSED(scratch);
    *y = pj_first_step(in[0], p->last) + p->steps;
}
