"""Seeded faults of the SIMD kernels of recurrent layers: see `mutants.py`."""

Mutant = tuple[str, str, str]

MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "simd/pj_recurrent.h": (
        ("blocks of a reversed layer begin late", "r->reverse ? left - some : step;", "r->reverse ? left - 1 : step;"),
        ("rows of a tile are all the first", "pj_scale(sums + r * k.sums_row", "pj_scale(sums"),
        ("the last rows of x are not staged", "pj_linear_stage(staged, x, steps,", "pj_linear_stage(staged, x, 1,"),
    ),
    "simd/v_lstm.c": (
        ("ties of the argument go down", "pj_set_i(8)), 4)", "pj_set_i(7)), 4)"),
        ("the zero point of what is projected is 0", "= -sums[j];", "= 0;"),
        ("steps back skip a pair", "pairs - 1 - i", "pairs - 1 - (i > 0 ? i : 1 % pairs)"),
    ),
    "simd/v_gru.c": (
        ("the reset is ignored", "pj_mul_f(reset, pj_scale(sums + 32, multiplier + 32))",
         "pj_mul_f(pj_set_f(1.0f), pj_scale(sums + 32, multiplier + 32))"),
        ("ties of h go down", "pj_set_i(16384)", "pj_set_i(16383)"),
        ("ties of codes go down", "pj_set_i(128)", "pj_set_i(127)"),
    ),
    "simd/v_rnn.c": (
        ("samples share a state", "h0 + n * p->h_step", "h0"),
        ("ties of tanh go down", "pj_set_i(128)", "pj_set_i(127)"),
        ("no rectifier", "codes.zero = codes.qmin = p->y_zero", "codes.qmin = 0, codes.zero = p->y_zero"),
    ),
    "isa/x86_avx512vnni.h": (
        ("the last entry is the one before", "high = _mm512_set1_epi32(1023)", "high = _mm512_set1_epi32(1022)"),
    ),
    "isa/x86_avx2.h": (
        ("the first entry is the second", "low = _mm256_set1_epi32(-1024)", "low = _mm256_set1_epi32(-1023)"),
    ),
    "isa/scalar.h": (
        ("the whole is one less", "pj_set_i(32768)", "pj_set_i(32767)"),
    ),
}  # fmt: skip
