/* q_resize_bilinear: x u8 (n, ih, iw, c), rows s32 (oh, 3), columns s32 (ow, 3): two neighbours and the second one's
 * weight of 2048. Both weightings are exact: |acc| <= 255 * 2048 * 2048 < 2^31. */
struct pj_q_resize_bilinear {
    int32_t n, ih, iw, c, oh, ow;
    int32_t x_zero;
    float multiplier;
    int32_t y_zero;
    float low, high;
};

enum { PJ_Q_RESIZE_BILINEAR_ONE = 2048 };

static void pj_q_resize_bilinear(const struct pj_q_resize_bilinear *p, const void *const *in, void *const *out,
                                 void *scratch)
{
    const uint8_t *x = in[0];
    const int32_t *rows = in[1], *columns = in[2];
    uint8_t *y = out[0];
    int32_t n, oy, ox, c;
    PJ_UNUSED(scratch);

    for (n = 0; n < p->n; n++)
        for (oy = 0; oy < p->oh; oy++)
            for (ox = 0; ox < p->ow; ox++) {
                const int32_t *row = rows + (int64_t)oy * 3, *column = columns + (int64_t)ox * 3;
                const int32_t down = row[2], up = PJ_Q_RESIZE_BILINEAR_ONE - down;
                const int32_t right = column[2], left = PJ_Q_RESIZE_BILINEAR_ONE - right;
                const uint8_t *above = x + ((int64_t)n * p->ih + row[0]) * p->iw * p->c;
                const uint8_t *below = x + ((int64_t)n * p->ih + row[1]) * p->iw * p->c;
                const int64_t first = (int64_t)column[0] * p->c, second = (int64_t)column[1] * p->c;
                for (c = 0; c < p->c; c++) {
                    const int32_t a = (above[first + c] - p->x_zero) * up + (below[first + c] - p->x_zero) * down;
                    const int32_t b = (above[second + c] - p->x_zero) * up + (below[second + c] - p->x_zero) * down;
                    *y++ = pj_requantize(a * left + b * right, p->multiplier, p->y_zero, p->low, p->high);
                }
            }
}
