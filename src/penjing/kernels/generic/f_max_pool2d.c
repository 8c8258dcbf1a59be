/* f_max_pool2d: x f32 (n, ih, iw, c). Windows may hang over the input; what lies outside never wins. */
struct pj_f_max_pool2d {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

static void pj_f_max_pool2d(const struct pj_f_max_pool2d *p, const void *const *in, void *const *out, void *scratch)
{
    const float *x = in[0];
    float *y = out[0];
    int32_t n, oy, ox, ky, kx, c;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++, y += p->c) {
                for (c = 0; c < p->c; c++)
                    y[c] = -FLT_MAX;
                for (ky = 0; ky < p->kh; ky++) {
                    const int32_t iy = oy * p->stride_h - p->pad_top + ky * p->dilation_h;
                    if (iy < 0 || iy >= p->ih)
                        continue;
                    for (kx = 0; kx < p->kw; kx++) {
                        const int32_t ix = ox * p->stride_w - p->pad_left + kx * p->dilation_w;
                        const float *from;
                        if (ix < 0 || ix >= p->iw)
                            continue;
                        from = x + (((int64_t)n * p->ih + iy) * p->iw + ix) * p->c;
                        for (c = 0; c < p->c; c++)
                            y[c] = from[c] > y[c] ? from[c] : y[c];
                    }
                }
            }
}
