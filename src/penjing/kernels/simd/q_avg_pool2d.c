/* q_avg_pool2d: x u8 (n, ih, iw, c). y = round(float(sum of (x - x_zero)) * ratio / float(count)).
 * Sums are kept in 16 bits as long as they fit. */
struct pj_q_avg_pool2d {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t pad_bottom, pad_right, count_padding;
    int32_t x_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

/* elements of a window [start, start + k) that lie in [low, high), and the first of them */
static int32_t pj_q_avg_pool2d_overlap(int32_t start, int32_t k, int32_t low, int32_t high, int32_t *first)
{
    const int32_t last = start + k < high ? start + k : high;
    *first = start > low ? start : low;
    return last - *first;
}

/* The means of `rows` x `columns` pixels for up to PJ_BYTES channels. */
PJ_WORD void pj_q_avg_pool2d_lanes(const struct pj_q_avg_pool2d *p, uint8_t *y, const uint8_t *x, int32_t rows,
                                   int32_t columns, int32_t count, int32_t lanes)
{
    const pj_f ratio = pj_set_f(p->ratio), divisor = pj_set_f((float)count);
    int32_t sums[PJ_BYTES] = {0}, room = PJ_SUMMED, r, j;
    pj_f mean[PJ_BYTES / 16];
    pj_h sum = pj_zero_h();
    for (r = 0; r < rows; r++)
        for (j = 0; j < columns; j++) {
            if (room-- == 0) {
                pj_flush_h(sums, sum);
                sum = pj_zero_h(), room = PJ_SUMMED - 1;
            }
            sum = pj_add_h(sum, pj_load_b(x + ((int64_t)r * p->iw + j) * p->c, lanes));
        }
    pj_flush_h(sums, sum);
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++)
        if (!j || 16 * j < lanes) {
            mean[j] = pj_div_f(pj_mul_f(pj_from_sums(sums + 16 * j, rows * columns * p->x_zero), ratio), divisor);
            mean[j] = pj_clamp_f(mean[j], p->low, p->high);
        } else
            mean[j] = mean[0];
    pj_store_b(y, pj_round_b(mean, p->y_zero), lanes);
}

static void pj_q_avg_pool2d(const struct pj_q_avg_pool2d *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t above = p->count_padding ? -p->pad_top : 0, before = p->count_padding ? -p->pad_left : 0;
    const int32_t below = p->ih + (p->count_padding ? p->pad_bottom : 0);
    const int32_t behind = p->iw + (p->count_padding ? p->pad_right : 0);
    uint8_t *y = out[0];
    int32_t n, oy, ox, c, top, left, unused;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++, y += p->c) {
                const int32_t y0 = oy * p->stride_h - p->pad_top, x0 = ox * p->stride_w - p->pad_left;
                const int32_t count = pj_q_avg_pool2d_overlap(y0, p->kh, above, below, &unused) *
                                      pj_q_avg_pool2d_overlap(x0, p->kw, before, behind, &unused);
                const int32_t rows = pj_q_avg_pool2d_overlap(y0, p->kh, 0, p->ih, &top);
                const int32_t columns = pj_q_avg_pool2d_overlap(x0, p->kw, 0, p->iw, &left);
                const uint8_t *x = (const uint8_t *)in[0] + (((int64_t)n * p->ih + top) * p->iw + left) * p->c;
                for (c = 0; c + PJ_BYTES <= p->c; c += PJ_BYTES)
                    pj_q_avg_pool2d_lanes(p, y + c, x + c, rows, columns, count, PJ_BYTES);
                if (c < p->c)
                    pj_q_avg_pool2d_lanes(p, y + c, x + c, rows, columns, count, p->c - c);
            }
}
