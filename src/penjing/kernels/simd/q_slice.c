/* q_slice: x u8 (outer, extent, inner); elements start, start + step, ... of the middle axis. */
struct pj_q_slice {
    int32_t outer, extent, inner, start, count, step;
};

static void pj_q_slice(const struct pj_q_slice *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    /* neighbours are copied in one piece */
    const int32_t pieces = p->step == 1 ? 1 : p->count, bytes = p->inner * (p->count / pieces);
    const int64_t step = (int64_t)p->step * p->inner, outer = (int64_t)p->extent * p->inner;
    int32_t i, j;
    PJ_UNUSED(scratch);

    x += (int64_t)p->start * p->inner;
    for (i = 0; i < p->outer; i++)
        for (j = 0; j < pieces; j++, y += bytes)
            pj_copy_b(y, x + i * outer + j * step, bytes);
}
