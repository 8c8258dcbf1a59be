/* q_embedding: a table of rows of so many bytes, ids s32 (n); the rows that the ids name. The library's entry has checked them. */
struct pj_q_embedding {
    int32_t n, bytes;
};

static void pj_q_embedding(const struct pj_q_embedding *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *table = in[0], *ids = in[1];
    uint8_t *y = out[0];
    const size_t bytes = (size_t)p->bytes;
    int32_t i;
    PJ_UNUSED(scratch);

    for (i = 0; i < p->n; i++, y += bytes)
        memcpy(y, table + (size_t)pj_id(ids, i) * bytes, bytes);
}
