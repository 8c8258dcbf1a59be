/* q_slice: x u8 (outer, extent, inner); elements start, start + step, ... of the middle axis. */
struct pj_q_slice {
    int32_t outer, extent, inner, start, count, step;
};

static void pj_q_slice(const struct pj_q_slice *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    /* neighbours are copied in one piece */
    const int32_t pieces = p->step == 1 ? 1 : p->count;
    const size_t bytes = (size_t)p->inner * (size_t)(p->count / pieces);
    int32_t i, j;
    PJ_UNUSED(scratch);

    for (i = 0; i < p->outer; i++)
        for (j = 0; j < pieces; j++, y += bytes) {
            const int64_t row = (int64_t)i * p->extent + p->start + (int64_t)j * p->step;
            memcpy(y, x + row * p->inner, bytes);
        }
}
