/* q_rotary: x u8 (outer, steps, inner, features), angles s16 (all_steps, 2, features), position s32 if counted; y as x.
 * With c = x - x_zero and p(i) the feature of the other half, or the neighbour if interleaved,
 *   y = round(float(cos * c[i] + sin * c[p(i)]) * multiplier),   the angles being those of step position + t. */
struct pj_q_rotary {
    int32_t outer, steps, inner, features, all_steps, interleaved, counted;
    float multiplier;
    int32_t x_zero, y_zero;
    float low, high;
};

static void pj_q_rotary_row(const struct pj_q_rotary *p, const uint8_t *x, const int16_t *cosine, uint8_t *y)
{
    const int16_t *sine = cosine + p->features;
    const int32_t half = p->features / 2;
    int32_t i;
    for (i = 0; i < p->features; i++) {
        const int32_t partner = p->interleaved ? i ^ 1 : i < half ? i + half : i - half;
        const int32_t acc = cosine[i] * (x[i] - p->x_zero) + sine[i] * (x[partner] - p->x_zero);
        y[i] = pj_requantize(acc, p->multiplier, p->y_zero, p->low, p->high);
    }
}

static void pj_q_rotary(const struct pj_q_rotary *p, const void *const *in, void *const *out, void *scratch)
{
    const uint8_t *x = in[0];
    const int16_t *angles = in[1];
    const int32_t first = p->counted ? pj_first_step(in[2], p->all_steps - p->steps) : 0;
    uint8_t *y = out[0];
    int32_t o, t, i;
    PJ_UNUSED(scratch);

    for (o = 0; o < p->outer; o++)
        for (t = first; t < first + p->steps; t++)
            for (i = 0; i < p->inner; i++, x += p->features, y += p->features)
                pj_q_rotary_row(p, x, angles + (int64_t)t * 2 * p->features, y);
}
