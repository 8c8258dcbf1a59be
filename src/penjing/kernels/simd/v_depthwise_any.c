/* v_depthwise_any: every window. x u8 (n, ih, iw, c), w s8 (blocks, quads, kw, 16, 4), bias s32 and multiplier f32
 * (blocks, 16). The zero point of x is in the bias already.
 *
 * A block is 16 channels of one pixel, or, where there are fewer than 16, 8 of two neighbours. For each row of output
 * the taps are staged as dot products take them, 4 that lie one above the other for each lane: [quad][phase][column]
 * [16][4], where a phase is every stride-th column, so that neighbours in the output find theirs as neighbours.
 */
struct pj_v_depthwise_any {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t x_zero, y_zero, qmin, qmax;
};

/* One block of channels. */
struct pj_v_depthwise_any_block {
    struct pj_codes codes;
    uint8_t *rows; /* four staged rows, for blocks of 8; else one row of zeros as long as those of x */
    pj_dw_staged *staged;
    const pj_dw_stored *w;
    const int32_t *bias;
    const float *multiplier;
    int32_t columns; /* that are staged in each phase */
    int32_t used;    /* channels that exist */
};

/* One row of output: tiles of four vectors. Pixels of 16 channels beyond the last go where a later store overwrites
 * them: stores go backwards. */
PJ_WORD void pj_v_depthwise_any_row(const struct pj_v_depthwise_any *p, const struct pj_v_depthwise_any_block *k,
                                    uint8_t *y, const int32_t lanes)
{
    const int32_t across = 16 / lanes, pixels = 4 * across, quads = (p->kh + 3) / 4;
    const int32_t whole = p->dilation_w / p->stride_w, part = p->dilation_w % p->stride_w;
    const int64_t phase = (int64_t)k->columns * 64, quad = p->stride_w * phase;
    const pj_dw_rule rule = pj_dw_rule_of(k->bias, k->multiplier, 0);
    const pj_dw_staged *x = k->staged;
    int32_t left, q, kx, v;
    for (left = p->ow; left > 0; left -= pixels, x += pixels * 64, y += (int64_t)pixels * p->c) {
        const pj_dw_stored *w = k->w;
        pj_dw_sums sums[4];
        pj_dw_codes codes;
        uint8_t all[64];
        PJ_UNROLL
        for (v = 0; v < 4; v++)
            sums[v] = pj_dw_start(&rule);
        for (q = 0; q < quads; q++) {
            const pj_dw_staged *at = x + q * quad;
            int32_t f = 0;
            for (kx = 0; kx < p->kw; kx++, w += 64) {
                const pj_dw_weights weights = pj_dw_load_w(w);
                PJ_UNROLL
                for (v = 0; v < 4; v++)
                    sums[v] = pj_dw_dot(sums[v], pj_dw_staged_taps(at + v * across * 64), weights);
                at += whole * 64 + part * phase;
                f += part;
                if (f >= p->stride_w) {
                    f -= p->stride_w;
                    at += 64 - quad;
                }
            }
        }
        codes = pj_dw_finish(sums, &rule, &k->codes, 0);
        PJ_UNROLL
        for (v = 3; v >= 0; v--)
            pj_dw_put(lanes == 16 ? y + (int64_t)(v < left ? v : left - 1) * p->c : all + 16 * v, &codes, v);
        for (v = pixels - 1; lanes == 8 && v >= 0; v--)
            if (v < left)
                memcpy(y + (int64_t)v * p->c, all + 8 * v, (size_t)k->used);
    }
}

/* Four rows of one phase, of which columns from `first` up to `end` are inside. `row` is null for a row outside. */
PJ_WORD void pj_v_depthwise_any_taps(const struct pj_v_depthwise_any *p, const struct pj_v_depthwise_any_block *k,
                                     pj_dw_staged *to, const uint8_t *const row[4], int32_t first, int32_t end)
{
    const int64_t step = (int64_t)p->stride_w * p->c;
    const uint8_t *a = row[0] ? row[0] : k->rows, *b = row[1] ? row[1] : k->rows;
    const uint8_t *c = row[2] ? row[2] : k->rows, *d = row[3] ? row[3] : k->rows;
    int32_t i;
    for (i = 0; i < first; i++)
        pj_dw_stage(to + 64 * i, pj_dw_fill(p->x_zero));
    for (; i < end; i++) {
        pj_dw_stage(to + 64 * i, pj_dw_load(a, b, c, d, 4));
        a += step, b += step, c += step, d += step;
    }
    for (; i < k->columns; i++)
        pj_dw_stage(to + 64 * i, pj_dw_fill(p->x_zero));
}

/* The same for 8 channels: the rows are copied with their border, then each column is taken together with the next. */
PJ_WORD void pj_v_depthwise_any_pairs(const struct pj_v_depthwise_any *p, const struct pj_v_depthwise_any_block *k,
                                      pj_dw_staged *to, const uint8_t *const row[4], int32_t first, int32_t end)
{
    const int32_t width = (k->columns + 1) * 8;
    int32_t r, i, j;
    memset(k->rows, p->x_zero, (size_t)width * 4);
    for (r = 0; r < 4; r++)
        for (i = first; row[r] && i < end; i++)
            for (j = 0; j < k->used; j++)
                k->rows[r * width + 8 * i + j] = row[r][(int64_t)(i - first) * p->stride_w * p->c + j];
    for (i = 0; i < k->columns; i++) {
        const uint8_t *a = k->rows + 8 * i;
        pj_dw_stage(to + 64 * i, pj_dw_load(a, a + width, a + 2 * width, a + 3 * width, 4));
    }
}

/* The taps of row oy of output. x: the block's first channel in an image. */
PJ_SHARED void pj_v_depthwise_any_stage(const struct pj_v_depthwise_any *p, const struct pj_v_depthwise_any_block *k,
                                        const uint8_t *x, int32_t oy, int32_t lanes)
{
    pj_dw_staged *to = k->staged;
    int32_t ky, f, r;
    for (ky = 0; ky < p->kh; ky += 4)
        for (f = 0; f < p->stride_w; f++, to += (int64_t)k->columns * 64) {
            const int32_t start = f - p->pad_left, reach = p->iw - start + p->stride_w - 1;
            const int32_t before = start < 0 ? (-start + p->stride_w - 1) / p->stride_w : 0;
            const int32_t within = reach > 0 ? reach / p->stride_w : 0;
            const int32_t first = before < k->columns ? before : k->columns;
            const int32_t end = within < k->columns ? within : k->columns;
            const uint8_t *row[4];
            for (r = 0; r < 4; r++) {
                const int32_t iy = oy * p->stride_h - p->pad_top + (ky + r) * p->dilation_h;
                const int32_t inside = ky + r < p->kh && iy >= 0 && iy < p->ih && first < end;
                row[r] = inside ? x + ((int64_t)iy * p->iw + start + first * p->stride_w) * p->c : 0;
            }
            if (lanes == 16)
                pj_v_depthwise_any_taps(p, k, to, row, first, end);
            else
                pj_v_depthwise_any_pairs(p, k, to, row, first, end);
        }
}

static void pj_v_depthwise_any(const struct pj_v_depthwise_any *p, const void *const *in, void *const *out,
                               void *scratch)
{
    const int32_t lanes = p->c >= 16 ? 16 : 8, tile = 64 / lanes, quads = (p->kh + 3) / 4, vectors = quads * p->kw;
    const int8_t *w = in[1];
    struct pj_v_depthwise_any_block k;
    int32_t n, oy, c;
    k.codes.zero = p->y_zero, k.codes.qmin = p->qmin, k.codes.qmax = p->qmax;
    k.columns = (p->ow + tile - 1) / tile * tile + (p->kw - 1) * p->dilation_w / p->stride_w;
    k.w = scratch, k.bias = in[2], k.multiplier = in[3], k.used = p->c < lanes ? p->c : lanes;
    k.staged = (pj_dw_staged *)scratch + (int64_t)vectors * 2 * 64;
    k.rows = (uint8_t *)(k.staged + (int64_t)quads * p->stride_w * k.columns * 64);
    if (lanes == 16)
        memset(k.rows, p->x_zero, (size_t)p->iw * (size_t)p->c);

    for (c = 0; c < p->c; c += lanes, w += (int64_t)vectors * 64, k.bias += 16, k.multiplier += 16) {
        /* the last block overlaps with the one before, rather than to end beyond the channels */
        const int32_t first = p->c - c < k.used ? p->c - k.used : c;
        pj_dw_prepare(scratch, w, vectors);
        for (n = 0; n < p->n; n++)
            for (oy = 0; oy < p->oh; oy++) {
                const uint8_t *x = (const uint8_t *)in[0] + (int64_t)n * p->ih * p->iw * p->c + first;
                uint8_t *y = (uint8_t *)out[0] + ((int64_t)n * p->oh + oy) * p->ow * p->c + first;
                pj_v_depthwise_any_stage(p, &k, x, oy, lanes);
                if (lanes == 16)
                    pj_v_depthwise_any_row(p, &k, y, 16);
                else
                    pj_v_depthwise_any_row(p, &k, y, 8);
            }
    }
}
