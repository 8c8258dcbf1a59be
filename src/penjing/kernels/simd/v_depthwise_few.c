/* v_depthwise_few: windows of up to 3 x 3 with stride 1 and fewer than 16 channels. x u8 (n, ih, iw, c), w s8
 * (blocks, 1, 3, 16, 4), bias s32 and multiplier f32 (blocks, 16). The zero point of x is in the bias already.
 *
 * A block is 8 channels, which fill a vector twice, for two neighbouring pixels. Rows are staged with their border. One
 * dot product takes 4 taps that lie one above the other, and the same codes serve two rows of output: the weights of
 * the second are moved by one tap.
 */
struct pj_v_depthwise_few {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t x_zero, y_zero, qmin, qmax;
    int32_t rectified; /* codes are 0..255, 0 means 0, and no sum reaches 2^22 */
    int32_t band;      /* rows of output, an even number, whose input is staged together */
    int32_t step;      /* bytes from pixel to pixel of y */
};

/* Two rows of output, of one block of channels. */
struct pj_v_depthwise_few_sweep {
    struct pj_codes codes;
    const uint8_t *x; /* the first of four rows, */
    int64_t row;      /* which lie so many bytes apart */
    const pj_dw_stored *w;
    const int32_t *bias;
    const float *multiplier;
    uint8_t *y;
    int64_t second; /* bytes from the first row of y to the second, 0 where there is none */
    int32_t pixels; /* in a row of output, */
    int32_t step;   /* which lie so many bytes apart */
    int32_t used;   /* channels of the block that exist */
};

/* A tile of 2 rows and 4 pixels, of which `left` exist. A second row that is not there is overwritten by the first. */
PJ_SHARED void pj_v_depthwise_few_scatter(const struct pj_v_depthwise_few_sweep *s, uint8_t *y,
                                          const uint8_t codes[64], int32_t left)
{
    int32_t i, j;
    for (i = 7; i >= 0; i--) {
        uint8_t *to = y + (i < 4 ? 0 : s->second) + i % 4 * s->step;
        for (j = 0; i % 4 < left && j < s->used; j++)
            to[j] = codes[8 * i + j];
    }
}

/* Four vectors of codes, of two pixels each, to two rows. */
PJ_WORD void pj_v_depthwise_few_put(const struct pj_v_depthwise_few_sweep *s, uint8_t *y, const pj_dw_codes *codes,
                                    int32_t left)
{
    const int32_t whole = s->step == 8 && s->used == 8 && left >= 4; /* neighbours in a vector are neighbours in y */
    uint8_t all[64];
    int32_t v;
    PJ_UNROLL
    for (v = 3; v >= 0; v--)
        pj_dw_put(whole ? y + (v < 2 ? 0 : s->second) + v % 2 * 16 : all + 16 * v, codes, v);
    if (!whole)
        pj_v_depthwise_few_scatter(s, y, all, left);
}

PJ_WORD void pj_v_depthwise_few_rows(const struct pj_v_depthwise_few_sweep *from, const int32_t rectified)
{
    const struct pj_v_depthwise_few_sweep s = *from;
    const pj_dw_rule rule = pj_dw_rule_of(s.bias, s.multiplier, rectified);
    const uint8_t *a = s.x, *b = a + s.row, *c = b + s.row, *d = c + s.row;
    uint8_t *y = s.y;
    pj_dw_weights w[6];
    pj_dw_taps x[5]; /* of two columns each, from every column on */
    int32_t left, i, kx;
    PJ_UNROLL
    for (i = 0; i < 6; i++)
        w[i] = pj_dw_load_w(s.w + 64 * i);
    x[0] = pj_dw_load(a, b, c, d, 4);
    for (left = s.pixels; left > 0; left -= 4, y += 4 * s.step, a += 32, b += 32, c += 32, d += 32) {
        pj_dw_sums sums[4];
        pj_dw_codes codes;
        PJ_UNROLL
        for (i = 1; i < 5; i++)
            x[i] = pj_dw_load(a + 8 * i, b + 8 * i, c + 8 * i, d + 8 * i, 4);
        PJ_UNROLL
        for (i = 0; i < 4; i++) {
            sums[i] = pj_dw_start(&rule);
            PJ_UNROLL
            for (kx = 0; kx < 3; kx++)
                sums[i] = pj_dw_dot(sums[i], x[i % 2 * 2 + kx], w[i / 2 * 3 + kx]);
        }
        codes = pj_dw_finish(sums, &rule, &s.codes, rectified);
        pj_v_depthwise_few_put(&s, y, &codes, left);
        x[0] = x[4];
    }
}

PJ_SHARED void pj_v_depthwise_few_plain(const struct pj_v_depthwise_few_sweep *s)
{
    pj_v_depthwise_few_rows(s, 0);
}

PJ_SHARED void pj_v_depthwise_few_rectified(const struct pj_v_depthwise_few_sweep *s)
{
    pj_v_depthwise_few_rows(s, 1);
}

/* A row of x with its border, filled up to 8 channels. x: at the first channel, in the first row of an image. */
static void pj_v_depthwise_few_stage(const struct pj_v_depthwise_few *p, uint8_t *to, const uint8_t *x, int32_t iy,
                                     int32_t columns, int32_t used)
{
    const int32_t left = p->pad_left < columns ? p->pad_left : columns;
    const int32_t inside = p->iw < columns - left ? p->iw : columns - left;
    int32_t i, j;
    memset(to, p->x_zero, (size_t)columns * 8);
    if (iy < 0 || iy >= p->ih)
        return;
    x += (int64_t)iy * p->iw * p->c;
    to += 8 * left;
    if (p->c == 8)
        memcpy(to, x, (size_t)inside * 8);
    else
        for (i = 0; i < inside; i++)
            for (j = 0; j < used; j++)
                to[8 * i + j] = x[i * p->c + j];
}

/* `rows` rows of output from the one at oy, of one block. x: its first channel in an image; s->y: in the first row. */
static void pj_v_depthwise_few_band(const struct pj_v_depthwise_few *p, struct pj_v_depthwise_few_sweep *s,
                                    uint8_t *staged, const uint8_t *x, int32_t oy, int32_t rows)
{
    const int32_t columns = (p->ow + 3) / 4 * 4 + 2;
    const int64_t row = (int64_t)p->ow * p->step;
    int32_t r;
    s->row = (int64_t)columns * 8;
    for (r = 0; r < (rows + 1) / 2 * 2 + 2; r++)
        pj_v_depthwise_few_stage(p, staged + r * s->row, x, oy + r - p->pad_top, columns, s->used);
    for (r = 0; r < rows; r += 2, s->y += 2 * row) {
        s->x = staged + r * s->row;
        s->second = r + 1 < rows ? row : 0;
        (PJ_DW_RECTIFIES && p->rectified ? pj_v_depthwise_few_rectified : pj_v_depthwise_few_plain)(s);
    }
}

static void pj_v_depthwise_few(const struct pj_v_depthwise_few *p, const void *const *in, void *const *out,
                               void *scratch)
{
    pj_dw_stored *weights = scratch; /* for two rows of output, in up to 16 bits */
    uint8_t *staged = (uint8_t *)scratch + 2 * 3 * 64 * 2;
    struct pj_v_depthwise_few_sweep s;
    int32_t n, oy, c;
    s.codes.zero = p->y_zero, s.codes.qmin = p->qmin, s.codes.qmax = p->qmax;
    s.w = weights, s.pixels = p->ow, s.step = p->step, s.used = p->c < 8 ? p->c : 8;

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy += p->band) {
            const int8_t *w = in[1];
            s.bias = in[2], s.multiplier = in[3];
            for (c = 0; c < p->c; c += 8, w += 3 * 64, s.bias += 16, s.multiplier += 16) {
                /* the last block overlaps with the one before, rather than to end beyond the channels */
                const int32_t first = p->c - c < s.used ? p->c - s.used : c;
                pj_dw_prepare(weights, w, 3);
                s.y = (uint8_t *)out[0] + ((int64_t)n * p->oh + oy) * p->ow * p->step + first;
                pj_v_depthwise_few_band(p, &s, staged,
                                        (const uint8_t *)in[0] + (int64_t)n * p->ih * p->iw * p->c + first, oy,
                                        p->oh - oy < p->band ? p->oh - oy : p->band);
            }
        }
}
