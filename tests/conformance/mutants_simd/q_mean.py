"""Seeded faults of the mean."""

_SUM = "pj_from_sums(sums + 16 * j, p->reduce * p->x_zero)"
_MEAN = f"pj_div_f(pj_mul_f({_SUM}, ratio), count)"

MUTANTS = {
    "simd/q_mean.c": (
        ("sums of 16 bits overflow", "r += PJ_SUMMED", "r += 2 * PJ_SUMMED"),
        ("more is summed than fits", "j < PJ_SUMMED && r + j < p->reduce", "r + j < p->reduce"),
        ("the last element is dropped", "r + j < p->reduce;", "r + j < p->reduce - (p->reduce > 1);"),
        ("only the last sums are kept", "pj_flush_h(sums, sum);",
         "memset(sums, 0, sizeof sums); pj_flush_h(sums, sum);"),
        ("the zero point is taken once", "p->reduce * p->x_zero", "p->x_zero"),
        ("the division comes first", _MEAN, f"pj_mul_f(pj_div_f({_SUM}, count), ratio)"),
        ("multiplied by a rounded inverse", _MEAN,
         f"pj_mul_f(pj_mul_f({_SUM}, ratio), pj_div_f(pj_set_f(1.0f), count))"),
        ("no clamp in float", "mean[j] = pj_clamp_f(mean[j], p->low, p->high);", ""),
        ("no lower clamp", "p->low, p->high", "-255.0f, p->high"),
        ("no upper clamp", "p->low, p->high", "p->low, 255.0f"),
        ("the output's zero point is ignored", "pj_round_b(mean, p->y_zero)", "pj_round_b(mean, 0)"),
        ("vectors after the first are not finished", "if (!j || 16 * j < lanes)", "if (!j)"),
        ("a tail of lanes is dropped", "if (c < p->inner)", "if (c < p->inner && c == 0)"),
        ("the second row is the first", "(int64_t)o * p->reduce * p->inner", "(int64_t)0 * p->reduce * p->inner"),
    ),
}  # fmt: skip
