/* q_table: x u8 (rows, width), table u8 (channels, 256); one channel means one table for all, else there are `width`.
 * Rows of the output lie `step` bytes apart. */
struct pj_q_table {
    int32_t rows, width, step, channels;
};

static void pj_q_table(const struct pj_q_table *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const uint8_t *table = in[1];
    uint8_t *y = out[0];
    const int32_t next = p->channels == 1 ? 0 : 256;
    int32_t row, i;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++, x += p->width, y += p->step)
        for (i = 0; i < p->width; i++) {
            const int32_t entry = i * next + x[i];
            y[i] = table[entry];
        }
}
