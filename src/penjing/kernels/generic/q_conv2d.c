/* q_conv2d: x u8 (n, ih, iw, ic), w s8 (oc, kh, kw, ic / groups), bias s32, multiplier f32 [, residual u8].
 * The windows of two neighbouring pixels are gathered into scratch, then every filter passes over both. */
struct pj_q_conv2d {
    int32_t n, ih, iw, ic, oh, ow, oc, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    int32_t x_zero, y_zero;
    float low, high;
    int32_t has_residual, residual_zero;
    float residual_scale;
};

/* The window at (y0, x0) of one group as differences from the zero point; what lies outside the image is 0. */
static void pj_q_conv2d_gather(const struct pj_q_conv2d *p, int16_t *to, const uint8_t *x, int32_t y0, int32_t x0)
{
    const int32_t per_in = p->ic / p->groups;
    const int32_t inside = x0 >= 0 && x0 + p->kw <= p->iw;
    int32_t ky, kx;
    for (ky = 0; ky < p->kh; ky++, to += p->kw * per_in) {
        const int32_t iy = y0 + ky * p->dilation_h;
        if (iy < 0 || iy >= p->ih) {
            memset(to, 0, (size_t)(p->kw * per_in) * sizeof *to);
            continue;
        }
        if (p->groups == 1 && p->dilation_w == 1 && inside) {
            pj_centre(to, x + ((int64_t)iy * p->iw + x0) * p->ic, p->kw * per_in, p->x_zero);
            continue;
        }
        for (kx = 0; kx < p->kw; kx++) {
            const int32_t ix = x0 + kx * p->dilation_w;
            if (ix < 0 || ix >= p->iw)
                memset(to + kx * per_in, 0, (size_t)per_in * sizeof *to);
            else
                pj_centre(to + kx * per_in, x + ((int64_t)iy * p->iw + ix) * p->ic, per_in, p->x_zero);
        }
    }
}

static void pj_q_conv2d(const struct pj_q_conv2d *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int8_t *w = in[1];
    const int32_t *bias = in[2];
    const float *multiplier = in[3];
    const uint8_t *residual = p->has_residual ? in[4] : 0;
    uint8_t *y = out[0];
    int16_t *window = scratch;
    const int32_t per_in = p->ic / p->groups, per_out = p->oc / p->groups;
    const int32_t filter = p->kh * p->kw * per_in;
    int32_t n, oy, ox, g, o, r, j;

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox += 2) {
                const int32_t rows = p->ow - ox < 2 ? 1 : 2;
                const int64_t pixel = (((int64_t)n * p->oh + oy) * p->ow + ox) * p->oc;
                for (g = 0; g < p->groups; g++) {
                    for (r = 0; r < rows; r++)
                        pj_q_conv2d_gather(p, window + r * filter, x + (int64_t)n * p->ih * p->iw * p->ic + g * per_in,
                                           oy * p->stride_h - p->pad_top, (ox + r) * p->stride_w - p->pad_left);
                    for (o = g * per_out; o < (g + 1) * per_out; o += 4) {
                        const int32_t lanes = (g + 1) * per_out - o < 4 ? (g + 1) * per_out - o : 4;
                        int32_t acc[2][4];
                        pj_dots(acc, window, w + (int64_t)o * filter, filter, rows, lanes);
                        for (r = 0; r < rows; r++)
                            for (j = 0; j < lanes; j++) {
                                const int64_t at = pixel + r * p->oc + o + j;
                                const int32_t sum = acc[r][j] + bias[o + j];
                                float value = (float)sum * multiplier[o + j];
                                if (residual)
                                    value = pj_scaled_sum(sum, multiplier[o + j], residual[at] - p->residual_zero,
                                                          p->residual_scale);
                                y[at] = (uint8_t)(pj_round(value, p->low, p->high) + p->y_zero);
                            }
                    }
                }
            }
}
