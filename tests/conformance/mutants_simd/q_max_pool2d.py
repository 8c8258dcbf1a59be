"""Seeded faults of the maximum over windows."""

MUTANTS = {
    "simd/q_max_pool2d.c": (
        ("the top row lies outside", "while (start + *first * dilation < 0)", "while (start + *first * dilation <= 0)"),
        ("the last tap lies outside", "dilation >= size)", "dilation >= size - 1)"),
        ("taps outside are not found", "while (start + (*end - 1) * dilation >= size)\n        --*end;", ""),
        ("dilation is ignored down", "(int64_t)p->dilation_h * p->iw", "(int64_t)p->iw"),
        ("dilation is ignored across", "k.column = (int64_t)p->dilation_w * p->c", "k.column = p->c"),
        ("strides change places", "y0 = oy * p->stride_h", "y0 = oy * p->stride_w"),
        ("the last column of taps is dropped", "c < columns;", "c < columns - (columns > 1);"),
        ("a row of taps is read for another", "x + r * k->row + c", "x + (r ? r - 1 : 0) * k->row + c"),
        ("a tail of channels is dropped", "if (c < channels)", "if (c < channels && c == 0)"),
        ("the first vector of channels serves all", "k, y + c, x + c, rows, columns, pixels, PJ_BYTES",
         "k, y + c, x, rows, columns, pixels, PJ_BYTES"),
        ("several pixels from one row of taps", "pj_load_b(next + k->row, PJ_BYTES)", "pj_load_b(next, PJ_BYTES)"),
        ("several pixels of 16 channels at any stride", "p->c == 16 && p->stride_w == 2", "p->c == 16"),
        ("several pixels of any number of channels", "p->c == 16 && p->stride_w", "p->stride_w"),
        ("several pixels of dilated windows", "p->stride_w == 2 && reach == 1", "p->stride_w == 2"),
        ("the pixels behind them begin one early", "y + done * k.to, x + done * k.from",
         "y + done * k.to, x + (done ? done - 1 : 0) * k.from"),
        ("a row's last pixels hang over", "(p->iw - 1 - reach - x0) / p->stride_w + 1",
         "(p->iw - 1 - reach - x0) / p->stride_w + 2"),
        ("the batch is ignored", "(int64_t)n * p->ih", "(int64_t)0 * p->ih"),
    ),
}  # fmt: skip
