/* What the sparse convolutions share: how input is staged, and how tiles walk over it.
 *
 * An output pixel finds its input at fixed distances from its first code, `pitch` codes from row to row: the lists that
 * kernels follow hold such distances, so neither rows nor taps are seen here. A band of output takes its input from
 * scratch, where rows have their border, or, where there is no border, from x itself.
 */
struct pj_sparse {
    int32_t n, ih, iw, ic, oh, ow, oc;
    int32_t reach_h, reach_w; /* rows and columns that a window covers */
    int32_t stride_h, stride_w, pad_top, pad_left;
    int32_t band_h, band_w;   /* output rows and columns in a band */
    int32_t pitch, fill;      /* codes from row to row; whether a border has to be filled */
    int32_t x_zero, y_zero, qmin, qmax;
    int32_t rectified; /* as in struct pj_finish */
    int32_t has_residual, residual_zero;
    float residual_scale;
};

/* The shape in the parameters of an operator, which have these fields by the same names. */
#define PJ_SPARSE_SHAPE(p)                                                                                           \
    {                                                                                                                \
        (p)->n, (p)->ih, (p)->iw, (p)->ic, (p)->oh, (p)->ow, (p)->oc, (p)->reach_h, (p)->reach_w, (p)->stride_h,     \
            (p)->stride_w, (p)->pad_top, (p)->pad_left, (p)->band_h, (p)->band_w, (p)->pitch, (p)->fill,             \
            (p)->x_zero, (p)->y_zero, (p)->qmin, (p)->qmax, (p)->rectified, (p)->has_residual, (p)->residual_zero,   \
            (p)->residual_scale                                                                                      \
    }

/* One block of 16 channels over one band. A tile is two groups of neighbouring pixels, or one. */
struct pj_sparse_walk {
    const void *x;              /* codes, as pj_staged or as bytes */
    const int32_t *entry, *end; /* the block's part of the lists, and what belongs to it */
    const uint8_t *data;
    const int32_t *bias;
    int64_t pixel, row; /* codes from pixel to pixel, and from output row to output row */
};

/* Finds a block's part of the lists. */
typedef void pj_sparse_open(struct pj_sparse_walk *k, const int32_t *lists, int32_t block, int32_t blocks);
typedef void pj_sparse_tile(const struct pj_sparse_walk *k, int64_t x0, int64_t x1, int32_t half, int32_t groups,
                            int32_t *sums);

PJ_INLINE void pj_sparse_copy(void *to, int64_t at, const uint8_t *x, int64_t n, const int32_t bytes)
{
    if (bytes && !PJ_STAGES_CODES)
        memcpy((uint8_t *)to + at, x, (size_t)n);
    else
        pj_stage((pj_staged *)to + at, x, (int32_t)n);
}

PJ_INLINE void pj_sparse_border(void *to, int64_t at, int32_t zero, int64_t n, const int32_t bytes)
{
    if (bytes && !PJ_STAGES_CODES)
        memset((uint8_t *)to + at, zero, (size_t)n);
    else
        pj_stage_zero((pj_staged *)to + at, zero, (int32_t)n);
}

/* Rows of codes from (y0, x0), with their border. */
PJ_SHARED void pj_sparse_stage(const struct pj_sparse *p, void *to, const uint8_t *x, int32_t y0, int32_t x0, int32_t rows,
                             int32_t columns, const int32_t bytes)
{
    const int64_t ic = p->ic;
    int64_t at = 0;
    int32_t left, inside, r;
    pj_clip(x0, columns, p->iw, &left, &inside);
    for (r = y0; r < y0 + rows; r++, at += p->pitch) {
        if (r < 0 || r >= p->ih) {
            pj_sparse_border(to, at, p->x_zero, columns * ic, bytes);
            continue;
        }
        pj_sparse_border(to, at, p->x_zero, left * ic, bytes);
        if (inside > 0)
            pj_sparse_copy(to, at + left * ic, x + ((int64_t)r * p->iw + x0 + left) * ic, inside * ic, bytes);
        pj_sparse_border(to, at + (left + inside) * ic, p->x_zero, (columns - left - inside) * ic, bytes);
    }
}

/* `width` output pixels of one row, or of each of two rows side by side, in tiles of sizes as equal as can be: multiples
 * of 4, but for the last. */
PJ_WORD void pj_sparse_row(const struct pj_sparse_walk *k, struct pj_finish f, int64_t x, int64_t line, int32_t width,
                           const int32_t half, const int32_t groups, const int32_t pair, pj_sparse_tile *tile)
{
    int32_t space[16 * 16 + 15], *sums = pj_aligned(space);
    const int32_t unit = groups == 1 ? 1 : pair ? 2 : 4, most = pair ? half : half * groups;
    const int32_t units = (width + unit - 1) / unit, tiles = (width + most - 1) / most, least = units / tiles;
    int32_t more = units - least * tiles, pixels;
    for (; width > 0; width -= pixels, more--) {
        const int32_t full = unit * (least + (more > 0));
        int32_t h, second;
        pixels = width < full ? width : full;
        h = groups == 2 && !pair ? (pixels + 1) / 2 : pixels;
        second = pair ? h : pixels - h; /* of two groups in one row, both compute the pixel in the middle if need be */
        tile(k, x, pair ? x + k->row : x + second * k->pixel, h, second > 0 ? 2 : 1, sums);
        if (!pair && h == second)
            pj_finish(&f, sums, pixels, 1);
        else {
            struct pj_finish g = f;
            const int64_t next = pair ? line : (int64_t)second * f.step;
            pj_finish(&g, sums, h, 1);
            if (second > 0) {
                g.y += next;
                g.residual = f.residual ? f.residual + next : 0;
                pj_finish(&g, sums + 16 * h, h, 1);
            }
        }
        x += pixels * k->pixel;
        f.y += (int64_t)pixels * f.step;
        f.residual = f.residual ? f.residual + (int64_t)pixels * f.step : 0;
    }
}

/* The output of one block in one band. Two rows go together where that takes fewer tiles. */
PJ_WORD void pj_sparse_rows(const struct pj_sparse_walk *k, struct pj_finish f, int64_t line, int32_t rows, int32_t width,
                            const int32_t half, const int32_t groups, pj_sparse_tile *tile)
{
    int64_t x = 0;
    int32_t pairs, r, step;
    if (rows == 1 && width == 1) { /* all that a linear layer may have: time for no division */
        int32_t space[16 + 15], *sums = pj_aligned(space);
        tile(k, 0, 0, 1, 1, sums);
        pj_finish(&f, sums, 1, 1);
        return;
    }
    pairs = groups == 2 && (width + half - 1) / half < (width + 2 * half - 1) / (2 * half) * 2;
    for (r = 0; r < rows; r += step) {
        step = pairs && r + 1 < rows ? 2 : 1;
        pj_sparse_row(k, f, x, line, width, half, groups, step == 2, tile);
        x += step * k->row;
        f.y += step * line;
        f.residual = f.residual ? f.residual + step * line : 0;
    }
}

/* All bands and blocks. in: x, lists, bias, multiplier, [residual]. `bytes`: kernels read codes as they are, else as
 * pj_staged. */
PJ_SHARED void pj_sparse_bands(const struct pj_sparse *p, const void *const *in, const int32_t *lists, void *const *out,
                             void *scratch, const int32_t bytes, const int32_t half, const int32_t groups,
                             pj_sparse_open *open, pj_sparse_tile *tile, struct pj_part part)
{
    const int32_t blocks = (p->oc + 15) / 16;
    const uint8_t *residual = p->has_residual ? in[4] : 0;
    const int64_t ic = p->ic, line = (int64_t)p->ow * p->oc;
    struct pj_sparse_walk k;
    struct pj_finish f;
    int32_t n, by, bx, block, down[2], across[2];
    pj_share_image(part, p->oh, p->ow, down, across);
    k.pixel = p->stride_w * ic, k.row = (int64_t)p->stride_h * p->pitch;
    f.codes.zero = p->y_zero, f.codes.qmin = p->qmin, f.codes.qmax = p->qmax;
    f.rectified = p->rectified, f.residual_zero = p->residual_zero, f.residual_scale = p->residual_scale, f.step = p->oc;

    for (n = 0; n < p->n; n++)
        for (by = down[0]; by < down[1]; by += p->band_h)
            for (bx = across[0]; bx < across[1]; bx += p->band_w) {
                const int32_t rows = down[1] - by < p->band_h ? down[1] - by : p->band_h;
                const int32_t width = across[1] - bx < p->band_w ? across[1] - bx : p->band_w;
                const int32_t y0 = by * p->stride_h - p->pad_top, x0 = bx * p->stride_w - p->pad_left;
                const uint8_t *image = (const uint8_t *)in[0] + (int64_t)n * p->ih * p->iw * ic;
                const int64_t y = ((int64_t)n * p->oh + by) * line + (int64_t)bx * p->oc;
                k.x = scratch;
                if (bytes && !p->fill)
                    k.x = image + ((int64_t)y0 * p->iw + x0) * ic;
                else
                    pj_sparse_stage(p, scratch, image, y0, x0, (rows - 1) * p->stride_h + p->reach_h,
                                    (width - 1) * p->stride_w + p->reach_w, bytes);
                for (block = 0; block < blocks; block++) {
                    const int32_t at = 16 * block;
                    open(&k, lists, block, blocks);
                    k.bias = (const int32_t *)in[2] + at;
                    f.multiplier = (const float *)in[3] + at;
                    f.lanes = p->oc - at < 16 ? p->oc - at : 16;
                    f.y = (uint8_t *)out[0] + y + at;
                    f.residual = residual ? residual + y + at : 0;
                    pj_sparse_rows(&k, f, line, rows, width, half, groups, tile);
                }
            }
}

/* Tiles that follow lists of blocks: 16 output channels and 4 codes that lie side by side make an entry.
 *
 *   lists    first[blocks + 1]    the blocks' first entries
 *            distance[entries]    codes from a pixel's first code to the 4 codes of an entry
 *            weights[entries]     s8 (16, 4), from the next multiple of 64 bytes on
 */
PJ_INLINE void pj_sparse_blocks_open(struct pj_sparse_walk *k, const int32_t *lists, int32_t block, int32_t blocks)
{
    const int32_t *distance = lists + blocks + 1;
    const int32_t head = (blocks + 1 + lists[blocks] + 15) / 16 * 16;
    k->entry = distance + lists[block];
    k->end = distance + lists[block + 1];
    k->data = (const uint8_t *)(lists + head) + 64 * (int64_t)lists[block];
}

PJ_WORD void pj_sparse_blocks_sums(const struct pj_sparse_walk *k, const pj_staged *x0, const pj_staged *x1,
                                   int32_t *sums, const int32_t half, const int32_t groups)
{
    const int64_t pixel = k->pixel;
    const int32_t *entry = k->entry;
    const int8_t *w = (const int8_t *)k->data;
    int32_t i;
    pj_acc acc[16];
    PJ_UNROLL
    for (i = 0; i < half * groups; i++)
        acc[i] = pj_acc_start(k->bias);
    for (; entry < k->end; entry++, w += 64) {
        const pj_staged *at0 = x0 + *entry, *at1 = x1 + *entry;
        const pj_w weight = pj_load_w(w);
        PJ_UNROLL
        for (i = 0; i < half * groups; i++)
            acc[i] = pj_dot4(acc[i], pj_load_x(i < half ? at0 + i * pixel : at1 + (i - half) * pixel), weight);
    }
    PJ_UNROLL
    for (i = 0; i < half * groups; i++)
        pj_acc_store(sums + 16 * i, acc[i], k->bias);
}

/* A single pixel: four sums side by side, so that no product waits for the one before. */
PJ_SHARED void pj_sparse_blocks_1(const struct pj_sparse_walk *k, const pj_staged *x, int32_t *sums)
{
    const int32_t *entry = k->entry;
    const int8_t *w = (const int8_t *)k->data;
    int32_t i;
    pj_acc acc[4];
    acc[0] = pj_acc_start(k->bias);
    for (i = 1; i < 4; i++)
        acc[i] = pj_acc_zero();
    for (; k->end - entry >= 4; entry += 4, w += 256) {
        PJ_UNROLL
        for (i = 0; i < 4; i++)
            acc[i] = pj_dot4(acc[i], pj_load_x(x + entry[i]), pj_load_w(w + 64 * i));
    }
    for (; entry < k->end; entry++, w += 64)
        acc[0] = pj_dot4(acc[0], pj_load_x(x + *entry), pj_load_w(w));
    pj_acc_store(sums, pj_acc_add(pj_acc_add(acc[0], acc[1]), pj_acc_add(acc[2], acc[3])), k->bias);
}

#define PJ_SPARSE_BLOCKS(H, G)                                                                                       \
    PJ_SHARED void pj_sparse_blocks_##H##x##G(const struct pj_sparse_walk *k, const pj_staged *x0,                   \
                                              const pj_staged *x1, int32_t *sums)                                    \
    {                                                                                                                \
        pj_sparse_blocks_sums(k, x0, x1, sums, H, G);                                                                \
    }
#define PJ_SPARSE_BLOCKS_CASE(H, G) \
    case 2 * H + G - 1: pj_sparse_blocks_##H##x##G(k, at0, at1, sums); break;
PJ_HALVES(PJ_SPARSE_BLOCKS)

PJ_INLINE void pj_sparse_blocks_tile(const struct pj_sparse_walk *k, int64_t x0, int64_t x1, int32_t half, int32_t groups,
                                  int32_t *sums)
{
    const pj_staged *at0 = (const pj_staged *)k->x + x0, *at1 = (const pj_staged *)k->x + x1;
    if (half * groups == 1)
        pj_sparse_blocks_1(k, at0, sums);
    else
        switch (2 * half + groups - 1) {
            PJ_HALVES(PJ_SPARSE_BLOCKS_CASE)
        }
}
