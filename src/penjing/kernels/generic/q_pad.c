/* q_pad: u8 of rank 6; `source` and `extent` are the shapes of input and output, `before` the pads in front. */
struct pj_q_pad {
    int32_t source[6], extent[6], before[6];
    int32_t mode, code;
};

enum { PJ_Q_PAD_CONSTANT, PJ_Q_PAD_REFLECT, PJ_Q_PAD_REPLICATE, PJ_Q_PAD_CIRCULAR };

/* the input element for place i, counted from the input's first; -1 for the constant */
static int32_t pj_q_pad_source(int32_t i, int32_t extent, int32_t mode)
{
    if (i >= 0 && i < extent)
        return i;
    switch (mode) {
    case PJ_Q_PAD_REFLECT:
        return i < 0 ? -i : 2 * (extent - 1) - i;
    case PJ_Q_PAD_REPLICATE:
        return i < 0 ? 0 : extent - 1;
    case PJ_Q_PAD_CIRCULAR:
        return i < 0 ? i + extent : i - extent;
    default:
        return -1;
    }
}

/* one line along the last axis */
static void pj_q_pad_line(const struct pj_q_pad *p, const uint8_t *x, uint8_t *y)
{
    const int32_t before = p->before[5], extent = p->source[5], after = p->extent[5] - before - extent;
    int32_t j;

    memcpy(y + before, x, (size_t)extent);
    if (p->mode == PJ_Q_PAD_CONSTANT) {
        memset(y, p->code, (size_t)before);
        memset(y + before + extent, p->code, (size_t)after);
        return;
    }
    for (j = 0; j < before; j++)
        y[j] = x[pj_q_pad_source(j - before, extent, p->mode)];
    for (j = extent; j < extent + after; j++)
        y[before + j] = x[pj_q_pad_source(j, extent, p->mode)];
}

static void pj_q_pad(const struct pj_q_pad *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    const int32_t *e = p->extent;
    int32_t i[5], axis;
    PJ_UNUSED(scratch);

    for (i[0] = 0; i[0] < e[0]; i[0]++)
        for (i[1] = 0; i[1] < e[1]; i[1]++)
            for (i[2] = 0; i[2] < e[2]; i[2]++)
                for (i[3] = 0; i[3] < e[3]; i[3]++)
                    for (i[4] = 0; i[4] < e[4]; i[4]++, y += e[5]) {
                        int64_t line = 0;
                        for (axis = 0; axis < 5 && line >= 0; axis++) {
                            const int32_t from =
                                pj_q_pad_source(i[axis] - p->before[axis], p->source[axis], p->mode);
                            line = from < 0 ? -1 : line * p->source[axis] + from;
                        }
                        if (line < 0)
                            memset(y, p->code, (size_t)e[5]);
                        else
                            pj_q_pad_line(p, x + line * p->source[5], y);
                    }
}
