/* q_concat: input k is u8 (outer, part[k]); output (outer, sum of parts). */
struct pj_q_concat {
    int32_t count, outer, part[32];
};

static void pj_q_concat(const struct pj_q_concat *p, const void *const *in, void *const *out, void *scratch)
{
    int64_t row = 0, at = 0;
    int32_t i, k;
    PJ_UNUSED(scratch);

    for (k = 0; k < p->count; k++)
        row += p->part[k];
    for (k = 0; k < p->count; at += p->part[k], k++)
        for (i = 0; i < p->outer; i++)
            pj_copy_b((uint8_t *)out[0] + i * row + at, (const uint8_t *)in[k] + (int64_t)i * p->part[k], p->part[k]);
}
