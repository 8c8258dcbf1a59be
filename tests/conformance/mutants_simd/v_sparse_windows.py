"""Seeded faults of lists of windows and of the words that pick codes: see `mutants.py`."""

MUTANTS = {
    "simd/v_sparse_windows.c": (
        (
            "a block has one window less",
            "k->end = window + 2 * lists[block + 1];",
            "k->end = window + 2 * lists[block + 1] - 2 * (lists[block + 1] > lists[block]);",
        ),
        ("every block has the first one's windows", "k->entry = window + 2 * lists[block];", "k->entry = window;"),
        ("every block has the first one's steps", "(lists + head) + 128 * (int64_t)step[block];", "(lists + head);"),
        (
            "steps start right behind the windows",
            "(2 * (blocks + 1) + 2 * lists[blocks] + 15) / 16 * 16;",
            "2 * (blocks + 1) + 2 * lists[blocks];",
        ),
        (
            "a window has one step less",
            "for (left = window[1]; left > 0; left--, step += 128) {",
            "for (left = window[1] - 1; left > 0; left--, step += 128) {",
        ),
        (
            "every step has the first one's weights",
            "for (left = window[1]; left > 0; left--, step += 128) {",
            "for (left = window[1]; left > 0; left--) {",
        ),
        ("a window starts one code late", "*at0 = x0 + window[0], *at1", "*at0 = x0 + window[0] + 1, *at1"),
        ("the second group reads from the first", "at1 + (i - half) * pixel);", "at0 + (i - half) * pixel);"),
        (
            "a single pixel drops a last odd step",
            "        if (left > 0) {\n            a =",
            "        if (0) {\n            a =",
        ),
        (
            "a single pixel's last odd step has no place of its own",
            "            step += 128;\n        }\n    }\n    pj_sum",
            "        }\n    }\n    pj_sum",
        ),
        ("a single pixel drops every second step", "pj_sum_store(sums, pj_sum_add(a, b));", "pj_sum_store(sums, a);"),
        ("windows without a pattern are taken for some with one", "if (p->blocks_at > 0) {", "if (0) {"),
        ("the lists of blocks start one late", "in[1] + p->blocks_at, out,", "in[1] + p->blocks_at + 1, out,"),
    ),
    "isa/x86_avx512vnni.h": (
        ("picks and window are exchanged", "_mm512_permutexvar_epi8(picks, x)", "_mm512_permutexvar_epi8(x, picks)"),
        ("a window's weights are its picks", "_mm512_loadu_si512(step + 64);", "_mm512_loadu_si512(step);"),
    ),
    "isa/x86_avx2.h": (
        (
            "both parts of a step are the first",
            "_mm256_add_epi8(spread, _mm256_set1_epi16((int16_t)(2 * part)));",
            "spread;",
        ),
        (
            "both parts of a step have the first one's weights",
            "_mm256_add_epi8(spread, _mm256_set1_epi16((int16_t)(512 * part)));",
            "spread;",
        ),
        ("picks reach the codes of the first part", "p.base = step[2 * part] & 48;", "p.base = step[0] & 48;"),
        ("picks start with the window", "p.base = step[2 * part] & 48;", "p.base = 0;"),
        (
            "high halves of picked codes hold codes",
            "p.lo = _mm256_or_si256(p.lo, high);",
            "p.lo = p.lo;",
        ),
        (
            "picked weights are unsigned",
            "w.hi = _mm256_srai_epi16(_mm256_shuffle_epi8(b, from), 8);",
            "w.hi = _mm256_srli_epi16(_mm256_shuffle_epi8(b, from), 8);",
        ),
        (
            "upper channels have the lower ones' picks",
            "_mm256_shuffle_epi8(codes, picks.hi), w.hi",
            "_mm256_shuffle_epi8(codes, picks.lo), w.hi",
        ),
    ),
    "isa/scalar.h": (
        ("picks are left out", "(uint32_t)(x[picks[j]] * w[j]);", "(uint32_t)(x[j] * w[j]);"),
        ("a window's weights are its picks", "return (const int8_t *)step + 64;", "return (const int8_t *)step;"),
    ),
}
