"""Seeded faults in the kernels of recurrent layers, and in what these share; see mutants.py."""

Mutant = tuple[str, str, str]

_PRODUCT = "(float)(acc[r][j] + bias[o + j]) * multiplier[o + j]"
_LSTM_GATE = """\
const float again = (float)acc * multiplier[row];
            gate[k] = pj_gate(k == 2 ? tanhs : sigmoids, read[row] + again);"""
_RESET = "again[2] = reset * again[2];"
_OUTSIDE = "(float)bias[2 * p->units + j] * multiplier[2 * p->units + j]"
_GRU_SUM = f"{_RESET}\n        n = pj_gate(tanhs, read[2 * p->units + j] + again[2]);"
_GIVEN = "p->stateful ? h0[n * p->h_step + j] : 0);\n            codes[j] = (int16_t)pj_clamp(pj_shift(h[j]"
_STORED = "y[(int64_t)t * p->units + j] = (uint8_t)(codes[j] + 128);"
_CODES = """\
            for (j = 0; j < p->units; j++) {
                codes[j] = (int16_t)pj_clamp(pj_shift(h[j] + 128, 8), -128, 127);"""
_RNN_SUM = "const float steps = read[(int64_t)(t - first) * p->units + j] + again;"


def _layer(gates: str, of_output: str) -> tuple[Mutant, ...]:
    """Faults that every recurrent kernel may have: `gates` products of x per unit."""
    return (
        ("blocks of a reversed layer begin late", "p->steps - step - some : step", "p->steps - step - 1 : step"),
        ("only the first block is multiplied", "step % block == 0", "step == 0"),
        ("the steps of a block are all its first", f"(int64_t)(t - first) * {gates}", "0"),
        ("reversed layers run forward", "p->reverse ? p->steps - 1 - step : step", "step"),
        ("samples share their steps", "(int64_t)n * p->steps * p->features", "(int64_t)0"),
        ("samples share a state", "h0[n * p->h_step + j]", "h0[j]"),
        ("given states are ignored", of_output, "0"),
        ("the recurrent bias is ignored", "+ bias[row];" if gates == "rows" else "+ bias[j];", ";"),
    )


MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "pj.h": (
        ("shifts round toward zero", "return x < 0 ? ~(~x >> n) : x >> n;", "return x / (1 << n);"),
        ("shifts of negative numbers are logical", "x < 0 ? ~(~x >> n)", "x < 0 ? (int32_t)((uint32_t)x >> n)"),
        ("no lower end of integers", "return x < low ? low : x > high ? high : x;", "return x > high ? high : x;"),
        ("no upper end of integers", "return x < low ? low : x > high ? high : x;", "return x < low ? low : x;"),
        ("gates saturate one late", "pj_round(steps, -1024.0f, 1023.0f)", "pj_round(steps, -1024.0f, 1024.0f)"),
        ("gates saturate early below", "pj_round(steps, -1024.0f, 1023.0f)", "pj_round(steps, -1016.0f, 1023.0f)"),
        ("gates are one entry off", "1023.0f) + 1024]", "1023.0f) + 1023]"),
        ("an odd step is dropped", "const int32_t some = steps - step < 2 ? 1 : 2;", "const int32_t some = 2;"),
        ("the bias follows the product", _PRODUCT,
         "(float)acc[r][j] * multiplier[o + j] + (float)bias[o + j] * multiplier[o + j]"),
        ("products of doubles", _PRODUCT, "(float)((double)(acc[r][j] + bias[o + j]) * multiplier[o + j])"),
        ("both steps are the first", "to[(int64_t)(step + r) * rows", "to[(int64_t)step * rows"),
        ("the zero point of x is ignored", "some * k, zero);", "some * k, 0);"),
    ),
    "q_lstm.c": (
        *_layer("rows", "p->stateful ? h0[n * p->h_step + j] - p->y_zero : 0"),
        ("gates are in another order", "k == 2 ? tanhs", "k == 3 ? tanhs"),
        ("forget and input change places", "gate[1] * c[j] + pj_shift(gate[0] * gate[2], 4)",
         "gate[0] * c[j] + pj_shift(gate[1] * gate[2], 4)"),
        ("the cell is rounded down", "4) + 16384, 15)", "4), 15)"),
        ("ties of the cell go down", "4) + 16384, 15)", "4) + 16383, 15)"),
        ("the new part is rounded", "pj_shift(gate[0] * gate[2], 4)", "pj_shift(gate[0] * gate[2] + 8, 4)"),
        ("the cell wraps", "(int16_t)pj_clamp(next, -32768, 32767)", "(int16_t)next"),
        ("tanh of the cell before", "pj_shift(c[j] + 8, 4)", "pj_shift(next + 80, 4)"),
        ("ties of the argument go down", "pj_shift(c[j] + 8, 4)", "pj_shift(c[j] + 7, 4)"),
        ("ties of h go down", "gate[3] * t + 4194304", "gate[3] * t + 4194303"),
        ("h is rounded down", "gate[3] * t + 4194304", "gate[3] * t"),
        ("the cell of all samples is one", "c0[n * p->c_step + j]", "c0[j]"),
        ("given cells are ignored", "p->stateful ? c0[n * p->c_step + j] : 0", "0"),
        ("the projection's zero point is 128", "pj_centre(h, codes, p->width, p->y_zero)",
         "pj_centre(h, codes, p->width, 128)"),
        ("the sum of gates is of doubles", _LSTM_GATE,
         "gate[k] = pj_gate(k == 2 ? tanhs : sigmoids, (float)((double)read[row] + (double)acc * multiplier[row]));"),
        ("the sum of gates is contracted", _LSTM_GATE,
         "gate[k] = pj_gate(k == 2 ? tanhs : sigmoids, __builtin_fmaf((float)acc, multiplier[row], read[row]));"),
    ),
    "q_gru.c": (
        *_layer("rows", "p->stateful ? h0[n * p->h_step + j] : 0"),
        ("reset and update change places", "read[j] + again[0]", "read[p->units + j] + again[1]"),
        ("the bias stands outside of the reset", _RESET,
         f"again[2] = reset * (again[2] - {_OUTSIDE}) + {_OUTSIDE};"),
        ("the reset is ignored", _RESET, ""),
        ("the reset is contracted", _GRU_SUM,
         "n = pj_gate(tanhs, __builtin_fmaf(reset, again[2], read[2 * p->units + j]));"),
        ("update and its rest change places", "z * h[j] + (32768 - z) * n", "z * n + (32768 - z) * h[j]"),
        ("the rest is one less", "(32768 - z)", "(32767 - z)"),
        ("ties of h go down", "* n + 16384, 15)", "* n + 16383, 15)"),
        ("h is rounded down", "* n + 16384, 15)", "* n, 15)"),
        ("codes of a given state are rounded down", f"{_GIVEN} + 128, 8)", f"{_GIVEN}, 8)"),
        ("the state is its codes", _STORED, f"{_STORED}\n                h[j] = (int16_t)(codes[j] * 256);"),
        ("codes wrap", _CODES, _CODES.replace("pj_clamp(", "(int8_t)(").replace(", -128, 127", "")),
    ),
    "q_rnn.c": (
        *_layer("p->units", "p->stateful ? h0[n * p->h_step + j] - p->y_zero : 0"),
        ("ties of tanh go down", "pj_gate(tanhs, steps) + 128, 8)", "pj_gate(tanhs, steps) + 127, 8)"),
        ("tanh wraps", "pj_clamp(pj_shift(pj_gate(tanhs, steps) + 128, 8), -128, 127)",
         "(int8_t)pj_shift(pj_gate(tanhs, steps) + 128, 8)"),
        ("no rectifier", "pj_round(steps, 0.0f, p->high)", "pj_round(steps, (float)-p->y_zero, p->high)"),
        ("no upper end", "pj_round(steps, 0.0f, p->high)", "pj_round(steps, 0.0f, 4000.0f)"),
        ("the sum is contracted", _RNN_SUM,
         "const float steps = __builtin_fmaf((float)acc, multiplier[j], read[(int64_t)(t - first) * p->units + j]);"),
    ),
    "q_widen.c": (
        ("an entry is a byte", "y[i] = table[x[i]]", "y[i] = (int8_t)table[x[i]]"),
        ("the code 255 has no entry", "table[x[i]]", "table[x[i] == 255 ? 254 : x[i]]"),
        ("the last element is dropped", "i < p->n;", "i < p->n - 1;"),
    ),
    "q_narrow.c": (
        ("the zero point is ignored", "p->multiplier, p->y_zero,", "p->multiplier, 0,"),
        ("no lower clamp", "p->low, p->high)", "-3e5f, p->high)"),
        ("no upper clamp", "p->low, p->high)", "p->low, 3e5f)"),
        ("codes are bytes", "pj_requantize(x[i],", "pj_requantize((int8_t)x[i],"),
        ("the last element is dropped", "i < p->n;", "i < p->n - 1;"),
    ),
}  # fmt: skip
