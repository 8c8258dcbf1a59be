/* q_adaptive_avg_pool2d: x u8 (n, ih, iw, c), y u8 (n, oh, ow, c).
 * Window i of n covers [i * in / n, ceil((i + 1) * in / n)).
 * y = round(float(sum of (x - x_zero)) * ratio / float(elements of the window)). */
struct pj_q_adaptive_avg_pool2d {
    int32_t n, ih, iw, c, oh, ow;
    int32_t x_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

static int32_t pj_q_adaptive_avg_pool2d_start(int32_t i, int32_t size, int32_t n)
{
    return (int32_t)((int64_t)i * size / n);
}

static int32_t pj_q_adaptive_avg_pool2d_end(int32_t i, int32_t size, int32_t n)
{
    return (int32_t)((((int64_t)i + 1) * size + n - 1) / n);
}

static void pj_q_adaptive_avg_pool2d(const struct pj_q_adaptive_avg_pool2d *p, const void *const *in, void *const *out,
                                     void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    int32_t n, oy, ox, iy, ix, c;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++) {
                const int32_t y0 = pj_q_adaptive_avg_pool2d_start(oy, p->ih, p->oh);
                const int32_t y1 = pj_q_adaptive_avg_pool2d_end(oy, p->ih, p->oh);
                const int32_t x0 = pj_q_adaptive_avg_pool2d_start(ox, p->iw, p->ow);
                const int32_t x1 = pj_q_adaptive_avg_pool2d_end(ox, p->iw, p->ow);
                const float count = (float)((y1 - y0) * (x1 - x0));
                for (c = 0; c < p->c; c++) {
                    int32_t sum = 0;
                    for (iy = y0; iy < y1; iy++)
                        for (ix = x0; ix < x1; ix++)
                            sum += x[(((int64_t)n * p->ih + iy) * p->iw + ix) * p->c + c] - p->x_zero;
                    *y++ = (uint8_t)(pj_round((float)sum * p->ratio / count, p->low, p->high) + p->y_zero);
                }
            }
}
