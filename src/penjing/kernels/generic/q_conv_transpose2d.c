/* q_conv_transpose2d: x u8 (n, ih, iw, ic), w s8 (oc, kh, kw, ic / groups), bias s32, multiplier f32.
 * Each output pixel gathers the taps whose place, divided by the stride, is an input pixel. */
struct pj_q_conv_transpose2d {
    int32_t n, ih, iw, ic, oh, ow, oc, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    int32_t x_zero, y_zero;
    float low, high;
};

/* the input row or column under a tap at `place` of the stretched input; -1 when there is none */
static int32_t pj_q_conv_transpose2d_source(int32_t place, int32_t stride, int32_t extent)
{
    if (place < 0 || place % stride != 0 || place / stride >= extent)
        return -1;
    return place / stride;
}

static void pj_q_conv_transpose2d(const struct pj_q_conv_transpose2d *p, const void *const *in, void *const *out,
                                  void *scratch)
{
    const uint8_t *x = in[0];
    const int8_t *w = in[1];
    const int32_t *bias = in[2];
    const float *multiplier = in[3];
    uint8_t *y = out[0];
    const int32_t per_in = p->ic / p->groups, per_out = p->oc / p->groups;
    int32_t n, oy, ox, o, ky, kx, c;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++)
                for (o = 0; o < p->oc; o++) {
                    const int32_t first = o / per_out * per_in;
                    int32_t acc = bias[o];
                    for (ky = 0; ky < p->kh; ky++) {
                        const int32_t iy =
                            pj_q_conv_transpose2d_source(oy + p->pad_top - ky * p->dilation_h, p->stride_h, p->ih);
                        if (iy < 0)
                            continue;
                        for (kx = 0; kx < p->kw; kx++) {
                            const int32_t ix =
                                pj_q_conv_transpose2d_source(ox + p->pad_left - kx * p->dilation_w, p->stride_w, p->iw);
                            const uint8_t *from;
                            const int8_t *by;
                            if (ix < 0)
                                continue;
                            from = x + (((int64_t)n * p->ih + iy) * p->iw + ix) * p->ic + first;
                            by = w + (((int64_t)o * p->kh + ky) * p->kw + kx) * per_in;
                            for (c = 0; c < per_in; c++)
                                acc += (int16_t)(from[c] - p->x_zero) * by[c];
                        }
                    }
                    *y++ = pj_requantize(acc, multiplier[o], p->y_zero, p->low, p->high);
                }
}
