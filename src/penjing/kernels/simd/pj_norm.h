/* What norms share: the root by one instruction, and rows that are rewritten a vector at a time. */

/* pj_inverse_norm of pj.h with shifts instead of loops. h is the least with w * 4^h >= 2^60. */
PJ_WORD float pj_inverse_norm_fast(uint64_t v, int32_t shift, int32_t high, int32_t low)
{
    int32_t zeros, h;
    v = shift >= 0 ? v << shift : v >> (shift > -63 ? -shift : 63);
    v += ((uint64_t)high << 31) + (uint64_t)low;
    zeros = __builtin_clzll(v ? v : 1);
    h = (zeros - 2) / 2;
    return (float)(INT32_C(1) << h) / (float)(int32_t)pj_floor_root((v ? v : 1) << 2 * h);
}

/* How a row becomes codes: (factor * x - less) * r * a [+ b]. */
struct pj_norm_row {
    int32_t factor, less;
    float r;
    const float *a, *b;
    int32_t zero;
    float low, high;
};

/* PJ_BYTES codes of x, which is u8, or s16 if wide. */
PJ_WORD pj_b pj_norm_codes(const struct pj_norm_row *k, const void *x, const float *a, const float *b,
                           const int32_t wide)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        v[j] = wide ? pj_from_wide((const int16_t *)x + 16 * j, k->factor, k->less)
                    : pj_from_multiples((const uint8_t *)x + 16 * j, k->factor, k->less);
        v[j] = pj_mul_f(v[j], pj_set_f(k->r));
        v[j] = pj_mul_f(v[j], pj_load_f(a + 16 * j));
        if (b)
            v[j] = pj_add_f(v[j], pj_load_f(b + 16 * j));
        v[j] = pj_clamp_f(v[j], k->low, k->high);
    }
    return pj_round_b(v, k->zero);
}

/* n codes, perhaps in place unless wide: the tail is read before what overlaps it is written. */
PJ_WORD void pj_norm_write(const struct pj_norm_row *row, uint8_t *y, const void *x, int32_t n, const int32_t wide)
{
    const struct pj_norm_row k = *row; /* which no store can change */
    const uint8_t *from = x;
    const int32_t tail = n % PJ_BYTES, each = wide ? 2 : 1;
    int32_t i;
    for (i = 0; i + PJ_BYTES <= n; i += PJ_BYTES, from += PJ_BYTES * each)
        pj_store_b(y + i, pj_norm_codes(&k, from, k.a + i, k.b ? k.b + i : 0, wide), PJ_BYTES);
    if (tail) {
        int16_t some[PJ_BYTES] = {0};
        float a[PJ_BYTES] = {0}, b[PJ_BYTES] = {0};
        memcpy(some, from, (size_t)(tail * each));
        memcpy(a, k.a + i, 4 * (size_t)tail);
        if (k.b)
            memcpy(b, k.b + i, 4 * (size_t)tail);
        pj_store_first(y + i, pj_norm_codes(&k, some, a, k.b ? b : 0, wide), tail);
    }
}
