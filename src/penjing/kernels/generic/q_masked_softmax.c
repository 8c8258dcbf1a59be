/* q_masked_softmax: x u8 (rows, length), table s32 (256), mask u8 (mask_rows, length) if mask_rows > 0: as q_softmax over
 * the elements that are kept; the others become 0. The mask repeats every mask_rows rows. Where causal_rows > 0, row i of
 * as many keeps no more than its elements 0..i. A row is read whole before it is written: in place is safe. */
struct pj_q_masked_softmax {
    int32_t rows, length;
    int32_t causal_rows, mask_rows;
};

static void pj_q_masked_softmax(const struct pj_q_masked_softmax *p, const void *const *in, void *const *out,
                                void *scratch)
{
    const uint8_t *x = in[0];
    const int32_t *table = in[1];
    uint8_t *y = out[0];
    int32_t row, i;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++, x += p->length, y += p->length) {
        const uint8_t *mask = p->mask_rows ? (const uint8_t *)in[2] + (int64_t)(row % p->mask_rows) * p->length : 0;
        const int32_t last = p->causal_rows ? row % p->causal_rows : p->length;
        const int32_t end = last < p->length ? last + 1 : p->length;
        int32_t top = 0, sum = 0;
        float total;
        for (i = 0; i < end; i++)
            if (!mask || mask[i])
                top = x[i] > top ? x[i] : top;
        for (i = 0; i < end; i++)
            if (!mask || mask[i])
                sum += table[top - x[i]];
        total = (float)sum;
        for (i = 0; i < end; i++)
            y[i] = !mask || mask[i] ? (uint8_t)pj_round((float)table[top - x[i]] * 256.0f / total, 0.0f, 255.0f) : 0;
        memset(y + end, 0, (size_t)(p->length - end));
    }
}
