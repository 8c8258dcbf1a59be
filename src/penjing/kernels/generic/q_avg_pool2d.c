/* q_avg_pool2d: x u8 (n, ih, iw, c). y = round(float(sum of (x - x_zero)) * ratio / float(count)). */
struct pj_q_avg_pool2d {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t pad_bottom, pad_right, count_padding;
    int32_t x_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

/* elements of a window [start, start + k) that lie in [low, high) */
static int32_t pj_q_avg_pool2d_overlap(int32_t start, int32_t k, int32_t low, int32_t high)
{
    const int32_t first = start > low ? start : low;
    const int32_t last = start + k < high ? start + k : high;
    return last - first;
}

static void pj_q_avg_pool2d(const struct pj_q_avg_pool2d *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    uint8_t *y = out[0];
    const int32_t top = p->count_padding ? -p->pad_top : 0, left = p->count_padding ? -p->pad_left : 0;
    const int32_t bottom = p->ih + (p->count_padding ? p->pad_bottom : 0);
    const int32_t right = p->iw + (p->count_padding ? p->pad_right : 0);
    int32_t n, oy, ox, ky, kx, c;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++) {
                const int32_t y0 = oy * p->stride_h - p->pad_top, x0 = ox * p->stride_w - p->pad_left;
                const int32_t count = pj_q_avg_pool2d_overlap(y0, p->kh, top, bottom) *
                                      pj_q_avg_pool2d_overlap(x0, p->kw, left, right);
                for (c = 0; c < p->c; c++) {
                    int32_t sum = 0;
                    for (ky = 0; ky < p->kh; ky++)
                        for (kx = 0; kx < p->kw; kx++) {
                            const int32_t iy = y0 + ky, ix = x0 + kx;
                            if (iy >= 0 && iy < p->ih && ix >= 0 && ix < p->iw)
                                sum += x[(((int64_t)n * p->ih + iy) * p->iw + ix) * p->c + c] - p->x_zero;
                        }
                    *y++ = (uint8_t)(pj_round((float)sum * p->ratio / (float)count, p->low, p->high) + p->y_zero);
                }
            }
}
