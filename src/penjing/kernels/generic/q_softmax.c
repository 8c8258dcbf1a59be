/* q_softmax: x u8 (rows, length), table s32 (256): exp of a code's distance from the row's largest, in units of 2^-15.
 * y = round(min(float(e) * 256 / float(sum of e), 255)). A row is read whole before it is written: in place is safe. */
struct pj_q_softmax {
    int32_t rows, length;
};

static void pj_q_softmax(const struct pj_q_softmax *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int32_t *table = in[1];
    uint8_t *y = out[0];
    int32_t row, i;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++, x += p->length, y += p->length) {
        int32_t top = 0, sum = 0;
        float total;
        for (i = 0; i < p->length; i++)
            top = x[i] > top ? x[i] : top;
        for (i = 0; i < p->length; i++)
            sum += table[top - x[i]];
        total = (float)sum;
        for (i = 0; i < p->length; i++)
            y[i] = (uint8_t)pj_round((float)table[top - x[i]] * 256.0f / total, 0.0f, 255.0f);
    }
}
