"""Seeded faults of kernels in float32, as in `mutants.py`."""

Mutant = tuple[str, str, str]

_BROADCAST: tuple[Mutant, ...] = (
    ("a's outer stride is b's", "(int64_t)i1 * sa[1]", "(int64_t)i1 * sb[1]"),
    ("an axis is left out", "(int64_t)i4 * sb[4]", "0"),
    ("b has no inner stride", "b[j * sb[5]]", "b[j]"),
    ("no upper clamp", "p->low, p->high)", "p->low, FLT_MAX)"),
    ("no lower clamp", "p->low, p->high)", "-FLT_MAX, p->high)"),
)

MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "pj_floats.h": (
        ("a sum of floats backwards", "a[j] += x[i] * w[j];", "a[j] += x[k - 1 - i] * w[j + (k - 1 - 2 * i) * oc];"),
        (
            "floats are added unrounded",
            "a[j] += x[i] * w[j];",
            "a[j] = (float)((double)a[j] + (double)x[i] * (double)w[j]);",
        ),
        ("a channel of its own is the first", "a[j] += x[j] * w[j];", "a[j] += x[0] * w[j];"),
        ("a tail reads the first of its weights", "        acc[j] += x[j] * w[j];", "        acc[j] += x[j] * w[0];"),
        ("no bias", "a[j] = pj_f_clamp(acc[j] + bias[j], low, high);", "a[j] = pj_f_clamp(acc[j], low, high);"),
        ("no bias in a tail", "y[j] = pj_f_clamp(acc[j] + bias[j],", "y[j] = pj_f_clamp(acc[j],"),
        (
            "floats of a tail lack the last product",
            "    for (i = 0; i < k; i++, w += oc)\n        for (j = 0; j < lanes",
            "    for (i = 0; i < k - (k > 1); i++, w += oc)\n        for (j = 0; j < lanes",
        ),
        ("the weights of a tail are the first's", "acc[j] += x[i] * w[j];", "acc[j] += x[i] * w[0];"),
        ("what is no number stays so", "value = value >= low ? value : low;", "value = value < low ? low : value;"),
        (
            "infinity stays so",
            "return value > high ? high : value;",
            "return value > high && value < 3e38f ? high : value;",
        ),
    ),
    "f_add.c": (*_BROADCAST, ("the sign is ignored", "p->sign * b", "b")),
    "f_mul.c": _BROADCAST,
    "f_linear.c": (
        ("the bias of the first block", "acc, bias + o, lanes", "acc, bias, lanes"),
        ("the second block reads the first's weights", "w + o, p->k", "w, p->k"),
        ("rows read the first", "x += p->k, ", ""),
        ("no lower clamp", "p->low, p->high)", "-FLT_MAX, p->high)"),
    ),
    "f_conv2d.c": (
        ("rows beyond the image are read as the last", "if (iy < 0 || iy >= p->ih)\n            continue;", ""),
        ("columns before the image are read", "if (ix < 0 || ix >= p->iw)", "if (ix >= p->iw)"),
        ("neighbours are read over the edge", "p->kw - kx < p->iw - ix ? p->kw - kx : p->iw - ix", "p->kw - kx"),
        ("dilated columns are taken for neighbours", "p->groups == 1 && p->dilation_w == 1;", "p->groups == 1;"),
        ("groups are taken for neighbours", "p->groups == 1 && p->dilation_w == 1;", "p->dilation_w == 1;"),
        ("the dilation of rows is that of columns", "ky * p->dilation_h", "ky * p->dilation_w"),
        ("all groups read the first", "o / per_out * per_in, per_in", "0, per_in"),
        ("the second image is the first", "x += (int64_t)p->ih * p->iw * p->ic", "x += 0"),
        ("the bias of the first block", "acc, bias + o, lanes", "acc, bias, lanes"),
        (
            "the second block of channels is the first",
            "pj_f_products(acc, from, by,",
            "pj_f_products(acc, from - c, by,",
        ),
    ),
    "f_max_pool2d.c": (
        ("nothing below 0 wins", "y[c] = -FLT_MAX;", "y[c] = 0;"),
        ("of equal ones the last wins", "from[c] > y[c] ?", "from[c] >= y[c] ?"),
        ("the smallest wins", "from[c] > y[c] ?", "from[c] < y[c] ?"),
        ("no dilation", "kx * p->dilation_w", "kx"),
    ),
    "f_mean.c": (
        ("backwards", "acc[j] += from[j];", "acc[j] += from[j + (p->reduce - 1 - 2 * r) * p->inner];"),
        ("by the inverse", "acc[j] / count", "acc[j] * (1 / count)"),
        ("divided before the sum", "acc[j] += from[j];", "acc[j] += from[j] / count;"),
        ("no lower clamp", "p->low, p->high)", "-FLT_MAX, p->high)"),
    ),
    "f_quantize.c": (
        (
            "by the inverse",
            "codes[i] = (uint8_t)(pj_round(x[i] / k.scale,",
            "codes[i] = (uint8_t)(pj_round(x[i] * (1 / k.scale),",
        ),
        (
            "no zero point",
            "wide[i] = (int16_t)(pj_round(x[i] / k.scale, k.low, k.high) + k.zero)",
            "wide[i] = (int16_t)(pj_round(x[i] / k.scale, k.low, 3e4f))",
        ),
        ("always 8 bits", "if (k.wide)", "if (0)"),
    ),
    "f_dequantize.c": (
        ("no zero point", " - k.zero", ""),
        ("the zero point behind the product", "(x[i] - k.zero) * k.scale", "x[i] * k.scale - (float)k.zero * k.scale"),
        ("no scale", " * k.scale", ""),
    ),
    "f_transpose.c": (
        ("two strides change places", "(int64_t)b * s[1]", "(int64_t)b * s[2]"),
        ("the inner stride is 1", "from[(int64_t)j * s[5]]", "from[j]"),
        ("an axis is left out", "(int64_t)i * s[4]", "0"),
    ),
}
