/* q_prefix: the same bytes elsewhere; emitted only where the plan could not let them stay. */
struct pj_q_prefix {
    int32_t bytes;
};

static void pj_q_prefix(const struct pj_q_prefix *p, const void *const *in, void *const *out, void *scratch)
{
    PJ_UNUSED(scratch);
    memcpy(out[0], in[0], (size_t)p->bytes);
}
