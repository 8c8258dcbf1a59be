"""Seeded faults of what sparse kernels share, and of lists of blocks: see `mutants.py`."""

MUTANTS = {
    "simd/pj_sparse.h": (
        ("a part begins at the top", "for (by = down[0];", "for (by = 0;"),
        ("a part begins at the left", "for (bx = across[0];", "for (bx = 0;"),
        (
            "the border has code 0",
            "pj_sparse_border(to, at, p->x_zero, left * ic, bytes);",
            "pj_sparse_border(to, at, 0, left * ic, bytes);",
        ),
        ("rows below the input are read", "if (r < 0 || r >= p->ih) {", "if (r < 0) {"),
        ("rows above the input are read", "if (r < 0 || r >= p->ih) {", "if (r >= p->ih) {"),
        ("columns of a row are staged one off", "x0 + left) * ic, inside", "x0 + left + (left > 0)) * ic, inside"),
        (
            "staged rows lie side by side",
            "r < y0 + rows; r++, at += p->pitch)",
            "r < y0 + rows; r++, at += columns * ic)",
        ),
        ("an odd tile's second group starts one late", "x + second * k->pixel, h,", "x + h * k->pixel, h,"),
        (
            "an odd tile's second group is stored one late",
            "pair ? line : (int64_t)second * f.step;",
            "pair ? line : (int64_t)h * f.step;",
        ),
        ("the second row of a pair is the first", "tile(k, x, pair ? x + k->row :", "tile(k, x, pair ? x :"),
        ("the second group has no residual of its own", "g.residual = f.residual ? f.residual + next : 0;", ";"),
        (
            "tiles do not move on in the residual",
            "f.residual ? f.residual + (int64_t)pixels * f.step : 0;",
            "f.residual ? f.residual : 0;",
        ),
        (
            "rows do not move on in the residual",
            "f.residual ? f.residual + step * line : 0;",
            "f.residual ? f.residual : 0;",
        ),
        ("a pair counts as one row", "f.y += step * line;", "f.y += line;"),
        (
            "a last row is paired with one that does not exist",
            "step = pairs && r + 1 < rows ? 2 : 1;",
            "step = pairs ? 2 : 1;",
        ),
        ("the stride between rows is ignored", "k.row = (int64_t)p->stride_h * p->pitch;", "k.row = p->pitch;"),
        ("the stride between pixels is ignored", "k.pixel = p->stride_w * ic,", "k.pixel = ic,"),
        ("a band's first column is that of the row", "x0 = bx * p->stride_w - p->pad_left;", "x0 = -p->pad_left;"),
        ("a band's columns are stored at the start of the row", "* line + (int64_t)bx * p->oc;", "* line;"),
        (
            "every image is the first",
            "(const uint8_t *)in[0] + (int64_t)n * p->ih * p->iw * ic;",
            "(const uint8_t *)in[0];",
        ),
        ("the last block has 16 channels", "f.lanes = p->oc - at < 16 ? p->oc - at : 16;", "f.lanes = 16;"),
        (
            "every block has the first one's bias",
            "k.bias = (const int32_t *)in[2] + at;",
            "k.bias = (const int32_t *)in[2];",
        ),
        (
            "every block has the first one's multiplier",
            "f.multiplier = (const float *)in[3] + at;",
            "f.multiplier = (const float *)in[3];",
        ),
        (
            "a block has one entry less",
            "k->end = distance + lists[block + 1];",
            "k->end = distance + lists[block + 1] - (lists[block + 1] > lists[block]);",
        ),
        (
            "entries start with the next block's",
            "k->entry = distance + lists[block];",
            "k->entry = distance + lists[block] + (block > 0 && lists[block] < lists[block + 1]);",
        ),
        (
            "weights start right behind the distances",
            "head = (blocks + 1 + lists[blocks] + 15) / 16 * 16;",
            "head = blocks + 1 + lists[blocks];",
        ),
        ("every block has the first one's weights", "(lists + head) + 64 * (int64_t)lists[block];", "(lists + head);"),
        (
            "the second group reads from the first",
            "at1 + (i - half) * pixel), weight);",
            "at0 + (i - half) * pixel), weight);",
        ),
        (
            "entries that are left over keep their weights",
            "for (; entry < k->end; entry++, w += 64)\n        acc[0]",
            "for (; entry < k->end; entry++)\n        acc[0]",
        ),
        (
            "a single pixel drops the last entries",
            "for (; entry < k->end; entry++, w += 64)\n        acc[0]",
            "for (; entry + 1 < k->end; entry++, w += 64)\n        acc[0]",
        ),
        ("a single pixel drops a sum", "pj_acc_add(acc[2], acc[3])), k->bias);", "acc[2]), k->bias);"),
    ),
    "simd/v_sparse_blocks.c": (
        ("codes are staged as they are", "scratch, PJ_STAGES_CODES, PJ_HALF,", "scratch, !PJ_STAGES_CODES, PJ_HALF,"),
        ("tiles are larger than any that there is", "PJ_HALF, PJ_GROUPS,", "PJ_HALF + 2, PJ_GROUPS,"),
        ("the lists are the bias", "in, in[1], out,", "in, in[2], out,"),
    ),
}
