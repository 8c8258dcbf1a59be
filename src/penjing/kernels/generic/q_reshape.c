/* q_reshape: the same bytes elsewhere; emitted only where the plan could not let them stay. */
struct pj_q_reshape {
    int32_t bytes;
};

static void pj_q_reshape(const struct pj_q_reshape *p, const void *const *in, void *const *out, void *scratch)
{
    PJ_UNUSED(scratch);
    memcpy(out[0], in[0], (size_t)p->bytes);
}
