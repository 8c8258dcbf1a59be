/* v_sparse_windows: x u8 (n, ih, iw, ic), lists s32, bias s32 and multiplier f32 (blocks * 16), [residual u8 like y].
 * Of a window of 64 codes that lie side by side, a step lets each of 16 output channels pick 4.
 *
 *   lists    first[blocks + 1]      the blocks' first windows
 *            step[blocks + 1]       and first steps
 *            window[windows][2]     codes from a pixel's first code to the window; its steps
 *            steps[steps]           u8 (16, 4) which codes, s8 (16, 4) weights; from the next multiple of 64 bytes on
 *
 * Where `blocks_at` is 0, each half of a step, 2 picks of each channel, picks from 16 codes at a multiple of 16. Else the
 * same weights follow as lists of blocks, `blocks_at` int32 from the start, for instruction sets that cannot pick so far.
 */
struct pj_v_sparse_windows {
    int32_t n, ih, iw, ic, oh, ow, oc;
    int32_t reach_h, reach_w, stride_h, stride_w, pad_top, pad_left;
    int32_t band_h, band_w, pitch, fill;
    int32_t x_zero, y_zero, qmin, qmax;
    int32_t rectified;
    int32_t has_residual, residual_zero;
    float residual_scale;
    int32_t blocks_at;
};

static void pj_sparse_windows_open(struct pj_sparse_walk *k, const int32_t *lists, int32_t block, int32_t blocks)
{
    const int32_t *step = lists + blocks + 1, *window = step + blocks + 1;
    const int32_t head = (2 * (blocks + 1) + 2 * lists[blocks] + 15) / 16 * 16;
    k->entry = window + 2 * lists[block];
    k->end = window + 2 * lists[block + 1];
    k->data = (const uint8_t *)(lists + head) + 128 * (int64_t)step[block];
}

PJ_WORD void pj_sparse_windows_sums(const struct pj_sparse_walk *k, const uint8_t *x0, const uint8_t *x1, int32_t *sums,
                                    const int32_t half, const int32_t groups)
{
    const int64_t pixel = k->pixel;
    const int32_t *window = k->entry;
    const uint8_t *step = k->data;
    pj_sum sum[16];
    pj_window x[16];
    int32_t i, left, part;
    PJ_UNROLL
    for (i = 0; i < half * groups; i++)
        sum[i] = pj_sum_start(k->bias);
    for (; window < k->end; window += 2) {
        const uint8_t *at0 = x0 + window[0], *at1 = x1 + window[0];
        PJ_UNROLL
        for (i = 0; i < half * groups; i++)
            x[i] = pj_load_window(i < half ? at0 + i * pixel : at1 + (i - half) * pixel);
        for (left = window[1]; left > 0; left--, step += 128) {
            PJ_UNROLL
            for (part = 0; part < PJ_WINDOW_PARTS; part++) {
                const pj_picks picks = pj_load_picks(step, part);
                const pj_pick_w w = pj_load_pick_w(step, part);
                PJ_UNROLL
                for (i = 0; i < half * groups; i++)
                    sum[i] = pj_pick_dot(sum[i], x[i], picks, w);
            }
        }
    }
    PJ_UNROLL
    for (i = 0; i < half * groups; i++)
        pj_sum_store(sums + 16 * i, sum[i]);
}

PJ_WORD pj_sum pj_sparse_windows_step(pj_sum sum, pj_window x, const uint8_t *step)
{
    int32_t part;
    PJ_UNROLL
    for (part = 0; part < PJ_WINDOW_PARTS; part++)
        sum = pj_pick_dot(sum, x, pj_load_picks(step, part), pj_load_pick_w(step, part));
    return sum;
}

/* A single pixel: two sums side by side, so that no product waits for the one before. */
PJ_SHARED void pj_sparse_windows_1(const struct pj_sparse_walk *k, const uint8_t *x0, int32_t *sums)
{
    const int32_t none[16] = {0}, *window;
    const uint8_t *step = k->data;
    pj_sum a = pj_sum_start(k->bias), b = pj_sum_start(none);
    int32_t left;
    for (window = k->entry; window < k->end; window += 2) {
        const pj_window x = pj_load_window(x0 + window[0]);
        for (left = window[1]; left > 1; left -= 2, step += 256) {
            a = pj_sparse_windows_step(a, x, step);
            b = pj_sparse_windows_step(b, x, step + 128);
        }
        if (left > 0) {
            a = pj_sparse_windows_step(a, x, step);
            step += 128;
        }
    }
    pj_sum_store(sums, pj_sum_add(a, b));
}

#define PJ_SPARSE_WINDOWS(H, G)                                                                                      \
    PJ_SHARED void pj_sparse_windows_##H##x##G(const struct pj_sparse_walk *k, const uint8_t *x0, const uint8_t *x1, \
                                               int32_t *sums)                                                        \
    {                                                                                                                \
        pj_sparse_windows_sums(k, x0, x1, sums, H, G);                                                               \
    }
#define PJ_SPARSE_WINDOWS_CASE(H, G) \
    case 2 * H + G - 1: pj_sparse_windows_##H##x##G(k, at0, at1, sums); break;
PJ_WINDOW_HALVES(PJ_SPARSE_WINDOWS)

static void pj_sparse_windows_tile(const struct pj_sparse_walk *k, int64_t x0, int64_t x1, int32_t half, int32_t groups,
                                   int32_t *sums)
{
    const uint8_t *at0 = (const uint8_t *)k->x + x0, *at1 = (const uint8_t *)k->x + x1;
    if (half * groups == 1)
        pj_sparse_windows_1(k, at0, sums);
    else
        switch (2 * half + groups - 1) {
            PJ_WINDOW_HALVES(PJ_SPARSE_WINDOWS_CASE)
        }
}

static void pj_v_sparse_windows_part(const struct pj_v_sparse_windows *p, const void *const *in, void *const *out,
                                     void *scratch, struct pj_part part)
{
    const struct pj_sparse shape = PJ_SPARSE_SHAPE(p);
#if !PJ_PICKS_ANYWHERE
    if (p->blocks_at > 0) {
        pj_sparse_bands(&shape, in, (const int32_t *)in[1] + p->blocks_at, out, scratch, PJ_STAGES_CODES, PJ_HALF,
                        PJ_GROUPS, pj_sparse_blocks_open, pj_sparse_blocks_tile, part);
        return;
    }
#endif
    pj_sparse_bands(&shape, in, in[1], out, scratch, 1, PJ_WINDOW_HALF, PJ_GROUPS, pj_sparse_windows_open,
                    pj_sparse_windows_tile, part);
}

PJ_WHOLE(v_sparse_windows)
