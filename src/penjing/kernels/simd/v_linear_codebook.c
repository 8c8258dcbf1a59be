/* v_linear_codebook: x u8 (rows, k), weights as indices of 4 or 2 bits into a table, else as v_linear. Of 64 bytes the lowest
 * bits are those of the first block, the next bits those of the next block. The table of 4 stands there 4 times.
 */
struct pj_v_linear_codebook {
    int32_t rows, k, oc, bits;
    int8_t table[16];
    int32_t y_zero, qmin, qmax;
};

PJ_WORD void pj_v_linear_codebook_tile(const struct pj_narrow_walk *k, const uint8_t *x, const uint8_t *w,
                                       const int32_t *bias, int32_t *sums, const int32_t vectors, const int32_t bits)
{
    const int32_t each = 8 / bits;
    const pj_book book = pj_book_load(k->table, bits);
    pj_fc_acc acc[8];
    int32_t left, v, i;
    PJ_UNROLL
    for (v = 0; v < vectors; v++)
        acc[v] = pj_fc_start(bias + 16 * v);
    for (left = k->quads; left > 0; left--, x += 4, w += k->step) {
        const pj_fc_x four = pj_fc_load_x(x);
        PJ_UNROLL
        for (v = 0; v < vectors; v += each) {
            const pj_fc_w indices = pj_book_indices(w + 8 * bits * v);
            PJ_UNROLL
            for (i = 0; i < each; i++)
                acc[v + i] = pj_book_dot4(acc[v + i], four, indices, book, bits, i);
        }
    }
    PJ_UNROLL
    for (v = 0; v < vectors; v++)
        pj_fc_store(sums + 16 * v, acc[v]);
}

#define PJ_BOOK_TILE(B)                                                                                               \
    PJ_SHARED void pj_v_linear_codebook_##B(const struct pj_narrow_walk *k, const uint8_t *x, const uint8_t *w,      \
                                            const int32_t *bias, int32_t *sums, int32_t vectors)                     \
    {                                                                                                                \
        if (PJ_BOOK_VECTORS == 8 && vectors == 8)                                                                    \
            pj_v_linear_codebook_tile(k, x, w, bias, sums, PJ_BOOK_VECTORS, B);                                      \
        else                                                                                                         \
            pj_v_linear_codebook_tile(k, x, w, bias, sums, 4, B);                                                    \
    }
PJ_BOOK_TILE(4)
PJ_BOOK_TILE(2)

static void pj_v_linear_codebook(const struct pj_v_linear_codebook *p, const void *const *in, void *const *out,
                                 void *scratch)
{
    const struct pj_narrow layer = {p->rows, p->k, p->oc, p->bits, {p->y_zero, p->qmin, p->qmax},
                                    PJ_LINEAR_CENTRED, 0, PJ_BOOK_VECTORS};
    pj_narrow_run(&layer, p->table, p->bits == 4 ? pj_v_linear_codebook_4 : pj_v_linear_codebook_2, in, out[0], scratch);
}
