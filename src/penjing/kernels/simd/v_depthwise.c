/* v_depthwise: windows of up to 3 x 3 with strides of 1, or of 2 from column to column, and 16 channels or more.
 * x u8 (n, ih, iw, c), w s8 (vectors, 1, 3, 16, 4), bias s32 and multiplier f32 (vectors, 16). The zero point of x is
 * in the bias already.
 *
 * One dot product takes 4 taps that lie one above the other, for each of 16 lanes. With stride 1 the same codes serve
 * two rows of output: the weights of the second are moved by one tap. Channels come in blocks of 64, four vectors in
 * the order in which the codes of 64 channels are unpacked, and of 16 for what remains.
 */
struct pj_v_depthwise {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t x_zero, y_zero, qmin, qmax;
    int32_t rectified; /* codes are 0..255, 0 means 0, and no sum reaches 2^22 */
    int32_t band;      /* rows of output that are computed before the next block of channels */
    int32_t step;      /* bytes from pixel to pixel of y */
};

/* One row of output, or two, of one block of channels. */
struct pj_v_depthwise_sweep {
    struct pj_codes codes;
    const uint8_t *row[4];   /* codes of the first column of x, in the rows that the taps meet */
    int32_t column, columns; /* of x: the one that the first tap meets, and how many there are */
    int32_t stride;
    int32_t step;            /* bytes from column to column of x, */
    int32_t next;            /* and of y */
    int32_t x_zero;
    const pj_dw_stored *w;
    const int32_t *bias;
    const float *multiplier;
    uint8_t *y;
    int64_t second; /* bytes from the first row of y to the second, 0 where there is none */
    int32_t pixels; /* in a row of output */
};

/* A walk over the columns of x. */
struct pj_v_depthwise_walk {
    const uint8_t *a, *b, *c, *d;
    int32_t column;
};

PJ_WORD struct pj_v_depthwise_walk pj_v_depthwise_begin(const struct pj_v_depthwise_sweep *s, int32_t channel)
{
    struct pj_v_depthwise_walk at;
    at.a = s->row[0] + channel, at.b = s->row[1] + channel, at.c = s->row[2] + channel, at.d = s->row[3] + channel;
    at.column = s->column;
    return at;
}

PJ_WORD int pj_v_depthwise_inside(const struct pj_v_depthwise_sweep *s, const struct pj_v_depthwise_walk *at)
{
    return (uint32_t)at->column < (uint32_t)s->columns;
}

PJ_WORD void pj_v_depthwise_move(const struct pj_v_depthwise_sweep *s, struct pj_v_depthwise_walk *at)
{
    at->a += s->step, at->b += s->step, at->c += s->step, at->d += s->step;
}

PJ_WORD pj_dw_taps pj_v_depthwise_next(const struct pj_v_depthwise_sweep *s, struct pj_v_depthwise_walk *at,
                                       const int32_t rows)
{
    pj_dw_taps taps;
    if (pj_v_depthwise_inside(s, at)) {
        taps = pj_dw_load(at->a, at->b, at->c, at->d, rows);
        pj_v_depthwise_move(s, at);
    } else
        taps = pj_dw_fill(s->x_zero);
    at->column++;
    return taps;
}

PJ_WORD void pj_v_depthwise_push(const struct pj_v_depthwise_sweep *s, struct pj_v_depthwise_walk *at,
                                 pj_dw_window *window)
{
    if (pj_v_depthwise_inside(s, at)) {
        pj_dw_push(window, pj_dw_wide_load(at->a, at->b, at->c, at->d));
        pj_v_depthwise_move(s, at);
    } else
        pj_dw_push(window, pj_dw_wide_fill(s->x_zero));
    at->column++;
}

PJ_WORD void pj_v_depthwise_pixel(const struct pj_v_depthwise_sweep *s, uint8_t *y, const pj_dw_window *window,
                                  const pj_dw_wide_rule *rule, const int32_t rows, const int32_t half,
                                  const int32_t rectified)
{
    pj_dw_pixel sums[2];
    int32_t kx;
    sums[0] = sums[1] = pj_dw_wide_start(rule);
    PJ_UNROLL
    for (kx = 0; kx < 3; kx++)
        pj_dw_wide_dot(sums, pj_dw_at(window, kx), s->w + 64 * kx, half, rows);
    pj_dw_wide_put(y, &sums[0], rule, &s->codes, rectified);
    if (rows == 2)
        pj_dw_wide_put(y + s->second, &sums[1], rule, &s->codes, rectified);
}

/* 64 channels: two rows with stride 1, or one with stride 1 or 2. */
PJ_WORD void pj_v_depthwise_wide(const struct pj_v_depthwise_sweep *from, const int32_t rows, const int32_t half,
                                 const int32_t rectified)
{
    const struct pj_v_depthwise_sweep s = *from;
    const pj_dw_wide_rule rule = pj_dw_wide_rule_of(s.bias, s.multiplier, half, rectified);
    struct pj_v_depthwise_walk at = pj_v_depthwise_begin(&s, PJ_DW_WIDE * half);
    uint8_t *y = s.y + PJ_DW_WIDE * half;
    pj_dw_window window;
    int32_t left;
    pj_dw_window_begin(&window);
    pj_v_depthwise_push(&s, &at, &window);
    if (rows == 2 || s.stride == 1)
        pj_v_depthwise_push(&s, &at, &window);
    for (left = s.pixels; left > 0; left--, y += s.next) {
        if (rows == 1 && s.stride == 2)
            pj_v_depthwise_push(&s, &at, &window);
        pj_v_depthwise_push(&s, &at, &window);
        pj_v_depthwise_pixel(&s, y, &window, &rule, rows, half, rectified);
    }
}

/* Where pixel `pixel` of a tile goes, of which `left` exist. Those beyond, and a second row that is not there, go where
 * a later store of the tile overwrites them: stores go backwards. */
PJ_WORD uint8_t *pj_v_depthwise_place(const struct pj_v_depthwise_sweep *s, uint8_t *y, int32_t pixel, int32_t left,
                                      int32_t row)
{
    return y + (row ? s->second : 0) + (pixel < left ? pixel : left - 1) * s->next;
}

/* Four vectors of codes to `rows` rows. */
PJ_WORD void pj_v_depthwise_put(const struct pj_v_depthwise_sweep *s, uint8_t *y, const pj_dw_codes *codes,
                                int32_t left, const int32_t rows)
{
    int32_t v;
    PJ_UNROLL
    for (v = 3; v >= 0; v--)
        pj_dw_put(pj_v_depthwise_place(s, y, v % (4 / rows), left, v >= 4 / rows), codes, v);
}

/* 16 channels: two rows with stride 1. */
PJ_WORD void pj_v_depthwise_narrow1(const struct pj_v_depthwise_sweep *from, const int32_t rectified)
{
    const struct pj_v_depthwise_sweep s = *from;
    const pj_dw_rule rule = pj_dw_rule_of(s.bias, s.multiplier, rectified);
    struct pj_v_depthwise_walk at = pj_v_depthwise_begin(&s, 0);
    uint8_t *y = s.y;
    pj_dw_weights w[6];
    pj_dw_taps x[4];
    int32_t left, i, kx;
    PJ_UNROLL
    for (i = 0; i < 6; i++)
        w[i] = pj_dw_load_w(s.w + 64 * i);
    x[0] = pj_v_depthwise_next(&s, &at, 4);
    x[1] = pj_v_depthwise_next(&s, &at, 4);
    for (left = s.pixels; left > 0; left -= 2, y += 2 * s.next) {
        pj_dw_sums sums[4];
        pj_dw_codes codes;
        x[2] = pj_v_depthwise_next(&s, &at, 4);
        x[3] = pj_v_depthwise_next(&s, &at, 4);
        PJ_UNROLL
        for (i = 0; i < 4; i++) {
            sums[i] = pj_dw_start(&rule);
            PJ_UNROLL
            for (kx = 0; kx < 3; kx++)
                sums[i] = pj_dw_dot(sums[i], x[i % 2 + kx], w[i / 2 * 3 + kx]);
        }
        codes = pj_dw_finish(sums, &rule, &s.codes, rectified);
        pj_v_depthwise_put(&s, y, &codes, left, 2);
        x[0] = x[2], x[1] = x[3];
    }
}

/* 16 channels: one row with stride 2. */
PJ_WORD void pj_v_depthwise_narrow2(const struct pj_v_depthwise_sweep *from, const int32_t rectified)
{
    const struct pj_v_depthwise_sweep s = *from;
    const pj_dw_rule rule = pj_dw_rule_of(s.bias, s.multiplier, rectified);
    const pj_dw_weights w0 = pj_dw_load_w(s.w), w1 = pj_dw_load_w(s.w + 64), w2 = pj_dw_load_w(s.w + 128);
    struct pj_v_depthwise_walk at = pj_v_depthwise_begin(&s, 0);
    pj_dw_taps x = pj_v_depthwise_next(&s, &at, 3);
    uint8_t *y = s.y;
    int32_t left, i;
    for (left = s.pixels; left > 0; left -= 4, y += 4 * s.next) {
        pj_dw_sums sums[4];
        pj_dw_codes codes;
        PJ_UNROLL
        for (i = 0; i < 4; i++) {
            sums[i] = pj_dw_dot(pj_dw_start(&rule), x, w0);
            sums[i] = pj_dw_dot(sums[i], pj_v_depthwise_next(&s, &at, 3), w1);
            x = pj_v_depthwise_next(&s, &at, 3);
            sums[i] = pj_dw_dot(sums[i], x, w2);
        }
        codes = pj_dw_finish(sums, &rule, &s.codes, rectified);
        pj_v_depthwise_put(&s, y, &codes, left, 1);
    }
}

#define PJ_DEPTHWISE_SWEEPS(RECTIFIED)                                                                       \
    PJ_SHARED void pj_v_depthwise_wide_1_##RECTIFIED(const struct pj_v_depthwise_sweep *s)                    \
    {                                                                                                        \
        int32_t half;                                                                                        \
        for (half = 0; half < 64 / PJ_DW_WIDE; half++)                                                       \
            pj_v_depthwise_wide(s, 1, half, RECTIFIED);                                                      \
    }                                                                                                        \
    PJ_SHARED void pj_v_depthwise_wide_2_##RECTIFIED(const struct pj_v_depthwise_sweep *s)                    \
    {                                                                                                        \
        int32_t half;                                                                                        \
        for (half = 0; half < 64 / PJ_DW_WIDE; half++)                                                       \
            pj_v_depthwise_wide(s, 2, half, RECTIFIED);                                                      \
    }                                                                                                        \
    PJ_SHARED void pj_v_depthwise_narrow1_##RECTIFIED(const struct pj_v_depthwise_sweep *s)                  \
    {                                                                                                        \
        pj_v_depthwise_narrow1(s, RECTIFIED);                                                                \
    }                                                                                                        \
    PJ_SHARED void pj_v_depthwise_narrow2_##RECTIFIED(const struct pj_v_depthwise_sweep *s)                  \
    {                                                                                                        \
        pj_v_depthwise_narrow2(s, RECTIFIED);                                                                \
    }
PJ_DEPTHWISE_SWEEPS(0)
PJ_DEPTHWISE_SWEEPS(1)

/* A library may say which of them it takes, plain and rectified: bits 0 to 3, in the order of the calls below. */
#ifndef PJ_DEPTHWISE_PLAIN
#define PJ_DEPTHWISE_PLAIN (-1)
#define PJ_DEPTHWISE_RECTIFIED (-1)
#endif
#if PJ_DW_RECTIFIES
#define PJ_DEPTHWISE_CALL(bit, sweep)                                                                        \
    if (p->rectified && PJ_DEPTHWISE_RECTIFIED & 1 << bit)                                                   \
        pj_v_depthwise_##sweep##_1(s);                                                                       \
    else if (PJ_DEPTHWISE_PLAIN & 1 << bit)                                                                  \
        pj_v_depthwise_##sweep##_0(s);
#else
#define PJ_DEPTHWISE_CALL(bit, sweep)                                                                        \
    if ((PJ_DEPTHWISE_PLAIN | PJ_DEPTHWISE_RECTIFIED) & 1 << bit)                                            \
        pj_v_depthwise_##sweep##_0(s);
#endif

PJ_SHARED void pj_v_depthwise_sweep(const struct pj_v_depthwise *p, const struct pj_v_depthwise_sweep *s, int32_t lanes)
{
    if (lanes == 16 && p->stride_w == 1) {
        PJ_DEPTHWISE_CALL(0, narrow1)
    } else if (lanes == 16) {
        PJ_DEPTHWISE_CALL(1, narrow2)
    } else if (s->second) {
        PJ_DEPTHWISE_CALL(2, wide_2)
    } else {
        PJ_DEPTHWISE_CALL(3, wide_1)
    }
}

/* `rows` rows of output from the one at oy, of one block. x: its first channel in an image; s->y: in the first row. */
static void pj_v_depthwise_band(const struct pj_v_depthwise *p, struct pj_v_depthwise_sweep *s, const uint8_t *zeros,
                                const uint8_t *x, int32_t oy, int32_t rows, int32_t lanes)
{
    const int32_t together = p->stride_w == 1 ? 2 : 1;
    const int64_t row = (int64_t)p->ow * p->step;
    int32_t r, i;
    for (r = 0; r < rows; r += together, s->y += together * row) {
        for (i = 0; i < 4; i++) {
            const int32_t iy = (oy + r) * p->stride_h - p->pad_top + i * p->dilation_h;
            const int32_t inside = i < p->kh + together - 1 && iy >= 0 && iy < p->ih;
            s->row[i] = inside ? x + (int64_t)iy * p->iw * p->c : zeros;
        }
        s->second = together == 2 && r + 1 < rows ? row : 0;
        pj_v_depthwise_sweep(p, s, lanes);
    }
}

static void pj_v_depthwise_part(const struct pj_v_depthwise *p, const void *const *in, void *const *out, void *scratch,
                                struct pj_part part)
{
    pj_dw_stored *weights = scratch; /* of 64 channels, for two rows of output, in up to 16 bits */
    uint8_t *zeros = (uint8_t *)scratch + 2 * 12 * 64 * 2;
    struct pj_v_depthwise_sweep s;
    int32_t n, oy, c, lanes, from, to;
    pj_share(part, p->oh, &from, &to);
    s.codes.zero = p->y_zero, s.codes.qmin = p->qmin, s.codes.qmax = p->qmax;
    s.column = -p->pad_left, s.columns = p->iw, s.stride = p->stride_w, s.step = p->c, s.x_zero = p->x_zero;
    s.w = weights, s.pixels = p->ow, s.next = p->step;
    memset(zeros, p->x_zero, (size_t)p->iw * (size_t)p->c);

    for (n = 0; n < p->n; n++)
        for (oy = from; oy < to; oy += p->band) {
            const int32_t rows = to - oy < p->band ? to - oy : p->band;
            const int8_t *w = in[1];
            s.bias = in[2], s.multiplier = in[3];
            for (c = 0; c < p->c; c += lanes) {
                int32_t first, vectors;
                lanes = p->c - c >= 64 ? 64 : 16;
                vectors = lanes == 64 ? 4 : 1;
                /* the last block overlaps with the one before, rather than to end beyond the channels */
                first = p->c - c < lanes ? p->c - lanes : c;
                pj_dw_prepare(weights, w, 3 * vectors);
                s.y = (uint8_t *)out[0] + ((int64_t)n * p->oh + oy) * p->ow * p->step + first;
                pj_v_depthwise_band(p, &s, zeros, (const uint8_t *)in[0] + (int64_t)n * p->ih * p->iw * p->c + first,
                                    oy, rows, lanes);
                w += vectors * 3 * 64, s.bias += vectors * 16, s.multiplier += vectors * 16;
            }
        }
}

PJ_WHOLE(v_depthwise)
