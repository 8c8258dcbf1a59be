"""Seeded faults of the SIMD kernels of recurrent layers: see `mutants.py`."""

Mutant = tuple[str, str, str]

_STATES = ("samples share a state", "h0 + n * p->h_step", "h0")

MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "simd/pj_recurrent.h": (
        ("blocks of a reversed layer begin late", "r->reverse ? left - some : step;", "r->reverse ? left - 1 : step;"),
        ("a pair's second block is not there", "g->blocks - block < 2 ? 1 : 2", "1 + 0 * g->blocks"),
        ("all tiles have the bias of the first", "bias + 16 * v, sums + 16 * v, 1, PJ_GATES_1",
         "bias, sums + 16 * v, 1, PJ_GATES_1"),
        ("rows of a tile are all the first", "pj_scale(sums + r * k.sums_row", "pj_scale(sums"),
        ("the last rows of x are not staged", "pj_linear_stage(staged, x, steps,", "pj_linear_stage(staged, x, 1,"),
    ),
    "simd/v_lstm.c": (
        _STATES,
        ("outputs lie in the order of steps", "pj_reading_time(&r, step)", "step"),
        ("ties of the cell go down", "pj_set_i(16384)", "pj_set_i(16383)"),
        ("ties of the argument go down", "pj_set_i(8)), 4)", "pj_set_i(7)), 4)"),
        ("the zero point of what is projected is 0", "= -sums[j];", "= 0;"),
        ("steps back skip a pair", "pairs - 1 - i", "pairs - 1 - (i > 0 ? i : 1 % pairs)"),
    ),
    "simd/v_gru.c": (
        _STATES,
        ("the reset is ignored", "pj_mul_f(reset, pj_scale(sums + 32, multiplier + 32))",
         "pj_mul_f(pj_set_f(1.0f), pj_scale(sums + 32, multiplier + 32))"),
        ("ties of h go down", "pj_set_i(16384)", "pj_set_i(16383)"),
        ("ties of codes go down", "pj_set_i(128)", "pj_set_i(127)"),
    ),
    "simd/v_rnn.c": (
        _STATES,
        ("ties of tanh go down", "pj_set_i(128)", "pj_set_i(127)"),
        ("no rectifier", "codes.zero = codes.qmin = p->y_zero", "codes.qmin = 0, codes.zero = p->y_zero"),
    ),
    "isa/x86_avx512vnni.h": (
        ("entries of even places are those before", "_mm512_testn_epi32_mask(at, _mm512_set1_epi32(1))",
         "_mm512_test_epi32_mask(at, _mm512_set1_epi32(1))"),
        ("the last entry is the one before", "high = _mm512_set1_epi32(1023)", "high = _mm512_set1_epi32(1022)"),
        ("products keep what lies below", "_mm512_and_si512(a, _mm512_set1_epi32(-65536))", "a"),
    ),
    "isa/x86_avx2.h": (
        ("entries of even places are those before", "_mm256_andnot_si256(_mm256_slli_epi32(at, 4)",
         "_mm256_and_si256(_mm256_slli_epi32(at, 4)"),
        ("the first entry is the second", "low = _mm256_set1_epi32(-1024)", "low = _mm256_set1_epi32(-1023)"),
        ("a cell's halves change places", "_mm256_packs_epi32(v.lo, v.hi), 0xD8));\n}\n\nPJ_WORD pj_i pj_add_i",
         "_mm256_packs_epi32(v.hi, v.lo), 0xD8));\n}\n\nPJ_WORD pj_i pj_add_i"),
    ),
    "isa/scalar.h": (
        ("the whole is one less", "pj_set_i(32768)", "pj_set_i(32767)"),
    ),
}  # fmt: skip
