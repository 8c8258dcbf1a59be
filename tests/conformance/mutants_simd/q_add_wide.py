"""Seeded faults of additions of 16 bits."""

MUTANTS = {
    "simd/q_add_wide.c": (
        ("b is read as 8 bits", "y, a, b, 0, n, 0, 1)", "y, a, b, 0, n, 0, 0)"),
        ("the last codes are left out", "for (; from < n; from++)", "for (; from < n - 1; from++)"),
        ("the zero point is ignored", "(const uint8_t *)codes + at, zero)", "(const uint8_t *)codes + at, 0)"),
        ("b has the scale of a", "from, p->b_zero, p->b_scale, b_wide", "from, p->b_zero, p->a_scale, b_wide"),
        ("operands that repeat are one row", "if (!repeats)", "if (1)"),
        ("only one that repeats counts", "(sa[axis] == 0 || sb[axis] == 0)", "sa[axis] == 0"),
    ),
}
