/* What the recurrent layers share: sums of all gates of a block of units, for one step or for many at once.
 *
 * 16 units are a block. The rows of a weight are those of all gates of the first block, then of the next: weights s8 (pairs of
 * blocks, and at the end perhaps one; in each: k / 4, blocks of the pair, gates, 16, 4), bias s32 (2, blocks, gates, 16),
 * multiplier f32 (blocks, gates, 16). Biases are as those of v_linear.
 */
enum { PJ_STEPS_READ = 24 }; /* steps whose inputs are multiplied at once */

/* Rows of one weight, and the codes that meet them. */
struct pj_gates {
    const int8_t *w;
    const int32_t *bias;
    const float *multiplier;
    int32_t k, wide, blocks;
};

typedef void pj_gates_sums(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                           int32_t *sums, int32_t rows, int32_t blocks);

/* in: weights, bias and multiplier of `units` units that read k codes. */
PJ_INLINE struct pj_gates pj_gates_open(const void *const *in, int32_t k, int32_t units, const int32_t gates)
{
    struct pj_gates g;
    g.k = k, g.wide = (k + 3) / 4 * 4, g.blocks = (units + 15) / 16;
    g.w = in[0], g.bias = (const int32_t *)in[1] + PJ_LINEAR_CENTRED * 16 * gates * g.blocks, g.multiplier = in[2];
    return g;
}

/* Sums of all gates of one block or two, for one row or PJ_LINEAR_ROWS. */
PJ_WORD void pj_gates_tiles(const struct pj_linear_walk *k, const uint8_t *x, const int8_t *w, const int32_t *bias,
                            int32_t *sums, int32_t rows, int32_t blocks, const int32_t gates)
{
    int32_t v;
    if (PJ_LINEAR_ROWS > 1 && rows > 1)
        for (v = 0; v < blocks * gates; v += PJ_GATES(gates))
            pj_linear_tile(k, x, w + 64 * v, bias + 16 * v, sums + 16 * v, PJ_LINEAR_ROWS, PJ_GATES(gates), 1);
    else if (PJ_GATES_PAIRED && blocks == 2)
        pj_linear_tile(k, x, w, bias, sums, 1, 2 * gates, PJ_GATE_CHAINS(2 * gates));
    else
        for (v = 0; v < blocks * gates; v += PJ_GATES_1(gates))
            pj_linear_tile(k, x, w + 64 * v, bias + 16 * v, sums + 16 * v, 1, PJ_GATES_1(gates),
                           PJ_GATE_CHAINS(PJ_GATES_1(gates)));
}

/* How a tile walks through the pair of blocks that begins at `block`; returns how many there are. */
PJ_INLINE int32_t pj_gates_pair(const struct pj_gates *g, struct pj_linear_walk *k, int32_t block, const int32_t gates)
{
    const int32_t blocks = g->blocks - block < 2 ? 1 : 2;
    k->quads = g->wide / 4, k->x_row = g->wide, k->step = 64 * gates * blocks, k->sums_row = 16 * gates * blocks;
    return blocks;
}

/* read: [steps][blocks][gates][16] products of x with the weights. Rows of x are staged where their length asks for it. */
PJ_INLINE void pj_gates_read(const struct pj_gates *g, pj_gates_sums *sums_of, float *read, uint8_t *staged,
                             const uint8_t *x, int32_t steps, const int32_t gates)
{
    const int32_t all = 16 * gates * g->blocks;
    int32_t space[16 * (8 * PJ_LINEAR_ROWS + 1)], *sums = pj_aligned(space);
    int32_t block, blocks, row, rows, r, v;
    if (g->k != g->wide) {
        pj_linear_stage(staged, x, steps, g->k, g->wide, 0);
        x = staged;
    }
    for (block = 0; block < g->blocks; block += blocks) {
        const int32_t at = 16 * gates * block;
        struct pj_linear_walk k;
        blocks = pj_gates_pair(g, &k, block, gates);
        for (row = 0; row < steps; row += rows) {
            rows = steps - row < PJ_LINEAR_ROWS ? 1 : PJ_LINEAR_ROWS;
            sums_of(&k, x + row * g->wide, g->w + (int64_t)at * g->wide, g->bias + at, sums, rows, blocks);
            for (r = 0; r < rows; r++)
                for (v = 0; v < blocks * gates; v++)
                    pj_store_f(read + (int64_t)(row + r) * all + at + 16 * v,
                               pj_scale(sums + r * k.sums_row + 16 * v, g->multiplier + at + 16 * v));
        }
    }
}

/* The order of steps, and where the products of some of them lie: those of `first` and of what follows it in time. */
struct pj_reading {
    int32_t steps, reverse, first;
    float *read;
    uint8_t *staged;
    void *rest; /* scratch memory that is left */
};

PJ_INLINE struct pj_reading pj_reading_open(const struct pj_gates *g, int32_t steps, int32_t reverse, void *scratch,
                                            const int32_t gates)
{
    const int32_t most = steps < PJ_STEPS_READ ? steps : PJ_STEPS_READ;
    struct pj_reading r;
    r.steps = steps, r.reverse = reverse, r.first = 0, r.read = scratch;
    r.staged = (uint8_t *)(r.read + (int64_t)16 * gates * g->blocks * most);
    r.rest = r.staged + (g->k == g->wide ? 0 : most * g->wide);
    return r;
}

PJ_INLINE int32_t pj_reading_time(const struct pj_reading *r, int32_t step)
{
    return r->reverse ? r->steps - 1 - step : step;
}

/* The products of one step, in the order of steps. */
PJ_INLINE const float *pj_reading_next(struct pj_reading *r, const struct pj_gates *g, pj_gates_sums *sums_of,
                                       const uint8_t *x, int32_t step, const int32_t gates)
{
    if (step % PJ_STEPS_READ == 0) {
        const int32_t left = r->steps - step, some = left < PJ_STEPS_READ ? left : PJ_STEPS_READ;
        r->first = r->reverse ? left - some : step;
        pj_gates_read(g, sums_of, r->read, r->staged, x + (int64_t)r->first * g->k, some, gates);
    }
    return r->read + (int64_t)(pj_reading_time(r, step) - r->first) * 16 * gates * g->blocks;
}

/* One gate of 16 units, from sums of the last h and products of x. */
PJ_WORD pj_e pj_gate_e(const int16_t *table, const int32_t *sums, const float *multiplier, const float *read)
{
    return pj_entry_f(table, pj_add_f(pj_load_f(read), pj_scale(sums, multiplier)));
}
