/* q_transpose: u8 of rank 6; `extent` is the output's shape, `stride` the input's step along each output axis.
 * Axes that lie behind one another in both are walked as one. */
struct pj_q_transpose {
    int32_t extent[6], stride[6];
};

/* The two innermost axes. */
static void pj_q_transpose_plane(uint8_t *y, const uint8_t *x, int32_t rows, int64_t row, int32_t columns, int64_t column)
{
    int32_t i, j;
    if (column == 1) {
        for (i = 0; i < rows; i++, x += row, y += columns)
            memcpy(y, x, (size_t)columns);
    } else if (columns == 3 && row == 1) {
        pj_interleave_3(y, x, column, rows);
    } else {
        for (i = 0; i < rows; i++, x += row)
            for (j = 0; j < columns; j++)
                *y++ = x[j * column];
    }
}

static void pj_q_transpose(const struct pj_q_transpose *p, const void *const *in, void *const *out, void *scratch)
{
    uint8_t *y = out[0];
    int32_t e[6], s[6], axis, last = 6, a, b, c, d;
    PJ_UNUSED(scratch);
    for (axis = 0; axis < 6; axis++)
        e[axis] = 1, s[axis] = 1;
    for (axis = 5; axis >= 0; axis--) {
        if (p->extent[axis] == 1)
            continue;
        if (last < 6 && p->stride[axis] == s[last] * e[last])
            e[last] *= p->extent[axis];
        else
            last--, e[last] = p->extent[axis], s[last] = p->stride[axis];
    }
    for (a = 0; a < e[0]; a++)
        for (b = 0; b < e[1]; b++)
            for (c = 0; c < e[2]; c++)
                for (d = 0; d < e[3]; d++, y += (int64_t)e[4] * e[5]) {
                    const uint8_t *x = (const uint8_t *)in[0] + (int64_t)a * s[0] + (int64_t)b * s[1] +
                                       (int64_t)c * s[2] + (int64_t)d * s[3];
                    pj_q_transpose_plane(y, x, e[4], s[4], e[5], s[5]);
                }
}
