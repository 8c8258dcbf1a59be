/* What the fully connected layers share: how rows are staged and finished, and the walk over narrow weights. */

/* acc: [vectors][16] of one row, of which `lanes` channels exist. */
PJ_SHARED void pj_finish_row(const struct pj_codes *q, const int32_t *acc, const float *multiplier, uint8_t *y,
                             int32_t lanes, int32_t vectors)
{
    const struct pj_codes codes = *q;
    uint8_t last[16];
    int32_t v = 0, j;
    for (; PJ_LINEAR_FOURS && v + 4 <= vectors && lanes >= 64; v += 4, lanes -= 64, acc += 64, multiplier += 64, y += 64) {
        pj_f value[4];
        PJ_UNROLL
        for (j = 0; j < 4; j++)
            value[j] = pj_scale(acc + 16 * j, multiplier + 16 * j);
        pj_put_tile(y, 16, 1, 16, value, &codes, 0);
    }
    for (; lanes >= 16 && v < vectors; v++, lanes -= 16, acc += 16, multiplier += 16, y += 16)
        pj_put1(y, pj_scale(acc, multiplier), &codes);
    if (lanes > 0 && v < vectors) {
        pj_put1(last, pj_scale(acc, multiplier), &codes);
        pj_copy(y, last, lanes);
    }
}

/* How a tile walks: groups of 4 codes, bytes of weights from one such group to the next, codes and sums from row to row. */
struct pj_linear_walk {
    int32_t quads;
    int64_t step, x_row, sums_row;
};

/* `chains`: independent sums for each channel, where a tile alone is too narrow to hide the latency of a dot product. */
PJ_WORD void pj_linear_tile(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                              int32_t *sums, const int32_t rows, const int32_t vectors, const int32_t chains)
{
    pj_fc_acc acc[PJ_LINEAR_ROWS][8][4];
    int32_t left, r, v, c;
    PJ_UNROLL
    for (r = 0; r < rows; r++) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++) {
            acc[r][v][0] = pj_fc_start(bias + 16 * v);
            PJ_UNROLL
            for (c = 1; c < chains; c++)
                acc[r][v][c] = pj_fc_zero();
        }
    }
    for (left = k->quads; left >= chains; left -= chains, x += 4 * chains, w += chains * k->step) {
        PJ_UNROLL
        for (c = 0; c < chains; c++) {
            pj_fc_x four[PJ_LINEAR_ROWS];
            PJ_UNROLL
            for (r = 0; r < rows; r++)
                four[r] = pj_fc_load_x(x + r * k->x_row + 4 * c);
            PJ_UNROLL
            for (v = 0; v < vectors; v++) {
                const pj_fc_w weight = pj_fc_load_w(w + c * k->step + 64 * v);
                PJ_UNROLL
                for (r = 0; r < rows; r++)
                    acc[r][v][c] = pj_fc_dot4(acc[r][v][c], four[r], weight);
            }
        }
    }
    for (; chains > 1 && left > 0; left--, x += 4, w += k->step) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++) {
            const pj_fc_w weight = pj_fc_load_w(w + 64 * v);
            PJ_UNROLL
            for (r = 0; r < rows; r++)
                acc[r][v][0] = pj_fc_dot4(acc[r][v][0], pj_fc_load_x(x + r * k->x_row), weight);
        }
    }
    PJ_UNROLL
    for (r = 0; r < rows; r++) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++) {
            PJ_UNROLL
            for (c = 1; c < chains; c++)
                acc[r][v][0] = pj_fc_add(acc[r][v][0], acc[r][v][c]);
            pj_fc_store(sums + r * k->sums_row + 16 * v, acc[r][v][0]);
        }
    }
}

/* How many of the next blocks of 16 channels lie together in packed weights. */
PJ_INLINE int32_t pj_linear_blocks(int32_t left)
{
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Rows of k codes, filled up to `wide`. */
PJ_INLINE void pj_linear_stage(uint8_t *to, const uint8_t *x, int32_t rows, int32_t k, int32_t wide, int32_t filling)
{
    int32_t r;
    for (r = 0; r < rows; r++, to += wide, x += k) {
        memcpy(to, x, (size_t)k);
        memset(to + k, filling, (size_t)(wide - k));
    }
}

/* A layer of narrow weights. Its rows are taken one by one: such kernels are for layers that wait for their weights. */
struct pj_narrow {
    int32_t rows, k, oc, bits;
    struct pj_codes codes;
    int32_t centred; /* whether weights meet differences of codes from 128 */
    int32_t summed;  /* whether tiles need the sum of these differences */
    int32_t most;    /* blocks that a tile takes at once */
};

/* How a tile walks: groups of 4 codes, sum of the row's differences, bytes of weights from one such group to the next. */
struct pj_narrow_walk {
    int32_t quads, sum;
    int64_t step;
    const int8_t *table;
};

typedef void pj_narrow_tile(const struct pj_narrow_walk *k, const uint8_t *x, const uint8_t *w, const int32_t *bias,
                            int32_t *sums, int32_t vectors);

/* Weights: groups of 8 blocks, and of 4 at the end; in each (quads, blocks of the group, 64) weights of `bits`. */
PJ_INLINE void pj_narrow_run(const struct pj_narrow *p, const int8_t *table, pj_narrow_tile *tile,
                             const void *const *in, uint8_t *y, uint8_t *scratch)
{
    const int32_t wide = (p->k + 3) / 4 * 4, blocks = (p->oc + 63) / 64 * 4;
    int32_t space[16 * (8 + 1)], *sums = pj_aligned(space);
    struct pj_narrow_walk k;
    int32_t row, b, v, group, vectors;
    k.quads = wide / 4, k.sum = 0, k.table = table;
    for (row = 0; row < p->rows; row++, y += p->oc) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)row * p->k, *w = in[1];
        if (p->summed)
            k.sum = pj_sum_codes(x, p->k) - 128 * p->k;
        if (p->k != wide) { /* whatever the filled weights are, they meet zeros */
            pj_linear_stage(scratch, x, 1, p->k, wide, p->centred ? 128 : 0);
            x = scratch;
        }
        for (b = 0; b < blocks; b += group, w += k.quads * k.step) {
            const int32_t *bias = (const int32_t *)in[2] + 16 * (b + p->centred * blocks);
            group = blocks - b < 8 ? 4 : 8, vectors = group < p->most ? group : p->most;
            k.step = 8 * p->bits * group;
            for (v = 0; v < group; v += vectors)
                tile(&k, x, w + 8 * p->bits * v, bias + 16 * v, sums + 16 * v, vectors);
            pj_finish_row(&p->codes, sums, (const float *)in[3] + 16 * b, y + 16 * b, p->oc - 16 * b, group);
        }
    }
}
