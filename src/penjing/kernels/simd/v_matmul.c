/* v_matmul: q_matmul, for which up to PJ_BYTES rows of b at a time lie in scratch as packed weights w = b - 128:
 *   sum of (a - za) * (b - zb) = sum of a * w - za * sum of w + (128 - zb) * (sum of a - k * za)
 * The second term is the same for a whole column and the third for a whole row. */
struct pj_v_matmul {
    int32_t extent[4], stride_a[4], stride_b[4];
    int32_t m, n, k;
    float multiplier;
    int32_t a_zero, b_zero, y_zero;
    float low, high;
};

PJ_WORD void pj_v_matmul_tile(const pj_staged *x, int64_t x_row, const int8_t *w, const int32_t *bias, int32_t *sums,
                              int32_t quads, const int32_t rows, const int32_t vectors)
{
    pj_acc acc[PJ_MATMUL_ROWS][PJ_MATMUL_VECTORS];
    const int64_t block = 64 * (int64_t)quads;
    int32_t r, v;
    PJ_UNROLL
    for (r = 0; r < rows; r++) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++)
            acc[r][v] = pj_acc_start(bias + 16 * v);
    }
    for (; quads > 0; quads--, x += 4, w += 64) {
        pj_w weight[PJ_MATMUL_VECTORS];
        PJ_UNROLL
        for (v = 0; v < vectors; v++)
            weight[v] = pj_load_w(w + v * block);
        PJ_UNROLL
        for (r = 0; r < rows; r++) {
            const pj_x four = pj_load_x(x + r * x_row);
            PJ_UNROLL
            for (v = 0; v < vectors; v++)
                acc[r][v] = pj_dot4(acc[r][v], four, weight[v]);
        }
    }
    PJ_UNROLL
    for (r = 0; r < rows; r++) {
        PJ_UNROLL
        for (v = 0; v < vectors; v++)
            pj_acc_store(sums + r * PJ_BYTES + 16 * v, acc[r][v], bias + 16 * v);
    }
}

#define PJ_MATMUL_TILE(R, V)                                                                                          \
    PJ_SHARED void pj_v_matmul_##R##x##V(const pj_staged *x, int64_t x_row, const int8_t *w, const int32_t *bias,    \
                                         int32_t *sums, int32_t quads)                                               \
    {                                                                                                                \
        pj_v_matmul_tile(x, x_row, w, bias, sums, quads, R, V);                                                      \
    }
#define PJ_MATMUL_CASE(R, V)                                                                                          \
    case 16 * R + V:                                                                                                 \
        pj_v_matmul_##R##x##V(x, x_row, w + 64 * v * (int64_t)quads, bias + 16 * v, sums + 16 * v, quads);           \
        break;
PJ_MATMUL_TILES(PJ_MATMUL_TILE)

/* All sums of `rows` rows, PJ_MATMUL_ROWS or one, with `blocks` blocks. */
static void pj_v_matmul_rows(const pj_staged *x, int64_t x_row, const int8_t *w, const int32_t *bias, int32_t *sums,
                             int32_t quads, int32_t rows, int32_t blocks)
{
    int32_t v, some;
    for (v = 0; v < blocks; v += some) {
        some = pj_blocks_of(blocks - v, PJ_MATMUL_VECTORS);
        switch (16 * rows + some) {
            PJ_MATMUL_TILES(PJ_MATMUL_CASE)
        }
    }
}

/* What a column takes off: its zero points meet every weight. */
PJ_INLINE void pj_v_matmul_bias(int32_t *bias, const int8_t *w, int32_t quads, int32_t zero)
{
    static const int32_t none[16] = {0};
    static const uint8_t ones[4] = {1, 1, 1, 1};
    pj_staged one[4];
    pj_acc acc = pj_acc_start(none);
    int32_t j;
    pj_stage(one, ones, 4);
    for (; quads > 0; quads--, w += 64)
        acc = pj_dot4(acc, pj_load_x(one), pj_load_w(w));
    pj_acc_store(bias, acc, none);
    for (j = 0; j < 16; j++)
        bias[j] *= -zero;
}

PJ_WORD void pj_v_matmul_finish(const struct pj_v_matmul *p, uint8_t *y, const int32_t *sums, int32_t less, int32_t lanes)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++)
        v[j] = pj_clamp_f(pj_mul_f(pj_from_sums(sums + 16 * j, less), pj_set_f(p->multiplier)), p->low, p->high);
    pj_store_first(y, pj_round_b(v, p->y_zero), lanes);
}

/* Up to PJ_MATMUL_RUN rows. */
static void pj_v_matmul_run(const struct pj_v_matmul *p, const uint8_t *a, const uint8_t *b, uint8_t *y, int32_t rows,
                            uint8_t *scratch)
{
    const int32_t quads = (p->k + 3) / 4, in_place = PJ_STAGES_CODES && p->k % 4 == 0;
    const int64_t x_row = in_place ? p->k : 4 * quads;
    int32_t less[PJ_MATMUL_RUN], bias[PJ_BYTES], space[PJ_BYTES * PJ_MATMUL_ROWS + 16] = {0};
    int32_t *sums = pj_aligned(space), row, some, r, j;
    const int32_t columns = p->n < PJ_BYTES ? (p->n + 15) / 16 * 16 : PJ_BYTES;
    pj_staged *staged = (pj_staged *)(scratch + 4 * (int64_t)quads * columns);
    for (row = 0; row < rows; row++)
        less[row] = (p->b_zero - 128) * (pj_sum_codes(a + (int64_t)row * p->k, p->k) - p->k * p->a_zero);
    for (j = 0; j < p->n; j += PJ_BYTES) {
        const int32_t lanes = p->n - j < PJ_BYTES ? p->n - j : PJ_BYTES, blocks = (lanes + 15) / 16;
        pj_pack_blocks(scratch, b + (int64_t)j * p->k, lanes, p->k, UINT32_C(0x80808080));
        for (r = 0; r < blocks; r++)
            pj_v_matmul_bias(bias + 16 * r, (const int8_t *)scratch + 64 * (int64_t)quads * r, quads, p->a_zero);
        for (row = 0; row < rows; row += some) {
            const uint8_t *from;
            some = rows < PJ_MATMUL_ROWS ? 1 : PJ_MATMUL_ROWS;
            row = row < rows - some ? row : rows - some; /* the last tile may do some rows again */
            from = a + (int64_t)row * p->k;
            for (r = 0; !in_place && r < some; r++) {
                pj_stage(staged + r * x_row, from + (int64_t)r * p->k, p->k);
                pj_stage_zero(staged + r * x_row + p->k, 0, (int32_t)x_row - p->k);
            }
            pj_v_matmul_rows(in_place ? (const pj_staged *)from : staged, x_row, (const int8_t *)scratch, bias, sums,
                             quads, some, blocks);
            for (r = 0; r < some; r++)
                pj_v_matmul_finish(p, y + (int64_t)(row + r) * p->n + j, sums + PJ_BYTES * r, less[row + r], lanes);
        }
    }
}

static void pj_v_matmul_part(const struct pj_v_matmul *p, const void *const *in, void *const *out, void *scratch,
                             struct pj_part part)
{
    const int32_t *e = p->extent;
    int32_t i, row, end;
    pj_share(part, e[0] * e[1] * e[2] * e[3], &i, &end);
    for (; i < end; i++) {
        const uint8_t *a = (const uint8_t *)in[0] + pj_leading(i, e, p->stride_a);
        const uint8_t *b = (const uint8_t *)in[1] + pj_leading(i, e, p->stride_b);
        uint8_t *y = (uint8_t *)out[0] + (int64_t)i * p->m * p->n;
        for (row = 0; row < p->m; row += PJ_MATMUL_RUN)
            pj_v_matmul_run(p, a + (int64_t)row * p->k, b, y + (int64_t)row * p->n,
                            p->m - row < PJ_MATMUL_RUN ? p->m - row : PJ_MATMUL_RUN, scratch);
    }
}

PJ_WHOLE(v_matmul)
