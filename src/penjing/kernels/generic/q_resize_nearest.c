/* q_resize_nearest: x u8 (n, ih, iw, c), rows s32 (oh), columns s32 (ow): the source of each output row and column. */
struct pj_q_resize_nearest {
    int32_t n, ih, iw, c, oh, ow;
};

static void pj_q_resize_nearest(const struct pj_q_resize_nearest *p, const void *const *in, void *const *out,
                                void *scratch)
{
    const uint8_t *x = in[0];
    const int32_t *rows = in[1], *columns = in[2];
    uint8_t *y = out[0];
    int32_t n, oy, ox;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++, y += p->c) {
                const int64_t pixel = ((int64_t)n * p->ih + rows[oy]) * p->iw + columns[ox];
                memcpy(y, x + pixel * p->c, (size_t)p->c);
            }
}
