/* q_conv2d: x u8 (n, ih, iw, ic), w s8 (oc, kh, kw, ic / groups), bias s32, multiplier f32 [, residual u8].
 * Four output channels share each pass over the input; taps outside the input hold x_zero and add nothing. */
struct pj_q_conv2d {
    int32_t n, ih, iw, ic, oh, ow, oc, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    int32_t x_zero, y_zero;
    float low, high;
    int32_t has_residual, residual_zero;
    float residual_scale;
};

/* acc[0..3] += sum over k of (x[k] - zero) * w[j * step + k] */
static void pj_q_conv2d_dot4(int32_t acc[4], const uint8_t *x, const int8_t *w, int32_t step, int32_t k, int32_t zero)
{
    const int8_t *w0 = w, *w1 = w + step, *w2 = w + 2 * step, *w3 = w + 3 * step;
    int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, i;
    for (i = 0; i < k; i++) {
        const int16_t d = (int16_t)(x[i] - zero);
        a0 += d * w0[i];
        a1 += d * w1[i];
        a2 += d * w2[i];
        a3 += d * w3[i];
    }
    acc[0] += a0;
    acc[1] += a1;
    acc[2] += a2;
    acc[3] += a3;
}

static void pj_q_conv2d_dot1(int32_t *acc, const uint8_t *x, const int8_t *w, int32_t k, int32_t zero)
{
    int32_t a = 0, i;
    for (i = 0; i < k; i++) {
        const int16_t d = (int16_t)(x[i] - zero);
        a += d * w[i];
    }
    *acc += a;
}

static void pj_q_conv2d(const struct pj_q_conv2d *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int8_t *w = in[1];
    const int32_t *bias = in[2];
    const float *multiplier = in[3];
    const uint8_t *residual = p->has_residual ? in[4] : 0;
    uint8_t *y = out[0];
    const int32_t per_in = p->ic / p->groups, per_out = p->oc / p->groups;
    const int32_t filter = p->kh * p->kw * per_in;
    /* with one group and no dilation, the taps of a row lie side by side in memory */
    const int32_t joined = p->groups == 1 && p->dilation_w == 1;
    int32_t n, oy, ox, g, o, ky, kx, j;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++) {
                const int32_t y0 = oy * p->stride_h - p->pad_top, x0 = ox * p->stride_w - p->pad_left;
                const int64_t pixel = (((int64_t)n * p->oh + oy) * p->ow + ox) * p->oc;
                for (g = 0; g < p->groups; g++)
                    for (o = g * per_out; o < (g + 1) * per_out; o += 4) {
                        const int32_t lanes = (g + 1) * per_out - o < 4 ? (g + 1) * per_out - o : 4;
                        int32_t acc[4] = {0, 0, 0, 0};
                        for (j = 0; j < lanes; j++)
                            acc[j] = bias[o + j];
                        for (ky = 0; ky < p->kh; ky++) {
                            const int32_t iy = y0 + ky * p->dilation_h;
                            if (iy < 0 || iy >= p->ih)
                                continue;
                            for (kx = 0; kx < p->kw; kx++) {
                                const int32_t ix = x0 + kx * p->dilation_w;
                                int32_t taps = 1;
                                const uint8_t *from;
                                const int8_t *by;
                                if (ix < 0 || ix >= p->iw)
                                    continue;
                                if (joined) {
                                    taps = p->kw - kx < p->iw - ix ? p->kw - kx : p->iw - ix;
                                }
                                from = x + (((int64_t)n * p->ih + iy) * p->iw + ix) * p->ic + g * per_in;
                                by = w + (int64_t)o * filter + (ky * p->kw + kx) * per_in;
                                if (lanes == 4)
                                    pj_q_conv2d_dot4(acc, from, by, filter, taps * per_in, p->x_zero);
                                else
                                    for (j = 0; j < lanes; j++)
                                        pj_q_conv2d_dot1(&acc[j], from, by + j * filter, taps * per_in, p->x_zero);
                                kx += taps - 1;
                            }
                        }
                        for (j = 0; j < lanes; j++) {
                            float value = (float)acc[j] * multiplier[o + j];
                            if (residual)
                                value = pj_scaled_sum(acc[j], multiplier[o + j],
                                                      residual[pixel + o + j] - p->residual_zero, p->residual_scale);
                            y[pixel + o + j] = (uint8_t)(pj_round(value, p->low, p->high) + p->y_zero);
                        }
                    }
            }
}
