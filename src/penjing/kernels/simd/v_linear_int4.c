/* v_linear_int4: x u8 (rows, k), weights of 4 bits plus 8, else as v_linear. Of 64 bytes the low halves are those of the
 * first block, the high ones those of the next. Weights meet differences of codes from 128, whose sum pays for the 8.
 */
struct pj_v_linear_int4 {
    int32_t rows, k, oc;
    int32_t y_zero, qmin, qmax;
};

PJ_WORD void pj_v_linear_int4_blocks(const struct pj_narrow_walk *k, const uint8_t *x, const uint8_t *w,
                                     const int32_t *bias, int32_t *sums, const int32_t pairs)
{
    pj_int4_acc acc[4];
    int32_t left, run, i, v;
    PJ_UNROLL
    for (v = 0; v < pairs; v++)
        acc[v] = pj_int4_zero();
    for (left = k->quads; left > 0; left -= run) {
        run = left < PJ_INT4_RUN ? left : PJ_INT4_RUN;
        for (i = 0; i < run; i++, x += 4, w += k->step) {
            const pj_int4_x four = pj_int4_load_x(x);
            PJ_UNROLL
            for (v = 0; v < pairs; v++)
                acc[v] = pj_int4_dot4(acc[v], four, w + 64 * v);
        }
        PJ_UNROLL
        for (v = 0; v < pairs; v++)
            acc[v] = pj_int4_carry(acc[v]);
    }
    PJ_UNROLL
    for (v = 0; v < pairs; v++)
        pj_int4_store(sums + 32 * v, acc[v], bias + 32 * v, 8 * k->sum);
}

PJ_SHARED void pj_v_linear_int4_tile(const struct pj_narrow_walk *k, const uint8_t *x, const uint8_t *w,
                                     const int32_t *bias, int32_t *sums, int32_t vectors)
{
    if (PJ_INT4_VECTORS == 8 && vectors == 8)
        pj_v_linear_int4_blocks(k, x, w, bias, sums, PJ_INT4_VECTORS / 2);
    else
        pj_v_linear_int4_blocks(k, x, w, bias, sums, PJ_INT4_VECTORS < 4 ? 1 : 2);
}

static void pj_v_linear_int4(const struct pj_v_linear_int4 *p, const void *const *in, void *const *out, void *scratch)
{
    const struct pj_narrow layer = {p->rows, p->k, p->oc, 4, {p->y_zero, p->qmin, p->qmax}, 1, 1, PJ_INT4_VECTORS};
    pj_narrow_run(&layer, 0, pj_v_linear_int4_tile, in, out[0], scratch);
}
