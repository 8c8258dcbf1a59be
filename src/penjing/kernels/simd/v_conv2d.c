/* v_conv2d: x u8 (n, ih, iw, ic), w s8 (groups, blocks, runs, quads, 16, 4), bias s32 and multiplier f32
 * (groups, blocks, 16), [residual u8 like y]. The zero point of x is in the bias already.
 *
 * An output pixel needs a few stretches of codes that lie side by side: one for each row of the window, or one for each
 * tap of a dilated window. A stretch is read in quads of 4 codes; what the last quad reads beyond it meets weights of 0.
 * A band of output pixels takes its input from scratch, where rows have their border, or, where there is no border and
 * nothing lies beyond a stretch, from x itself.
 *
 * With a pool, a pixel of y is the largest of pool_h x pool_w pixels of the convolution that lie side by side. Multipliers
 * are then positive, so that the largest sum has the largest code: it is found first, and finished alone.
 */
struct pj_v_conv2d {
    int32_t n, ih, iw, ic, oh, ow, oc, kh, kw; /* oh, ow: of y */
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    int32_t pool_h, pool_w; /* 1 x 1 where nothing is pooled */
    int32_t band_h, band_w; /* output rows and columns in a band */
    int32_t pixels[2];      /* most pixels in a tile of one vector, and of two; fewer where registers are few, 0: no such tile */
    int32_t stage;          /* whether x has to be copied: for its border, or for what quads read beyond it */
    int32_t x_zero, y_zero, qmin, qmax;
    int32_t rectified; /* as in struct pj_finish */
    int32_t has_residual, residual_zero;
    float residual_scale;
    int32_t step; /* bytes from pixel to pixel of y; with a residual, oc */
};

/* How tiles walk over staged codes and weights. */
struct pj_v_conv2d_walk {
    const int32_t *starts; /* of the stretches, from the pixel's first code on */
    int32_t runs, quads;   /* stretches per pixel, and groups of 4 codes in each */
    int64_t pixel, row;    /* codes from pixel to pixel, and from row to row, of the convolution */
    int64_t block;         /* bytes of weights for 16 channels */
    int32_t pool_h, pool_w;
    int32_t most;                 /* pixels in a tile */
    int32_t larger, large, small; /* a row of y is cut into that many stretches of `large` pixels, then small ones */
};

PJ_WORD void pj_v_conv2d_tile(const struct pj_v_conv2d_walk *k, const pj_staged *x, const int8_t *w,
                              const int32_t *bias, int32_t *sums, const int32_t pixels, const int32_t vectors)
{
    pj_acc acc[16][PJ_VECTORS];
    pj_w weight[PJ_VECTORS];
    const int64_t pixel = k->pixel;
    int32_t i, v, run, left;
    PJ_UNROLL
    for (i = 0; i < pixels; i++) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++)
            acc[i][v] = pj_acc_start(bias + 16 * v);
    }
    for (run = 0; run < k->runs; run++) {
        const pj_staged *x0 = x + k->starts[run], *x8 = x0 + 8 * pixel;
        for (left = k->quads; left > 0; left--, x0 += 4, x8 += 4, w += 64) {
            PJ_UNROLL
            for (v = 0; v < vectors; v++) {
                weight[v] = pj_load_w(w + v * k->block);
                pj_prefetch(w + (vectors + v) * k->block);
            }
            PJ_UNROLL
            for (i = 0; i < pixels; i++) {
                const pj_x four = pj_load_x(i < 8 ? x0 + i * pixel : x8 + (i - 8) * pixel);
                PJ_UNROLL
                for (v = 0; v < vectors; v++)
                    acc[i][v] = pj_dot4(acc[i][v], four, weight[v]);
            }
        }
    }
    PJ_UNROLL
    for (i = 0; i < pixels; i++) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++)
            pj_acc_store(sums + 16 * (i * vectors + v), acc[i][v], bias + 16 * v);
    }
}

/* A library may say which sizes its network takes, of one vector and of two: bit N for N pixels. Others are left out. */
#if !defined(PJ_CONV2D_SIZES_1) || PJ_VECTORS == 1
#undef PJ_CONV2D_SIZES_1
#undef PJ_CONV2D_SIZES_2
#define PJ_CONV2D_SIZES_1 (-1)
#define PJ_CONV2D_SIZES_2 (-1)
#endif

#define PJ_CONV2D_TILE(P, V)                                                                                          \
    PJ_SHARED void pj_v_conv2d_##P##x##V(const struct pj_v_conv2d_walk *k, const pj_staged *x, const int8_t *w,      \
                                         const int32_t *bias, int32_t *sums)                                         \
    {                                                                                                                \
        pj_v_conv2d_tile(k, x, w, bias, sums, P, V);                                                                 \
    }
#define PJ_CONV2D_TILE_1(P) PJ_CONV2D_TILE(P, 1)
#define PJ_CONV2D_CASE_1(P)                                                                                           \
    case P:                                                                                                          \
        if (PJ_CONV2D_SIZES_1 >> P & 1)                                                                              \
            pj_v_conv2d_##P##x1(k, x, w, bias, sums);                                                                \
        break;
PJ_TILES_1(PJ_CONV2D_TILE_1)
#if PJ_VECTORS == 2
#define PJ_CONV2D_TILE_2(P) PJ_CONV2D_TILE(P, 2)
#define PJ_CONV2D_CASE_2(P)                                                                                           \
    case P:                                                                                                          \
        if (PJ_CONV2D_SIZES_2 >> P & 1)                                                                              \
            pj_v_conv2d_##P##x2(k, x, w, bias, sums);                                                                \
        break;
PJ_TILES_2(PJ_CONV2D_TILE_2)
#endif

/* Sums of `width` pixels of the convolution that lie side by side, in tiles of sizes as equal as can be. */
static void pj_v_conv2d_sums(const struct pj_v_conv2d_walk *k, const pj_staged *x, const int8_t *w, const int32_t *bias,
                             int32_t *sums, int32_t width, int32_t vectors)
{
    const int32_t tiles = PJ_STRETCH == 1 ? 1 : (width + k->most - 1) / k->most, small = width / tiles;
    int32_t larger = width % tiles, pixels;
    for (; width > 0; width -= pixels, larger--, x += pixels * k->pixel, sums += 16 * vectors * pixels) {
        pixels = small + (larger > 0);
        if (vectors == 1)
            switch (pixels) {
                PJ_TILES_1(PJ_CONV2D_CASE_1)
            default: break;
            }
#if PJ_VECTORS == 2
        else
            switch (pixels) {
                PJ_TILES_2(PJ_CONV2D_CASE_2)
            default: break;
            }
#endif
    }
}

PJ_WORD void pj_v_conv2d_largest_of(int32_t *sums, const int32_t *more, int32_t pixels, int32_t vectors,
                                    const int32_t columns)
{
    const int32_t step = 16 * vectors;
    int32_t i, v;
    for (i = 0; i < pixels; i++)
        for (v = 0; v < step; v += 16)
            pj_largest(sums + i * step + v, sums + i * columns * step + v, more + i * columns * step + v, step, columns);
}

/* In place of `sums`, the largest of every `columns` neighbours in it and in `more`. */
PJ_SHARED void pj_v_conv2d_largest(int32_t *sums, const int32_t *more, int32_t pixels, int32_t vectors, int32_t columns)
{
    if (columns == 2)
        pj_v_conv2d_largest_of(sums, more, pixels, vectors, 2);
    else
        pj_v_conv2d_largest_of(sums, more, pixels, vectors, columns);
}

/* The largest sums of `pixels` pools that lie side by side. Behind `sums` there is room for as many more. */
PJ_SHARED void pj_v_conv2d_pooled(const struct pj_v_conv2d_walk *k, const pj_staged *x, const int8_t *w,
                                  const int32_t *bias, int32_t *sums, int32_t pixels, int32_t vectors)
{
    const int32_t width = pixels * k->pool_w;
    int32_t *more = sums + 16 * PJ_SUMS, r;
    pj_v_conv2d_sums(k, x, w, bias, sums, width, vectors);
    for (r = 1; r < k->pool_h; r++) {
        pj_v_conv2d_sums(k, x + r * k->row, w, bias, more, width, vectors);
        if (r + 1 < k->pool_h) /* the last row goes with the columns */
            pj_v_conv2d_largest(sums, more, width, vectors, 1);
    }
    pj_v_conv2d_largest(sums, k->pool_h == 1 ? sums : more, pixels, vectors, k->pool_w);
}

/* Cuts rows of `width` pixels into stretches of sizes as equal as can be. */
static void pj_v_conv2d_cut(struct pj_v_conv2d_walk *k, int32_t width, int32_t most)
{
    const int32_t stretches = (width + most - 1) / most;
    k->small = width / stretches, k->large = k->small + 1, k->larger = width % stretches;
}

/* One row of output pixels in a band; f moves along. */
static void pj_v_conv2d_row(const struct pj_v_conv2d_walk *k, struct pj_finish *f, const pj_staged *x, const int8_t *w,
                            const int32_t *bias, int32_t width, int32_t vectors)
{
    int32_t space[2 * 16 * PJ_SUMS + 15], *sums = pj_aligned(space), larger = k->larger, pixels;
    for (; width > 0; width -= pixels, larger--, x += pixels * k->pool_w * k->pixel) {
        pixels = larger > 0 ? k->large : k->small;
        if (k->pool_h * k->pool_w == 1)
            pj_v_conv2d_sums(k, x, w, bias, sums, pixels, vectors);
        else
            pj_v_conv2d_pooled(k, x, w, bias, sums, pixels, vectors);
        pj_finish(f, sums, pixels, vectors);
        f->y += (int64_t)pixels * f->step;
        if (f->residual)
            f->residual += (int64_t)pixels * f->step;
    }
}

/* Rows of codes from (y0, x0) of one group with their border, and 3 codes that the last quads may read. */
PJ_SHARED void pj_v_conv2d_stage(const struct pj_v_conv2d *p, pj_staged *to, const uint8_t *x, int32_t y0, int32_t x0,
                                 int32_t rows, int32_t columns)
{
    const int32_t ic = p->ic / p->groups;
    int32_t left, inside, r, i;
    pj_clip(x0, columns, p->iw, &left, &inside);
    for (r = y0; r < y0 + rows; r++) {
        const int32_t pixels = r >= 0 && r < p->ih ? inside : 0;
        const int32_t pieces = p->groups == 1 ? 1 : pixels, codes = p->groups == 1 ? pixels * ic : ic;
        const uint8_t *from = x + ((int64_t)r * p->iw + x0 + left) * p->ic;
        pj_stage_zero(to, p->x_zero, left * ic);
        to += (int64_t)left * ic;
        for (i = 0; i < pieces; i++, to += codes, from += p->ic)
            pj_stage(to, from, codes);
        pj_stage_zero(to, p->x_zero, (columns - left - pixels) * ic);
        to += (int64_t)(columns - left - pixels) * ic;
    }
    memset(to, 0, 3 * sizeof *to);
}

/* One band of one group: `rows` x `width` output pixels from (by, bx) on. */
PJ_SHARED void pj_v_conv2d_band(const struct pj_v_conv2d *p, struct pj_v_conv2d_walk *k, const void *const *in,
                                struct pj_finish *f, const pj_staged *x, int32_t g, int32_t rows, int32_t width)
{
    const int32_t oc = p->oc / p->groups, blocks = (oc + 15) / 16;
    uint8_t *y = f->y;
    const uint8_t *residual = f->residual;
    int32_t b, r, vectors;
    for (b = 0; b < blocks; b += vectors) {
        const int32_t at = (g * blocks + b) * 16;
        const int8_t *w = (const int8_t *)in[1] + (g * blocks + b) * k->block;
        vectors = blocks - b < PJ_VECTORS || p->pixels[1] == 0 ? 1 : PJ_VECTORS;
        k->most = vectors == 1 ? PJ_PIXELS_1 : PJ_PIXELS;
        k->most = p->pixels[vectors - 1] < k->most ? p->pixels[vectors - 1] : k->most;
        pj_v_conv2d_cut(k, width, PJ_STRETCH * k->most / k->pool_w);
        f->lanes = oc - 16 * b < 16 * vectors ? oc - 16 * b : 16 * vectors;
        f->multiplier = (const float *)in[3] + at;
        for (r = 0; r < rows; r++) {
            const int64_t there = (int64_t)r * p->ow * p->step + 16 * b;
            f->y = y + there;
            f->residual = residual ? residual + there : 0;
            pj_v_conv2d_row(k, f, x + r * k->pool_h * k->row, w, (const int32_t *)in[2] + at, width, vectors);
        }
    }
}

static void pj_v_conv2d_part(const struct pj_v_conv2d *p, const void *const *in, void *const *out, void *scratch,
                             struct pj_part part)
{
    const int32_t ic = p->ic / p->groups, oc = p->oc / p->groups, along = p->dilation_w == 1 ? 1 : p->kw;
    const int32_t in_place = PJ_STAGES_CODES && !p->stage;
    int32_t *starts = scratch;
    pj_staged *staged = (pj_staged *)(starts + (p->kh * along + 15) / 16 * 16);
    struct pj_v_conv2d_walk k;
    struct pj_finish f;
    int32_t n, g, by, bx, i, down[2], across[2];
    pj_share_image(part, p->oh, p->ow, down, across);
    k.starts = starts, k.runs = p->kh * along, k.quads = (p->kw / along * ic + 3) / 4;
    k.pool_h = p->pool_h, k.pool_w = p->pool_w;
    k.pixel = (int64_t)p->stride_w * ic, k.block = (int64_t)k.runs * k.quads * 64;
    f.codes.zero = p->y_zero, f.codes.qmin = p->qmin, f.codes.qmax = p->qmax;
    f.rectified = p->rectified, f.residual_zero = p->residual_zero, f.residual_scale = p->residual_scale;
    f.step = p->step;

    for (n = 0; n < p->n; n++)
        for (g = 0; g < p->groups; g++)
            for (by = down[0]; by < down[1]; by += p->band_h)
                for (bx = across[0]; bx < across[1]; bx += p->band_w) {
                    const int32_t rows = down[1] - by < p->band_h ? down[1] - by : p->band_h;
                    const int32_t width = across[1] - bx < p->band_w ? across[1] - bx : p->band_w;
                    const int32_t columns = (width * p->pool_w - 1) * p->stride_w + (p->kw - 1) * p->dilation_w + 1;
                    const int32_t y0 = by * p->pool_h * p->stride_h - p->pad_top;
                    const int32_t x0 = bx * p->pool_w * p->stride_w - p->pad_left;
                    const int64_t y = (((int64_t)n * p->oh + by) * p->ow + bx) * p->step + g * oc;
                    const uint8_t *image = (const uint8_t *)in[0] + (int64_t)n * p->ih * p->iw * p->ic + g * ic;
                    const pj_staged *x = staged;
                    int64_t row = (int64_t)columns * ic;
                    if (in_place) {
                        x = (const pj_staged *)(image + ((int64_t)y0 * p->iw + x0) * p->ic);
                        row = (int64_t)p->iw * p->ic;
                    } else
                        pj_v_conv2d_stage(p, staged, image, y0, x0,
                                          (rows * p->pool_h - 1) * p->stride_h + (p->kh - 1) * p->dilation_h + 1,
                                          columns);
                    k.row = p->stride_h * row;
                    for (i = 0; i < k.runs; i++)
                        starts[i] = (int32_t)(i / along * p->dilation_h * row + i % along * p->dilation_w * ic);
                    f.y = (uint8_t *)out[0] + y;
                    f.residual = p->has_residual ? (const uint8_t *)in[4] + y : 0;
                    pj_v_conv2d_band(p, &k, in, &f, x, g, rows, width);
                }
}

PJ_WHOLE(v_conv2d)
