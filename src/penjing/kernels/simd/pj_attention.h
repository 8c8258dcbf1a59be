/* What products of two activations share: rows of codes packed as weights are, and the walk over leading axes. */

/* Rows of a that meet one packed block before its neighbour is packed again: their sums lie on the stack. */
#define PJ_MATMUL_RUN 128

/* Up to 16 rows of n codes, `step` bytes apart, as (groups of 4 codes, 16 rows, 4): each code ^ flip, and 0 behind a row's
 * end. Rows that do not exist repeat the last one. */
PJ_SHARED void pj_pack_quads(uint8_t *to, const uint8_t *x, int64_t step, int32_t rows, int32_t n, uint32_t flip)
{
    int32_t r, i;
    for (r = 0; r < 16; r++, to += 4) {
        const uint8_t *from = x + (r < rows ? r : rows - 1) * step;
        uint8_t *at = to;
        uint32_t four;
        for (i = 0; i + 4 <= n; i += 4, at += 64) {
            memcpy(&four, from + i, 4);
            four ^= flip;
            memcpy(at, &four, 4);
        }
        if (i < n) {
            four = flip;
            pj_copy((uint8_t *)&four, from + i, n - i);
            four ^= flip;
            memcpy(at, &four, 4);
        }
    }
}

/* All blocks of 16 rows of `rows` <= PJ_BYTES. */
PJ_INLINE void pj_pack_blocks(uint8_t *to, const uint8_t *x, int32_t rows, int32_t n, uint32_t flip)
{
    int32_t r;
    for (r = 0; r < rows; r += 16, to += 16 * ((n + 3) / 4 * 4))
        pj_pack_quads(to, x + (int64_t)r * n, n, rows - r < 16 ? rows - r : 16, n, flip);
}

/* Where an operand lies at the place `index` of four leading axes, along which it may repeat. */
PJ_INLINE int64_t pj_leading(int32_t index, const int32_t extent[4], const int32_t stride[4])
{
    int64_t at = 0;
    int32_t axis;
    for (axis = 3; axis >= 0; axis--) {
        at += (int64_t)(index % extent[axis]) * stride[axis];
        index /= extent[axis];
    }
    return at;
}

/* How many of `left` blocks a tile takes that can take `most`: 4, 2 or 1. */
PJ_INLINE int32_t pj_blocks_of(int32_t left, const int32_t most)
{
    return left >= 4 && most >= 4 ? 4 : left >= 2 && most >= 2 ? 2 : 1;
}

/* The first n codes of a vector: pj_store_b wants those of a vector that pj_load_b read. */
PJ_WORD void pj_store_first(uint8_t *y, pj_b v, int32_t n)
{
    uint8_t some[PJ_BYTES];
    if (PJ_MASKS || n == PJ_BYTES) {
        pj_store_b(y, v, n);
        return;
    }
    pj_store_b(some, v, PJ_BYTES);
    pj_copy(y, some, n);
}

#if !PJ_MASKS
/* exp of codes by a table: see x86_avx512vnni/attention.h. */
typedef const int32_t *pj_exp;

PJ_WORD pj_exp pj_exp_load(const int32_t *table)
{
    return table;
}

PJ_SHARED int32_t pj_weigh(int16_t *weights, const pj_exp *table, const uint8_t *x, const uint8_t *mask, int32_t seen,
                           int32_t quads)
{
    int32_t top = 0, sum = 0, i;
    for (i = 0; i < seen; i++)
        if (!mask || mask[i])
            top = x[i] > top ? x[i] : top;
    for (i = 0; i < 4 * quads; i++) {
        const int32_t e = i < seen && (!mask || mask[i]) ? (*table)[top - x[i]] : 0;
        weights[2 * (quads * (i & 1) + i / 4) + (i >> 1 & 1)] = (int16_t)e;
        sum += e;
    }
    return sum;
}

PJ_SHARED int32_t pj_weigh_row(int16_t *weights, const pj_exp *table, const uint8_t *x, int32_t seen)
{
    int32_t top = 0, sum = 0, i;
    for (i = 0; i < seen; i++)
        top = x[i] > top ? x[i] : top;
    for (i = 0; i < seen; i++) {
        const int32_t e = (*table)[top - x[i]];
        weights[i] = (int16_t)e;
        sum += e;
    }
    return sum;
}
#endif

/* Sums of n products of a row `a` with `rows` <= PJ_BYTES rows, `step` codes apart. */
PJ_INLINE void pj_row_sums(int32_t *sums, const int16_t *a, const uint8_t *b, int64_t step, int32_t rows, int32_t n)
{
    int32_t r;
    for (r = 0; r + 4 <= rows; r += 4)
        pj_row_dots(sums + r, a, b + r * step, step, n);
    for (; r < rows; r++) { /* one row, four times */
        int32_t four[4];
        pj_row_dots(four, a, b + r * step, 0, n);
        sums[r] = four[0];
    }
}
