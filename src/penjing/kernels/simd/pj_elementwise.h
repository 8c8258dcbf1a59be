/* What the element-wise kernels share: copies of a few codes, and operators of two operands with broadcasting. */

/* n >= 1 codes, inline, as most pieces are shorter than a call takes. The last vector may overlap the one before. */
PJ_WORD void pj_copy_b(uint8_t *y, const uint8_t *x, int32_t n)
{
    int32_t i;
    if (n > 4 * PJ_BYTES) {
        memcpy(y, x, (size_t)n);
        return;
    }
    for (i = 0; i + PJ_BYTES < n; i += PJ_BYTES)
        pj_store_b(y + i, pj_load_b(x + i, PJ_BYTES), PJ_BYTES);
    if (n >= PJ_BYTES)
        pj_store_b(y + n - PJ_BYTES, pj_load_b(x + n - PJ_BYTES, PJ_BYTES), PJ_BYTES);
    else
        pj_store_b(y, pj_load_b(x, n), n);
}

/* PJ_BYTES neighbours of an operator with parameters p; an operand's step is 1, or 0 where its one code serves all. */
typedef pj_b pj_binary(const void *p, const uint8_t *a, int32_t step_a, const uint8_t *b, int32_t step_b);

/* n neighbours. The last vector of several may begin before the one in front of it ends. */
PJ_WORD void pj_binary_run(pj_binary *codes, const void *p, uint8_t *y, const uint8_t *a, int32_t step_a,
                           const uint8_t *b, int32_t step_b, int32_t n)
{
    uint8_t some_a[PJ_BYTES], some_b[PJ_BYTES];
    int32_t i, at;
    if (!step_a)
        memset(some_a, *a, PJ_BYTES), a = some_a;
    if (!step_b)
        memset(some_b, *b, PJ_BYTES), b = some_b;
    for (i = 0; n >= PJ_BYTES && i < n; i += PJ_BYTES) {
        at = i < n - PJ_BYTES ? i : n - PJ_BYTES;
        pj_store_b(y + at, codes(p, a + step_a * at, step_a, b + step_b * at, step_b), PJ_BYTES);
    }
    if (n >= PJ_BYTES)
        return;
    if (step_a)
        pj_store_b(some_a, pj_load_b(a, n), PJ_BYTES);
    if (step_b)
        pj_store_b(some_b, pj_load_b(b, n), PJ_BYTES);
    pj_store_b(y, codes(p, some_a, step_a, some_b, step_b), n);
}

/* All of y, by `codes`, whose struct of parameters is p. A step of 0 repeats; inner axes along which both operands go on
 * at one step are walked as one. */
PJ_WORD void pj_broadcast(pj_binary *codes, const void *p, const int32_t extent[6], const int32_t sa[6],
                          const int32_t sb[6], const void *const *in, void *const *out)
{
    uint8_t *y = out[0];
    int32_t e[6], step_a = 0, step_b = 0, n = 1, axis, i0, i1, i2, i3, i4;
    memcpy(e, extent, sizeof e);
    for (axis = 5; axis >= 0; axis--) {
        if (e[axis] == 1)
            continue;
        if (n == 1)
            step_a = sa[axis], step_b = sb[axis];
        else if (sa[axis] != step_a * n || sb[axis] != step_b * n)
            break;
        n *= e[axis], e[axis] = 1;
    }
    for (i0 = 0; i0 < e[0]; i0++)
        for (i1 = 0; i1 < e[1]; i1++)
            for (i2 = 0; i2 < e[2]; i2++)
                for (i3 = 0; i3 < e[3]; i3++)
                    for (i4 = 0; i4 < e[4]; i4++, y += n) {
                        const uint8_t *a = (const uint8_t *)in[0] + (int64_t)i0 * sa[0] + (int64_t)i1 * sa[1] +
                                           (int64_t)i2 * sa[2] + (int64_t)i3 * sa[3] + (int64_t)i4 * sa[4];
                        const uint8_t *b = (const uint8_t *)in[1] + (int64_t)i0 * sb[0] + (int64_t)i1 * sb[1] +
                                           (int64_t)i2 * sb[2] + (int64_t)i3 * sb[3] + (int64_t)i4 * sb[4];
                        pj_binary_run(codes, p, y, a, step_a, b, step_b, n);
                    }
}
