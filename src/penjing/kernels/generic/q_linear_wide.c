/* q_linear_wide: x u8 (rows, k), w s8 (oc, k), bias s32 (oc), multiplier f32 (oc); y s16 (rows, oc). Two rows of
 * differences lie in scratch. */
struct pj_q_linear_wide {
    int32_t rows, k, oc;
    int32_t x_zero;
};

static void pj_q_linear_wide(const struct pj_q_linear_wide *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int8_t *w = in[1];
    const int32_t *bias = in[2];
    const float *multiplier = in[3];
    int16_t *y = out[0];
    int16_t *centred = scratch;
    int32_t row, o, r, j;

    for (row = 0; row < p->rows; row += 2) {
        const int32_t rows = p->rows - row < 2 ? 1 : 2;
        pj_centre(centred, x + (int64_t)row * p->k, rows * p->k, p->x_zero);
        for (o = 0; o < p->oc; o += 4) {
            const int32_t lanes = p->oc - o < 4 ? p->oc - o : 4;
            int32_t acc[2][4];
            pj_dots(acc, centred, w + (int64_t)o * p->k, p->k, rows, lanes);
            for (r = 0; r < rows; r++)
                for (j = 0; j < lanes; j++)
                    y[(int64_t)(row + r) * p->oc + o + j] =
                        pj_wide((float)(acc[r][j] + bias[o + j]) * multiplier[o + j]);
        }
    }
}
