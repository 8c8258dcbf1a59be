/* f_conv2d: x f32 (n, ih, iw, ic), w f32 (kh, kw, ic / groups, oc), bias f32 (oc). Each output has a sum of its own, in the
 * order of the window's rows, columns and channels. What lies outside the image is 0 and left out. */
struct pj_f_conv2d {
    int32_t n, ih, iw, ic, oh, ow, oc, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    float low, high;
};

/* Adds the window at (y0, x0) of image x for `lanes` outputs from `o` on, which read `some` channels from `c` on. */
static void pj_f_conv2d_sums(const struct pj_f_conv2d *p, float *acc, const float *x, const float *w, int32_t y0,
                             int32_t x0, int32_t c, int32_t some, int32_t o, int32_t lanes)
{
    const int32_t in_line = p->groups == 1 && p->dilation_w == 1; /* neighbours in a row lie side by side */
    const int32_t own = some == 1 && p->oc == p->groups;          /* each output has a channel of its own */
    int32_t ky, kx;
    for (ky = 0; ky < p->kh; ky++) {
        const int32_t iy = y0 + ky * p->dilation_h;
        int32_t columns = 1;
        if (iy < 0 || iy >= p->ih)
            continue;
        for (kx = 0; kx < p->kw; kx += columns) {
            const int32_t ix = x0 + kx * p->dilation_w;
            const float *from = x + ((int64_t)iy * p->iw + ix) * p->ic + c;
            const float *by = w + ((int64_t)ky * p->kw + kx) * some * p->oc + o;
            if (ix < 0 || ix >= p->iw)
                continue;
            if (own) {
                pj_f_products(acc, from, by, lanes);
                continue;
            }
            if (in_line)
                columns = p->kw - kx < p->iw - ix ? p->kw - kx : p->iw - ix;
            pj_f_sums(acc, from, by, columns * some, p->oc, lanes);
        }
    }
}

static void pj_f_conv2d(const struct pj_f_conv2d *p, const void *const *in, void *const *out, void *scratch)
{
    const float *x = in[0], *w = in[1], *bias = in[2];
    float *y = out[0];
    const int32_t per_in = p->ic / p->groups, per_out = p->oc / p->groups;
    const int32_t each = per_in == 1 && per_out == 1 ? p->oc : per_out; /* outputs that may stand side by side */
    int32_t n, oy, ox, first, o;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++, x += (int64_t)p->ih * p->iw * p->ic)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++, y += p->oc)
                for (first = 0; first < p->oc; first += each)
                    for (o = first; o < first + each; o += PJ_F_LANES) {
                        const int32_t left = first + each - o, lanes = left < PJ_F_LANES ? left : PJ_F_LANES;
                        float acc[PJ_F_LANES] = {0};
                        pj_f_conv2d_sums(p, acc, x, w, oy * p->stride_h - p->pad_top, ox * p->stride_w - p->pad_left,
                                         o / per_out * per_in, per_in, o, lanes);
                        pj_f_finish(y + o, acc, bias + o, lanes, p->low, p->high);
                    }
}
