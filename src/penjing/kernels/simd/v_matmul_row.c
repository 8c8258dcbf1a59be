/* v_matmul_row: q_matmul, for a row or few, each of which meets rows of b as they lie. A row of a is staged as differences
 * from its zero point; what b's takes off is the same for the whole row. */
struct pj_v_matmul_row {
    int32_t extent[4], stride_a[4], stride_b[4];
    int32_t m, n, k, counted;
    float multiplier;
    int32_t a_zero, b_zero, y_zero;
    float low, high;
};

PJ_WORD void pj_v_matmul_row_finish(const struct pj_v_matmul_row *p, uint8_t *y, const int32_t *sums, int32_t less,
                                    int32_t lanes)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++)
        v[j] = pj_clamp_f(pj_mul_f(pj_from_sums(sums + 16 * j, less), pj_set_f(p->multiplier)), p->low, p->high);
    pj_store_first(y, pj_round_b(v, p->y_zero), lanes);
}

/* The products of a row with the first `filled` rows of b; those of the others are 0. */
static void pj_v_matmul_row_one(const struct pj_v_matmul_row *p, const uint8_t *a, const uint8_t *b, uint8_t *y,
                                int16_t *centred, int32_t filled)
{
    int32_t space[PJ_BYTES + 16] = {0}, *sums = pj_aligned(space), less, j;
    pj_centre(centred, a, p->k, p->a_zero);
    less = p->b_zero * (pj_sum_codes(a, p->k) - p->k * p->a_zero);
    for (j = 0; j < filled; j += PJ_BYTES) {
        const int32_t lanes = filled - j < PJ_BYTES ? filled - j : PJ_BYTES;
        pj_row_sums(sums, centred, b + (int64_t)j * p->k, p->k, lanes, p->k);
        pj_v_matmul_row_finish(p, y + j, sums, less, lanes);
    }
    memset(y + filled, pj_requantize(0, p->multiplier, p->y_zero, p->low, p->high), (size_t)(p->n - filled));
}

static void pj_v_matmul_row_part(const struct pj_v_matmul_row *p, const void *const *in, void *const *out,
                                 void *scratch, struct pj_part part)
{
    const int32_t *e = p->extent;
    const int32_t filled = p->counted ? pj_first_step(in[2], p->n - p->m) + p->m : p->n;
    int32_t i, row, end;
    pj_share(part, e[0] * e[1] * e[2] * e[3], &i, &end);
    for (; i < end; i++) {
        const uint8_t *a = (const uint8_t *)in[0] + pj_leading(i, e, p->stride_a);
        const uint8_t *b = (const uint8_t *)in[1] + pj_leading(i, e, p->stride_b);
        uint8_t *y = (uint8_t *)out[0] + (int64_t)i * p->m * p->n;
        for (row = 0; row < p->m; row++, a += p->k, y += p->n)
            pj_v_matmul_row_one(p, a, b, y, scratch, filled);
    }
}

PJ_WHOLE(v_matmul_row)
