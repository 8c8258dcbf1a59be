/* v_linear: x u8 (rows, k), w s8 (groups of blocks; in each: k / 4, blocks of the group, 16, 4), bias s32 (2, blocks, 16) and
 * multiplier f32 (blocks, 16). The zero point of x is in the bias already: for codes, then for differences of codes from 128.
 *
 * 16 output channels are a block. Groups have 8 blocks, and at the end 4, 2 and 1 as far as needed, so that the weights are
 * read in one stream by a tile that is as wide as a group. Rows are taken PJ_LINEAR_ROWS at a time, fewer one by one.
 */
struct pj_v_linear {
    int32_t rows, k, oc;
    int32_t wide; /* whether y has codes of 16 bits */
    int32_t y_zero, qmin, qmax;
};

/* A row of sums as codes of 16 bits. */
PJ_SHARED void pj_v_linear_wide(const int32_t *sums, const float *multiplier, int16_t *y, int32_t lanes)
{
    int16_t last[16];
    for (; lanes >= 16; lanes -= 16, sums += 16, multiplier += 16, y += 16)
        pj_put_wide(y, pj_scale(sums, multiplier));
    if (lanes > 0) {
        pj_put_wide(last, pj_scale(sums, multiplier));
        memcpy(y, last, sizeof *y * (size_t)lanes);
    }
}

#define PJ_LINEAR_TILE(R, V, C)                                                                                       \
    PJ_SHARED void pj_v_linear_##R##x##V(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w,        \
                                         const int32_t *bias, int32_t *sums)                                         \
    {                                                                                                                \
        pj_linear_tile(k, x, w, bias, sums, R, V, C);                                                                \
    }
/* A library may say which groups of blocks it has, for one row and for several: bit N for groups of N. Each is cut into tiles
 * of its size, or of the widest that there is, and tiles that none takes are left out. */
#ifndef PJ_LINEAR_GROUPS_1
#define PJ_LINEAR_GROUPS_1 (-1)
#define PJ_LINEAR_GROUPS (-1)
#endif
#define PJ_LINEAR_TAKES(groups, most, V) (((uint32_t)(groups) >> (V)) & ((V) == (most) ? UINT32_MAX : 1))
#define PJ_LINEAR_CASE(R, V, C)                                                                                       \
    case 16 * R + V:                                                                                                 \
        if (R == 1 ? PJ_LINEAR_TAKES(PJ_LINEAR_GROUPS_1, PJ_LINEAR_VECTORS_1, V)                                     \
                   : PJ_LINEAR_TAKES(PJ_LINEAR_GROUPS, PJ_LINEAR_VECTORS, V))                                        \
            pj_v_linear_##R##x##V(k, x, w, bias, sums);                                                              \
        break;
PJ_LINEAR_TILES(PJ_LINEAR_TILE)

/* All sums of `rows` rows and one group of blocks. */
static void pj_v_linear_group(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                              int32_t *sums, int32_t rows, int32_t group)
{
    const int32_t most = rows == 1 ? PJ_LINEAR_VECTORS_1 : PJ_LINEAR_VECTORS, vectors = group < most ? group : most;
    int32_t v;
    for (v = 0; v < group; v += vectors, w += 64 * vectors, bias += 16 * vectors, sums += 16 * vectors)
        switch (16 * rows + vectors) {
            PJ_LINEAR_TILES(PJ_LINEAR_CASE)
        }
}

static void pj_v_linear_part(const struct pj_v_linear *p, const void *const *in, void *const *out, void *scratch,
                             struct pj_part part)
{
    const int32_t wide = (p->k + 3) / 4 * 4, blocks = (p->oc + 15) / 16;
    const int32_t in_place = p->k == wide;
    const int8_t *w = in[1];
    struct pj_linear_walk k;
    struct pj_codes codes;
    int32_t space[16 * (8 * PJ_LINEAR_ROWS + 1)], *sums = pj_aligned(space);
    int32_t b, row, rows, group, r, turn = 0, fresh = 1;
    k.quads = wide / 4, k.x_row = wide;
    codes.zero = p->y_zero, codes.qmin = p->qmin, codes.qmax = p->qmax;
    for (b = 0; b < blocks; b += group, w += k.quads * k.step) {
        const int32_t *bias = (const int32_t *)in[2] + 16 * (b + PJ_LINEAR_CENTRED * blocks);
        const float *multiplier = (const float *)in[3] + 16 * b;
        group = pj_linear_blocks(blocks - b);
        k.step = 64 * group, k.sums_row = 16 * group;
        if (turn++ % part.count != part.index)
            continue;
        for (row = 0; row < p->rows; row += rows) {
            const uint8_t *x;
            rows = p->rows < PJ_LINEAR_ROWS ? 1 : PJ_LINEAR_ROWS;
            row = row < p->rows - rows ? row : p->rows - rows; /* the last tile may do some rows again */
            x = (const uint8_t *)in[0] + (int64_t)row * p->k;
            if (in_place)
                pj_v_linear_group(&k, x, w, bias, sums, rows, group);
            else {
                if (fresh || p->rows != rows)
                    pj_linear_stage(scratch, x, rows, p->k, wide, 0);
                fresh = 0;
                pj_v_linear_group(&k, scratch, w, bias, sums, rows, group);
            }
            for (r = 0; r < rows; r++) {
                const int64_t at = (int64_t)(row + r) * p->oc + 16 * b;
                const int32_t lanes = p->oc - 16 * b;
                if (p->wide)
                    pj_v_linear_wide(sums + r * k.sums_row, multiplier, (int16_t *)out[0] + at,
                                     lanes < 16 * group ? lanes : 16 * group);
                else
                    pj_finish_row(&codes, sums + r * k.sums_row, multiplier, (uint8_t *)out[0] + at, lanes, group);
            }
        }
    }
}

PJ_WHOLE(v_linear)
