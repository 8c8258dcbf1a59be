/* q_pad: u8 of rank 6; `source` and `extent` are the shapes of input and output, `before` the pads in front.
 * Neighbouring axes without pads are walked as one, and the innermost ones are moved in one piece. */
struct pj_q_pad {
    int32_t source[6], extent[6], before[6];
    int32_t mode, code;
};

enum { PJ_Q_PAD_CONSTANT, PJ_Q_PAD_REFLECT, PJ_Q_PAD_REPLICATE, PJ_Q_PAD_CIRCULAR };

/* The same with fewer axes, from `first` to the last, and elements of `unit` bytes. */
struct pj_q_pad_axes {
    int32_t source[6], extent[6], before[6];
    int32_t first, unit;
};

static void pj_q_pad_fewer(struct pj_q_pad_axes *k, const struct pj_q_pad *p)
{
    int32_t axis, last = 6, joins = 0;
    k->unit = 1;
    for (axis = 5; axis >= 0; axis--) {
        const int32_t bare = p->source[axis] == p->extent[axis];
        if (bare && last == 6 && axis > 0) {
            k->unit *= p->source[axis];
        } else if (bare && joins) {
            k->source[last] *= p->source[axis], k->extent[last] *= p->source[axis];
        } else {
            last--, joins = bare;
            k->source[last] = p->source[axis], k->extent[last] = p->extent[axis], k->before[last] = p->before[axis];
        }
    }
    k->first = last;
}

/* The next line of all those along the last axis; 0 behind the last one. */
static int32_t pj_q_pad_next(const struct pj_q_pad_axes *k, const int32_t *extent, int32_t *i)
{
    int32_t axis;
    for (axis = 4; axis >= k->first; axis--) {
        if (++i[axis] < extent[axis])
            return 1;
        i[axis] = 0;
    }
    return 0;
}

/* All places get the constant, then those inside what belongs there. */
static void pj_q_pad_constant(const struct pj_q_pad_axes *k, uint8_t *y, const uint8_t *x, int32_t code)
{
    const int32_t line = k->source[5] * k->unit;
    int32_t i[5] = {0}, axis;
    int64_t bytes = k->unit;
    for (axis = k->first; axis < 6; axis++)
        bytes *= k->extent[axis];
    memset(y, code, (size_t)bytes);
    do {
        int64_t at = 0;
        for (axis = k->first; axis < 5; axis++)
            at = (at + i[axis] + k->before[axis]) * k->extent[axis + 1];
        pj_copy_b(y + (at + k->before[5]) * k->unit, x, line);
        x += line;
    } while (pj_q_pad_next(k, k->source, i));
}

/* the input element for place i, counted from the input's first */
PJ_SHARED int32_t pj_q_pad_source(int32_t i, int32_t extent, int32_t mode)
{
    if (i >= 0 && i < extent)
        return i;
    if (mode == PJ_Q_PAD_REFLECT)
        return i < 0 ? -i : 2 * (extent - 1) - i;
    if (mode == PJ_Q_PAD_REPLICATE)
        return i < 0 ? 0 : extent - 1;
    return i < 0 ? i + extent : i - extent;
}

/* one line along the last axis */
static void pj_q_pad_line(const struct pj_q_pad_axes *k, uint8_t *y, const uint8_t *x, int32_t mode)
{
    const int32_t extent = k->source[5], before = k->before[5];
    const size_t unit = (size_t)k->unit;
    int32_t j;
    memcpy(y + (size_t)before * unit, x, (size_t)extent * unit);
    for (j = before ? -before : extent; j < k->extent[5] - before; j = j == -1 ? extent : j + 1)
        memcpy(y + (size_t)(before + j) * unit, x + (size_t)pj_q_pad_source(j, extent, mode) * unit, unit);
}

static void pj_q_pad(const struct pj_q_pad *p, const void *const *in, void *const *out, void *scratch)
{
    struct pj_q_pad_axes k;
    uint8_t *y = out[0];
    int32_t i[5] = {0}, axis;
    PJ_UNUSED(scratch);
    pj_q_pad_fewer(&k, p);
    if (p->mode == PJ_Q_PAD_CONSTANT) {
        pj_q_pad_constant(&k, y, in[0], p->code);
        return;
    }
    do {
        int64_t line = 0;
        for (axis = k.first; axis < 5; axis++)
            line = line * k.source[axis] + pj_q_pad_source(i[axis] - k.before[axis], k.source[axis], p->mode);
        pj_q_pad_line(&k, y, (const uint8_t *)in[0] + line * k.source[5] * k.unit, p->mode);
        y += (int64_t)k.extent[5] * k.unit;
    } while (pj_q_pad_next(&k, k.extent, i));
}
