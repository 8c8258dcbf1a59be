"""Seeded faults of addition and multiplication, and of the broadcasting that they share."""

_SHARED = (
    ("the last vector of several begins where it likes", "i < n - PJ_BYTES ? i : n - PJ_BYTES", "n - PJ_BYTES"),
    ("what is behind the last whole vector is dropped", "n >= PJ_BYTES && i < n;", "i + PJ_BYTES <= n;"),
    ("a short run repeats its first code", "pj_load_b(a, n)", "pj_load_b(a, 1)"),
    ("b is not copied in a short run", "if (step_b)\n        pj_store_b(some_b, pj_load_b(b, n), PJ_BYTES);", ""),
    ("the one code of b is not spread", "memset(some_b, *b, PJ_BYTES)", "memcpy(some_b, b, 1)"),
    ("a moves though it has one code", "a + step_a * at, step_a, b + step_b * at", "a + at, step_a, b + step_b * at"),
    ("axes are joined where a repeats", "sa[axis] != step_a * n || ", ""),
    ("axes are joined where b repeats", " || sb[axis] != step_b * n", ""),
    ("axes are joined by their first", "n *= e[axis], e[axis] = 1;", "n *= e[axis];"),
    ("b's steps are a's", "step_a = sa[axis], step_b = sb[axis]", "step_a = step_b = sa[axis]"),
    ("a's outer stride is b's", "(int64_t)i2 * sa[2]", "(int64_t)i2 * sb[2]"),
    ("an axis is left out", "(int64_t)i3 * sb[3]", "0"),
)  # fmt: skip

_SUM = "pj_add_f(va, vb)"
_PRODUCT = "pj_mul_f(pj_mul_f(va, vb), pj_set_f(p->multiplier))"

_CODES = (
    ("vectors of b are one", "b + step_b * 16 * j", "b"),
    ("the output's zero point is ignored", "pj_round_b(v, p->y_zero)", "pj_round_b(v, 0)"),
)

MUTANTS = {
    "simd/pj_elementwise.h": (
        *_SHARED,
        ("a whole last vector is not copied", "    if (n >= PJ_BYTES)\n        pj_store_b(y + n",
         "    if (n > PJ_BYTES + 1)\n        pj_store_b(y + n"),
        ("the last of several vectors is dropped", "    if (n >= PJ_BYTES)\n        pj_store_b(y + n",
         "    if (n >= PJ_BYTES && n < 2 * PJ_BYTES)\n        pj_store_b(y + n"),
        ("the last vector of a copy is dropped", "i + PJ_BYTES < n; i += PJ_BYTES)",
         "i + PJ_BYTES + 8 < n; i += PJ_BYTES)"),
    ),
    "simd/q_add.c": (
        *_CODES,
        ("no clamp in float", f"pj_clamp_f({_SUM}, p->low, p->high)", _SUM),
        ("a's zero point is ignored", "p->a_zero)", "0)"),
        ("b's zero point is a's", "p->b_zero)", "p->a_zero)"),
        ("the scales change places", "pj_set_f(p->a_scale)", "pj_set_f(p->b_scale)"),
        ("no upper clamp", "p->low, p->high)", "p->low, 255.0f)"),
    ),
    "simd/q_mul.c": (
        *_CODES,
        ("no clamp in float", f"pj_clamp_f({_PRODUCT}, p->low, p->high)", _PRODUCT),
        ("a's zero point is ignored", "p->a_zero)", "0)"),
        ("b's zero point is a's", "p->b_zero)", "p->a_zero)"),
        ("the multiplier goes to one factor first", _PRODUCT,
         "pj_mul_f(pj_mul_f(va, pj_set_f(p->multiplier)), vb)"),
        ("no lower clamp", "p->low, p->high)", "-255.0f, p->high)"),
    ),
}  # fmt: skip
