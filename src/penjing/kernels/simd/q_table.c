/* q_table: x u8 (rows, channels), table u8 (channels, 256); one channel means one table for all. */
struct pj_q_table {
    int32_t rows, channels;
};

static void pj_q_table(const struct pj_q_table *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const uint8_t *table = in[1];
    uint8_t *y = out[0];
    int32_t row, c;
    PJ_UNUSED(scratch);

    if (p->channels == 1) {
        pj_look_up(y, x, p->rows, table);
        return;
    }
    for (row = 0; row < p->rows; row++, x += p->channels, y += p->channels)
        for (c = 0; c < p->channels; c++)
            y[c] = table[c * 256 + x[c]];
}
