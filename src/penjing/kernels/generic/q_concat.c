/* q_concat: input k is u8 (outer, part[k]); output (outer, sum of parts). */
struct pj_q_concat {
    int32_t count, outer, part[32];
};

static void pj_q_concat(const struct pj_q_concat *p, const void *const *in, void *const *out, void *scratch)
{
    uint8_t *y = out[0];
    int32_t i, k;
    PJ_UNUSED(scratch);

    for (i = 0; i < p->outer; i++)
        for (k = 0; k < p->count; k++) {
            const uint8_t *x = in[k];
            memcpy(y, x + (int64_t)i * p->part[k], (size_t)p->part[k]);
            y += p->part[k];
        }
}
