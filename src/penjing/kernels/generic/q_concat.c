/* q_concat: input k is u8 (outer, part[k]) and goes to at[k] in rows of the output, which lie `step` bytes apart. */
struct pj_q_concat {
    int32_t count, outer, step, part[32], at[32];
};

static void pj_q_concat(const struct pj_q_concat *p, const void *const *in, void *const *out, void *scratch)
{
    int32_t i, k;
    PJ_UNUSED(scratch);

    for (k = 0; k < p->count; k++) {
        const uint8_t *x = in[k];
        uint8_t *y = (uint8_t *)out[0] + p->at[k];
        for (i = 0; i < p->outer; i++, x += p->part[k], y += p->step)
            memcpy(y, x, (size_t)p->part[k]);
    }
}
