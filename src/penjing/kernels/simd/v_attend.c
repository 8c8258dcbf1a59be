/* v_attend: q_attend, for which the values of up to PJ_BYTES features lie in scratch as packed weights, and behind them the
 * weights of the rows of a tile. */
struct pj_v_attend {
    int32_t extent[4], stride_v[4];
    int32_t rows, length, features, causal;
    int32_t mask_rows;
    int32_t v_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

/* Weights of a row lie 4 * `all` apart, of which `quads` groups are not all 0. */
PJ_WORD void pj_v_attend_tile(const int16_t *weights, const uint8_t *v, int32_t *sums, int32_t all, int32_t quads,
                              const int32_t rows, const int32_t vectors)
{
    pj_fc_acc acc[PJ_ATTEND_ROWS][PJ_ATTEND_VECTORS];
    const int64_t block = 64 * (int64_t)all, row = 4 * (int64_t)quads, odd = 2 * (int64_t)quads;
    int32_t r, c;
    PJ_UNROLL
    for (r = 0; r < rows; r++) {
        PJ_UNROLL
        for (c = 0; c < vectors; c++)
            acc[r][c] = pj_fc_zero();
    }
    for (; quads > 0; quads--, weights += 2, v += 64) {
        PJ_UNROLL
        for (c = 0; c < vectors; c++) {
            const pj_pairs codes = pj_pairs_load(v + c * block);
            PJ_UNROLL
            for (r = 0; r < rows; r++)
                acc[r][c] = pj_pairs_dot(acc[r][c], weights + r * row, odd, codes);
        }
    }
    PJ_UNROLL
    for (r = 0; r < rows; r++) {
        PJ_UNROLL
        for (c = 0; c < vectors; c++)
            pj_fc_store(sums + r * PJ_BYTES + 16 * c, acc[r][c]);
    }
}

#define PJ_ATTEND_TILE(R, V)                                                                                          \
    PJ_SHARED void pj_v_attend_##R##x##V(const int16_t *weights, const uint8_t *v, int32_t *sums, int32_t all,       \
                                         int32_t quads)                                                              \
    {                                                                                                                \
        pj_v_attend_tile(weights, v, sums, all, quads, R, V);                                                        \
    }
#define PJ_ATTEND_CASE(R, V)                                                                                          \
    case 16 * R + V:                                                                                                 \
        pj_v_attend_##R##x##V(weights, v + 64 * c * (int64_t)all, sums + 16 * c, all, quads);                        \
        break;
PJ_ATTEND_TILES(PJ_ATTEND_TILE)

/* All sums of `rows` rows, PJ_ATTEND_ROWS or one, with `blocks` blocks. */
static void pj_v_attend_rows(const int16_t *weights, const uint8_t *v, int32_t *sums, int32_t all, int32_t quads,
                             int32_t rows, int32_t blocks)
{
    int32_t c, some;
    for (c = 0; c < blocks; c += some) {
        some = pj_blocks_of(blocks - c, PJ_ATTEND_VECTORS);
        switch (16 * rows + some) {
            PJ_ATTEND_TILES(PJ_ATTEND_CASE)
        }
    }
}

PJ_WORD void pj_v_attend_finish(const struct pj_v_attend *p, uint8_t *y, const int32_t *sums, int32_t weight, int32_t lanes)
{
    const pj_f total = pj_set_f(weight ? (float)weight : 1.0f);
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        v[j] = pj_mul_f(pj_from_sums(sums + 16 * j, p->v_zero * weight), pj_set_f(p->ratio));
        v[j] = pj_clamp_f(pj_div_f(v[j], total), p->low, p->high);
    }
    pj_store_first(y, pj_round_b(v, p->y_zero), lanes);
}

/* Elements that the row `row` may see. */
PJ_INLINE int32_t pj_v_attend_seen(const struct pj_v_attend *p, int32_t row)
{
    return p->causal && row < p->length ? row + 1 : p->length;
}

/* `lanes` features of all rows; rows of the mask are counted from `masked` on. */
static void pj_v_attend_lanes(const struct pj_v_attend *p, const pj_exp *table, const uint8_t *x, const uint8_t *v,
                              const uint8_t *mask, int32_t masked, uint8_t *y, int32_t lanes, uint8_t *scratch)
{
    const int32_t all = (p->length + 3) / 4, blocks = (lanes + 15) / 16;
    int32_t space[PJ_BYTES * PJ_ATTEND_ROWS + 16] = {0}, *sums = pj_aligned(space), weight[PJ_ATTEND_ROWS], row, some, r;
    int16_t *weights = (int16_t *)(scratch + 64 * (int64_t)all * blocks);
    pj_pack_blocks(scratch, v, lanes, p->length, 0);
    for (row = 0; row < p->rows; row += some) {
        int32_t quads;
        some = p->rows < PJ_ATTEND_ROWS ? 1 : PJ_ATTEND_ROWS;
        row = row < p->rows - some ? row : p->rows - some; /* the last tile may do some rows again */
        quads = (pj_v_attend_seen(p, row + some - 1) + 3) / 4;
        for (r = 0; r < some; r++) {
            const uint8_t *shown = mask ? mask + (int64_t)((masked + row + r) % p->mask_rows) * p->length : 0;
            weight[r] = pj_weigh(weights + 4 * (int64_t)quads * r, table, x + (int64_t)(row + r) * p->length, shown,
                                 pj_v_attend_seen(p, row + r), quads);
        }
        pj_v_attend_rows(weights, scratch, sums, all, quads, some, blocks);
        for (r = 0; r < some; r++)
            pj_v_attend_finish(p, y + (int64_t)(row + r) * p->features, sums + PJ_BYTES * r, weight[r], lanes);
    }
}

static void pj_v_attend_part(const struct pj_v_attend *p, const void *const *in, void *const *out, void *scratch,
                             struct pj_part part)
{
    const int32_t *e = p->extent;
    const pj_exp table = pj_exp_load(in[2]);
    int32_t i, j, end;
    pj_share(part, e[0] * e[1] * e[2] * e[3], &i, &end);
    for (; i < end; i++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)i * p->rows * p->length;
        const uint8_t *v = (const uint8_t *)in[1] + pj_leading(i, e, p->stride_v);
        const uint8_t *mask = p->mask_rows ? in[3] : 0;
        const int32_t masked = p->mask_rows ? (int32_t)((int64_t)i * p->rows % p->mask_rows) : 0;
        uint8_t *y = (uint8_t *)out[0] + (int64_t)i * p->rows * p->features;
        for (j = 0; j < p->features; j += PJ_BYTES)
            pj_v_attend_lanes(p, &table, x, v + (int64_t)j * p->length, mask, masked, y + j,
                              p->features - j < PJ_BYTES ? p->features - j : PJ_BYTES, scratch);
    }
}

PJ_WHOLE(v_attend)
