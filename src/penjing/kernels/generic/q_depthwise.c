/* q_depthwise: x u8 (n, ih, iw, c), w s8 (kh, kw, c), bias s32 (c), multiplier f32 (c). Channels run innermost. */
struct pj_q_depthwise {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t x_zero, y_zero;
    float low, high;
};

enum { PJ_Q_DEPTHWISE_BLOCK = 64 };

static void pj_q_depthwise(const struct pj_q_depthwise *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int8_t *w = in[1];
    const int32_t *bias = in[2];
    const float *multiplier = in[3];
    uint8_t *y = out[0];
    int32_t n, oy, ox, c, ky, kx, j;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++)
                for (c = 0; c < p->c; c += PJ_Q_DEPTHWISE_BLOCK) {
                    const int32_t lanes = p->c - c < PJ_Q_DEPTHWISE_BLOCK ? p->c - c : PJ_Q_DEPTHWISE_BLOCK;
                    int32_t acc[PJ_Q_DEPTHWISE_BLOCK];
                    uint8_t *to = y + (((int64_t)n * p->oh + oy) * p->ow + ox) * p->c + c;
                    for (j = 0; j < lanes; j++)
                        acc[j] = bias[c + j];
                    for (ky = 0; ky < p->kh; ky++) {
                        const int32_t iy = oy * p->stride_h - p->pad_top + ky * p->dilation_h;
                        if (iy < 0 || iy >= p->ih)
                            continue;
                        for (kx = 0; kx < p->kw; kx++) {
                            const int32_t ix = ox * p->stride_w - p->pad_left + kx * p->dilation_w;
                            const uint8_t *from;
                            const int8_t *by = w + ((int64_t)ky * p->kw + kx) * p->c + c;
                            if (ix < 0 || ix >= p->iw)
                                continue;
                            from = x + (((int64_t)n * p->ih + iy) * p->iw + ix) * p->c + c;
                            for (j = 0; j < lanes; j++)
                                acc[j] += (int16_t)(from[j] - p->x_zero) * by[j];
                        }
                    }
                    for (j = 0; j < lanes; j++)
                        to[j] = pj_requantize(acc[j], multiplier[c + j], p->y_zero, p->low, p->high);
                }
}
