"""Seeded faults of the mean over windows."""

MUTANTS = {
    "simd/q_avg_pool2d.c": (
        ("sums of 16 bits overflow", "room = PJ_SUMMED, r, j", "room = 2 * PJ_SUMMED, r, j"),
        ("later sums of 16 bits overflow", "room = PJ_SUMMED - 1", "room = 2 * PJ_SUMMED"),
        ("sums are kept after they are added", "sum = pj_zero_h(), room =", "room ="),
        ("the last column is dropped", "j < columns; j++", "j < columns - (columns > 1); j++"),
        ("rows are as wide as windows", "((int64_t)r * p->iw + j)", "((int64_t)r * p->kw + j)"),
        ("the zero point is taken for counted padding", "rows * columns * p->x_zero", "count * p->x_zero"),
        ("the division comes first",
         "pj_div_f(pj_mul_f(pj_from_sums(sums + 16 * j, rows * columns * p->x_zero), ratio), divisor)",
         "pj_mul_f(pj_div_f(pj_from_sums(sums + 16 * j, rows * columns * p->x_zero), divisor), ratio)"),
        ("no clamp in float", "mean[j] = pj_clamp_f(mean[j], p->low, p->high);", ""),
        ("the output's zero point is ignored", "pj_round_b(mean, p->y_zero)", "pj_round_b(mean, 0)"),
        ("vectors after the first are not finished", "if (!j || 16 * j < lanes)", "if (!j)"),
        ("padding is always counted", "above = p->count_padding ? -p->pad_top : 0", "above = -p->pad_top"),
        ("padding is never counted", "before = p->count_padding ? -p->pad_left : 0", "before = 0"),
        ("bottom padding is not counted", "(p->count_padding ? p->pad_bottom : 0)", "0"),
        ("the overhang is counted", "start + k < high ? start + k : high", "start + k"),
        ("the first element is the window's", "*first = start > low ? start : low", "*first = start"),
        ("strides change places", "ox * p->stride_w", "ox * p->stride_h"),
        ("a tail of channels is dropped", "if (c < p->c)", "if (c < p->c && c == 0)"),
        ("the batch is ignored", "(int64_t)n * p->ih", "(int64_t)0 * p->ih"),
    ),
}  # fmt: skip
