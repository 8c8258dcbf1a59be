/* v_attend_row: q_attend without a mask, for a row or few, each of which meets the values of a feature as they lie. The
 * weights of a row lie in scratch. */
struct pj_v_attend_row {
    int32_t extent[4], stride_v[4];
    int32_t rows, length, features, causal;
    int32_t counted;
    int32_t v_zero;
    float ratio;
    int32_t y_zero;
    float low, high;
};

PJ_WORD void pj_v_attend_row_finish(const struct pj_v_attend_row *p, uint8_t *y, const int32_t *sums, int32_t weight,
                                    int32_t lanes)
{
    pj_f v[PJ_BYTES / 16];
    int32_t j;
    PJ_UNROLL
    for (j = 0; j < PJ_BYTES / 16; j++) {
        v[j] = pj_mul_f(pj_from_sums(sums + 16 * j, p->v_zero * weight), pj_set_f(p->ratio));
        v[j] = pj_clamp_f(pj_div_f(v[j], pj_set_f((float)weight)), p->low, p->high);
    }
    pj_store_first(y, pj_round_b(v, p->y_zero), lanes);
}

static void pj_v_attend_row_one(const struct pj_v_attend_row *p, const pj_exp *table, const uint8_t *x,
                                const uint8_t *v, uint8_t *y, int32_t seen, int16_t *weights)
{
    int32_t space[PJ_BYTES + 16] = {0}, *sums = pj_aligned(space), j;
    const int32_t weight = pj_weigh_row(weights, table, x, seen);
    for (j = 0; j < p->features; j += PJ_BYTES) {
        const int32_t lanes = p->features - j < PJ_BYTES ? p->features - j : PJ_BYTES;
        pj_row_sums(sums, weights, v + (int64_t)j * p->length, p->length, lanes, seen);
        pj_v_attend_row_finish(p, y + j, sums, weight, lanes);
    }
}

static void pj_v_attend_row_part(const struct pj_v_attend_row *p, const void *const *in, void *const *out,
                                 void *scratch, struct pj_part part)
{
    const int32_t *e = p->extent;
    const int32_t first = p->counted ? pj_first_step(in[3], p->length - p->rows) : 0;
    const pj_exp table = pj_exp_load(in[2]);
    int32_t i, row, end;
    pj_share(part, e[0] * e[1] * e[2] * e[3], &i, &end);
    for (; i < end; i++) {
        const uint8_t *x = (const uint8_t *)in[0] + (int64_t)i * p->rows * p->length;
        const uint8_t *v = (const uint8_t *)in[1] + pj_leading(i, e, p->stride_v);
        uint8_t *y = (uint8_t *)out[0] + (int64_t)i * p->rows * p->features;
        for (row = 0; row < p->rows; row++, x += p->length, y += p->features)
            pj_v_attend_row_one(p, &table, x, v, y,
                                p->causal && first + row < p->length ? first + row + 1 : p->length, scratch);
    }
}

PJ_WHOLE(v_attend_row)
