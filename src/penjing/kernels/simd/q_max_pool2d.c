/* q_max_pool2d: x u8 (n, ih, iw, c). Windows may hang over the input; what lies outside never wins. */
struct pj_q_max_pool2d {
    int32_t n, ih, iw, c, oh, ow, kh, kw;
    int32_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

/* Bytes from row to row and from column to column of a window, and from pixel to pixel of input and output. */
struct pj_q_max_pool2d_walk {
    int64_t row, column, from, to;
};

/* The taps [first, end) of a window of k that lie inside: there is one. */
static void pj_q_max_pool2d_inside(int32_t start, int32_t k, int32_t dilation, int32_t size, int32_t *first,
                                   int32_t *end)
{
    *first = 0, *end = k;
    while (start + *first * dilation < 0)
        ++*first;
    while (start + (*end - 1) * dilation >= size)
        --*end;
}

PJ_WORD void pj_q_max_pool2d_lanes(const struct pj_q_max_pool2d_walk *k, uint8_t *y, const uint8_t *x, int32_t rows,
                                   int32_t columns, int32_t pixels, int32_t lanes)
{
    int32_t i, r, c;
    for (i = 0; i < pixels; i++, x += k->from, y += k->to) {
        pj_b most = pj_load_b(x, lanes);
        for (r = 0; r < rows; r++)
            for (c = 0; c < columns; c++)
                most = pj_max_b(most, pj_load_b(x + r * k->row + c * k->column, lanes));
        pj_store_b(y, most, lanes);
    }
}

/* 16 channels in windows of 2 x 2 that touch: several pixels at a time. Returns how many are done. */
PJ_WORD int32_t pj_q_max_pool2d_16(const struct pj_q_max_pool2d_walk *k, uint8_t *y, const uint8_t *x, int32_t pixels)
{
    const int32_t step = PJ_BYTES / 16;
    int32_t i;
    for (i = 0; i + step <= pixels; i += step, x += 2 * PJ_BYTES, y += PJ_BYTES) {
        const pj_b a = pj_max_b(pj_load_b(x, PJ_BYTES), pj_load_b(x + k->row, PJ_BYTES));
        const uint8_t *next = x + PJ_BYTES;
        const pj_b b = pj_max_b(pj_load_b(next, PJ_BYTES), pj_load_b(next + k->row, PJ_BYTES));
        pj_store_b(y, pj_max_pairs_16(a, b), PJ_BYTES);
    }
    return i;
}

/* Neighbouring pixels whose windows are alike. */
PJ_WORD void pj_q_max_pool2d_pixels(const struct pj_q_max_pool2d_walk *k, uint8_t *y, const uint8_t *x, int32_t rows,
                                    int32_t columns, int32_t pixels)
{
    const int32_t channels = (int32_t)k->to;
    int32_t c;
    for (c = 0; c + PJ_BYTES <= channels; c += PJ_BYTES)
        pj_q_max_pool2d_lanes(k, y + c, x + c, rows, columns, pixels, PJ_BYTES);
    if (c < channels)
        pj_q_max_pool2d_lanes(k, y + c, x + c, rows, columns, pixels, channels - c);
}

static void pj_q_max_pool2d(const struct pj_q_max_pool2d *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t reach = (p->kw - 1) * p->dilation_w, touching = p->c == 16 && p->stride_w == 2 && reach == 1;
    uint8_t *y = out[0];
    struct pj_q_max_pool2d_walk k;
    int32_t n, oy, ox, top, bottom, left, right, pixels;
    PJ_UNUSED(scratch);
    k.column = (int64_t)p->dilation_w * p->c, k.row = (int64_t)p->dilation_h * p->iw * p->c;
    k.from = (int64_t)p->stride_w * p->c, k.to = p->c;

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++) {
            const int32_t y0 = oy * p->stride_h - p->pad_top;
            const int64_t line = ((int64_t)n * p->ih + y0) * p->iw;
            pj_q_max_pool2d_inside(y0, p->kh, p->dilation_h, p->ih, &top, &bottom);
            for (ox = 0; ox < p->ow; ox += pixels, y += (int64_t)pixels * p->c) {
                const int32_t x0 = ox * p->stride_w - p->pad_left;
                const uint8_t *x;
                pj_q_max_pool2d_inside(x0, p->kw, p->dilation_w, p->iw, &left, &right);
                x = (const uint8_t *)in[0] + (line + x0) * p->c + top * k.row + left * k.column;
                pixels = 1;
                if (right - left == p->kw)
                    pixels = (p->iw - 1 - reach - x0) / p->stride_w + 1;
                if (pixels > p->ow - ox)
                    pixels = p->ow - ox;
                if (bottom - top == 2 && right - left == 2) {
                    const int32_t done = touching ? pj_q_max_pool2d_16(&k, y, x, pixels) : 0;
                    pj_q_max_pool2d_pixels(&k, y + done * k.to, x + done * k.from, 2, 2, pixels - done);
                } else
                    pj_q_max_pool2d_pixels(&k, y, x, bottom - top, right - left, pixels);
            }
        }
}
